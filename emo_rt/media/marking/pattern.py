"""The watermark's pattern: 64 × 64 cells of noise that a key chooses, repeated over the picture.

A quarter of the cells, the pilot, is the same for all payloads: it is looked for. The others carry the coded payload,
16 cells a bit. A cell is a 64th of the picture's side (of the square of its area), so the pattern scales with the
picture. Frequencies with periods over some eight cells are left out: an eye sees them as well as the others, but there
a picture itself is too strong for the mark to be found.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.media.marking.code import CODED_BITS, encode

CELLS = 64
"""Cells along a side of the tile, and of a square picture."""
PILOT = CELLS * CELLS // 4
"""Cells of the pilot."""
DENSITY = 4
"""Samples per cell, along a side, of the pattern before it is laid over a picture."""
BLUR = 5
"""Radius of the mean that is taken off, in samples: 1.25 cells. Measured, as what is found best after H.264."""
PEAK = 15
"""Largest value of the pattern in a picture: 1.5 of its standard deviations, to which it is clipped."""
PUBLIC_KEY = "emo_rt"
"""Of whoever names none: everybody can read those marks."""

Real = NDArray[np.float32]


class Pattern:
    """The cells of one key."""

    def __init__(self, key: str = PUBLIC_KEY) -> None:
        """``key``: any text. Not the text but its hash makes the pattern, so that it is the same everywhere."""
        count = CELLS * CELLS
        noise = hashlib.shake_256(b"emo_rt watermark 1\0" + key.encode()).digest(5 * count)
        signs = np.frombuffer(noise[:count], np.uint8) & 1
        order = np.argsort(np.frombuffer(noise[count:], "<u4"), kind="stable").reshape(CELLS, CELLS)
        self.signs = (1.0 - 2.0 * signs).astype(np.float32).reshape(CELLS, CELLS)
        """(64, 64) of -1 and 1."""
        self.bits: NDArray[np.int64] = np.where(order < PILOT, -1, (order - PILOT) % CODED_BITS)
        """(64, 64): which coded bit a cell carries; -1 = it is of the pilot."""

    @property
    def pilot(self) -> Real:
        """(64, 64): the cells of the pilot, zeros elsewhere."""
        return np.where(self.bits < 0, self.signs, np.float32(0))

    def tile(self, payload: int) -> Real:
        """(64, 64) of -1 and 1: all cells."""
        coded = encode(payload).astype(np.float32)
        return self.signs * np.where(self.bits < 0, np.float32(1), coded[self.bits])


def laid_over(tile: Real, height: int, width: int) -> NDArray[np.int8]:
    """(64, 64) cells → (height, width), -15 … 15: the mark of a picture of that size."""
    wave = shaped(tile)
    wave = np.clip(wave / wave.std(), -1.5, 1.5)
    step = DENSITY * CELLS / math.sqrt(height * width)  # samples per pixel
    repeats = (math.ceil(height * step / wave.shape[0]) + 2, math.ceil(width * step / wave.shape[1]) + 2)
    image = Image.fromarray(np.tile(wave, repeats))
    start = float(len(wave))  # a whole tile inside, where no edge is near
    place = (step, 0.0, start, 0.0, step, start)
    sampled = np.asarray(image.transform((width, height), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC))
    return np.clip(np.rint(sampled * (PEAK / 1.5)), -PEAK, PEAK).astype(np.int8)


def shaped(tile: Real) -> Real:
    """(64, 64) cells → (256, 256) float32, periodic: smooth from cell to cell, without its low frequencies."""
    side = DENSITY * CELLS
    image = Image.fromarray(np.tile(tile, (3, 3)))
    box = (CELLS, CELLS, 2 * CELLS, 2 * CELLS)
    wave: Real = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
    low = wave
    for axis in (0, 1):
        low = np.mean([np.roll(low, by, axis) for by in range(-BLUR, BLUR + 1)], axis=0, dtype=np.float32)
    return wave - low


@cache
def pulse() -> Real:
    """(128, 128) float32: what one cell, the first, becomes, at two samples per cell."""
    tile = np.zeros((CELLS, CELLS), np.float32)
    tile[0, 0] = 1
    half = CELLS * 2
    wave: Real = shaped(tile).reshape(half, 2, half, 2).mean(axis=(1, 3))
    return wave
