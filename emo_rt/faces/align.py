"""Turned squares of a picture, and how the face networks' inputs are sampled from them.

Sampling follows Google's runtime, which uses OpenCV's ``warpPerspective``, because landmarks depend on it: the four
neighbours of a place are mixed in whole numbers, without averaging however much the picture shrinks; pixel i of the
output lies at i · scale of the square (no half pixel); what is outside of the picture is black. An anti-aliased resize
moves the landmarks of a large photograph by 1.5 % of the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import PortraitError

Points = NDArray[np.float64]
"""(n, 2) or (n, 3): x and y, and perhaps z, in pixels of the picture."""
Whole = NDArray[np.int32]


@dataclass(frozen=True)
class Square:
    """A square in a picture, turned around its centre."""

    x: float
    """Centre, in pixels from the left edge."""
    y: float
    """Centre, in pixels from the top edge."""
    side: float
    """Pixels."""
    turn: float = 0.0
    """Clockwise, in radians: the direction of its upper side, from left to right."""

    @classmethod
    def letterbox(cls, width: int, height: int) -> Square:
        """The smallest upright one around a whole picture. Its corner is not rounded to pixels."""
        return cls(width / 2, height / 2, max(width, height))

    def outward(self, points: Points) -> Points:
        """From shares of the square, 0 … 1, to pixels of the picture; z grows with the side alone."""
        cosine, sine = math.cos(self.turn) * self.side, math.sin(self.turn) * self.side
        right, down = points[:, 0] - 0.5, points[:, 1] - 0.5
        x = self.x + cosine * right - sine * down
        y = self.y + sine * right + cosine * down
        return np.column_stack([x, y, points[:, 2:] * self.side])

    def sample(self, picture: Pixels, size: int) -> NDArray[np.float32]:
        """The square as (size, size, 3), values 0 … 255, whole numbers as a resized 8-bit picture has them."""
        places = np.arange(size) / size
        if self.turn == 0:
            corner = self.outward(np.zeros((1, 2)))[0]
            columns, rows = (corner[0] + places * self.side)[None], (corner[1] + places * self.side)[:, None]
        else:
            grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
            columns, rows = self.outward(grid).T.reshape(2, size, size)
        return picture.at(columns, rows)


FRACTION_BITS = 5
"""Places between pixels are rounded to a 32nd, as OpenCV rounds them. Exact ones move landmarks by 0.2 % of a face."""


class Pixels:
    """A picture made ready for sampling."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        """``picture``: (H, W, 3) uint8 RGB. Raises :class:`PortraitError` for anything else."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise PortraitError(
                f"the picture is {picture.dtype} of shape {picture.shape}; expected uint8 (H, W, 3), RGB"
            )
        self.height, self.width = picture.shape[:2]
        padded = np.zeros((self.height, self.width, 4), np.uint8)
        padded[..., :3] = picture
        self._words = padded.view(np.uint32).reshape(-1)  # a pixel is one word: four times as fast to look up

    def at(self, columns: Points, rows: Points) -> NDArray[np.float32]:
        """At fractional places, 0 outside: (h, w, 3) whole numbers for places that broadcast to (h, w)."""
        steps = 1 << FRACTION_BITS
        x, y = (np.rint(places * steps).astype(np.int32) for places in (columns, rows))
        left, top = x >> FRACTION_BITS, y >> FRACTION_BITS
        right_share, lower_share = x & (steps - 1), y & (steps - 1)
        total = self._weighed(left, top, (steps - right_share) * (steps - lower_share))
        total += self._weighed(left + 1, top, right_share * (steps - lower_share))
        total += self._weighed(left, top + 1, (steps - right_share) * lower_share)
        total += self._weighed(left + 1, top + 1, right_share * lower_share)
        half = 1 << (2 * FRACTION_BITS - 1)
        return ((total + half) >> (2 * FRACTION_BITS)).astype(np.float32)

    def _weighed(self, x: Whole, y: Whole, weights: Whole) -> Whole:
        """Whole pixels times their weights, (h, w, 3)."""
        inside = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        places = np.clip(y, 0, self.height - 1) * self.width + np.clip(x, 0, self.width - 1)
        found = self._words.take(places).view(np.uint8).reshape(*places.shape, 4)[..., :3]
        weighed: Whole = found * (weights * inside)[..., None]
        return weighed
