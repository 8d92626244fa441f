"""The sound of a video that is being written, in pieces as long as the pictures ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from emo_rt.media.audio import AudioSource
from emo_rt.media.samples import Samples


class Soundtrack(Protocol):
    """What is encoded beside the pictures."""

    sample_rate: int
    """In Hz."""
    channels: int
    """How many."""

    def read(self, count: int) -> Samples:
        """The next (n, channels) float32, n ≤ ``count``; n = 0 where there is no more, or none yet."""
        ...

    def close(self) -> None:
        """Let go of what it reads from. Safe twice."""
        ...


class SourceTrack:
    """The sound of a file or an array, read as the pictures come."""

    def __init__(self, source: AudioSource) -> None:
        self.sample_rate, self.channels = source.sample_rate, source.channels
        self._blocks: Iterator[Samples] = source.blocks()
        self._rest = np.zeros((0, source.channels), np.float32)

    def read(self, count: int) -> Samples:
        """See :class:`Soundtrack`. What reading the source raises passes through."""
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest = block
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece

    def close(self) -> None:
        """Close the file, if the source holds one for this pass."""
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()


class PushedTrack:
    """Mono sound that somebody pushes. What the pictures have not reached yet waits in memory."""

    channels = 1

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.received = 0
        """Samples so far."""
        self._waiting = deque[Samples]()

    def push(self, pcm: Samples) -> None:
        """(n,) float32. Copied: the caller's array may change."""
        self.received += len(pcm)
        if len(pcm):
            self._waiting.append(pcm[:, None].copy())

    def read(self, count: int) -> Samples:
        """See :class:`Soundtrack`."""
        if not self._waiting:
            return np.zeros((0, 1), np.float32)
        first = self._waiting.popleft()
        if len(first) > count:
            self._waiting.appendleft(first[count:])
        return first[:count]

    def close(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
