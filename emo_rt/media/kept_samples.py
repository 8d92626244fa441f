"""The part of a sound that may be heard again, while the sound is still coming."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class KeptSamples:
    """Samples by their number in the whole sound. What is pushed costs its own length, however much waits."""

    def __init__(self) -> None:
        self._blocks: deque[Floats] = deque()
        self._first = 0
        self.received = 0
        """Samples that were pushed in all."""

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return sum(_whole(block).nbytes for block in self._blocks)

    def push(self, block: Floats) -> None:
        """(n,) more; copied."""
        if len(block):
            self._blocks.append(np.array(block, np.float32))
            self.received += len(block)

    def between(self, start: int, stop: int) -> Floats:
        """Samples ``start`` … ``stop``, as far as they have come; none of them may be forgotten."""
        assert start >= self._first, "forgotten"
        parts, at = [np.zeros(0, np.float32)], self._first
        for block in self._blocks:
            if at >= stop:
                break
            parts.append(block[max(start - at, 0) : stop - at])
            at += len(block)
        return np.concatenate(parts)

    def forget(self, start: int) -> None:
        """Samples before ``start`` will not be asked for again."""
        while self._blocks and self._first + len(self._blocks[0]) <= start:
            self._first += len(self._blocks.popleft())
        if self._blocks and self._first < start:
            rest = self._blocks[0][start - self._first :]
            # A view keeps all of its block: it is copied as soon as that is worth it.
            self._blocks[0] = rest.copy() if 2 * rest.nbytes < _whole(rest).nbytes else rest
        self._first = max(self._first, start)


def _whole(block: Floats) -> Floats:
    return block.base if isinstance(block.base, np.ndarray) else block
