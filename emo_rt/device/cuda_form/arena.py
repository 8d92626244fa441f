"""The pool from which ONNX Runtime takes device memory, reckoned without a device.

The rules are those of ONNX Runtime's ``BFCArena`` with ``kSameAsRequested``: the smallest free piece that is large
enough, split where at least half of it would be left; else new memory of just that size, which is never given back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

GRAIN = 256
"""Sizes are multiples of this many bytes (``kMinAllocationSize``)."""
MOST_WASTE = 128 << 20
"""A piece that would leave as much is always split (``kDefaultMaxDeadBytesPerChunk``)."""


@dataclass(frozen=True, order=True)
class Piece:
    """Some memory of the pool."""

    size: int
    """Bytes."""
    region: int
    """Which piece of the device's memory it lies in."""
    start: int
    """First byte in it."""


class Arena:
    """Takes and gives back pieces; :attr:`nbytes` is what the device has lent it."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._regions = 0
        self._free: list[Piece] = []

    def take(self, nbytes: int) -> Piece:
        """A piece of at least that size."""
        size = -(-max(nbytes, 1) // GRAIN) * GRAIN
        index = bisect_left(self._free, Piece(size, 0, 0))
        if index == len(self._free):
            self.nbytes += size
            self._regions += 1
            return Piece(size, self._regions, 0)
        piece = self._free.pop(index)
        left = piece.size - size
        if left < size and left < MOST_WASTE:
            return piece
        insort(self._free, Piece(left, piece.region, piece.start + size))
        return Piece(size, piece.region, piece.start)

    def give(self, piece: Piece) -> None:
        """Put a piece back; it grows together with its neighbours."""
        for other in [one for one in self._free if one.region == piece.region]:
            if other.start + other.size == piece.start or piece.start + piece.size == other.start:
                self._free.remove(other)
                piece = Piece(piece.size + other.size, piece.region, min(piece.start, other.start))
        insort(self._free, piece)
