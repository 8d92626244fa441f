"""Overlapping squares in which small faces are large enough for the short-range detector."""

from __future__ import annotations

import math
from collections.abc import Iterator

from emo_rt.faces.align import Square

SMALLEST_TILE = 240.0
"""Pixels: no smaller tiles, so faces of some 24 pixels are the smallest that are found."""


def tiles(width: int, height: int) -> Iterator[Square]:
    """Upright squares with half, a quarter, … of the picture's longer side, each half over its neighbour."""
    side = max(width, height) / 2
    while side >= SMALLEST_TILE:
        for y in _middles(height, side):
            for x in _middles(width, side):
                yield Square(x, y, side)
        side /= 2


def _middles(length: int, side: float) -> list[float]:
    """Centres of tiles along one side of the picture; a single one where the tile is longer."""
    if length <= side:
        return [length / 2]
    gaps = math.ceil((length - side) / (side / 2))
    return [side / 2 + gap * (length - side) / gaps for gap in range(gaps + 1)]
