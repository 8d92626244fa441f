"""Overlapping squares in which small faces are large enough for the short-range detector."""

from __future__ import annotations

import math
from collections.abc import Iterator

from emo_rt.faces.align import Square

SMALLEST_TILE = 240.0
"""Pixels: no smaller tiles, so faces of some 24 pixels are the smallest that are found, in the best case."""
MOST_LEVELS = 4
"""Sizes of tiles at most: a sixteenth of the picture is the smallest. A whole search is some 1,200 tiles then, 2 s."""


def levels(width: int, height: int) -> Iterator[list[Square]]:
    """Upright squares that cover a picture: first with half of its longer side, then with a quarter, and so on.

    Each lies half over its neighbour, so that a face of up to half a tile is whole in one of them.
    """
    longer = max(width, height)
    for level in range(1, MOST_LEVELS + 1):
        side = max(longer / 2, min(SMALLEST_TILE, longer)) if level == 1 else longer / 2**level
        if side < SMALLEST_TILE or side >= longer:
            return
        yield [Square(x, y, side) for y in _middles(height, side) for x in _middles(width, side)]


def _middles(length: int, side: float) -> list[float]:
    """Centres of tiles along one side of the picture; a single one where the tile is longer."""
    if length <= side:
        return [length / 2]
    gaps = math.ceil((length - side) / (side / 2))
    return [side / 2 + gap * (length - side) / gaps for gap in range(gaps + 1)]
