"""What a face locator is told in training: from a box that fits to an all-white mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FITS, LOOSE = 0.55, 0.25
"""How often a mask is drawn as the head goes, and how often larger or smaller; the rest is white."""
FREE = 0.06
"""A head that goes at least so far, share of the picture, counts as free: white masks are mostly drawn for those."""


def draw_mask(rng: np.random.Generator, face_box: Floats, size: int) -> Floats:
    """A mask for a clip with face boxes (T, 4), shares of the side: (1, 1, size, size), 1 where the face may be.

    Mostly the union of the boxes, so that a mask tells how far the head goes and where; sometimes a little larger or
    smaller, because a detector's boxes are. Clips whose head goes far often have a white one, others seldom: white
    stands for a head that is free, not for one that is held.
    """
    least, most = face_box[:, :2].min(axis=0), face_box[:, 2:].max(axis=0)
    chance = rng.random()
    slack = rng.uniform(-0.03, 0.08, 2) * (most - least) * (chance >= FITS)
    white = rng.random() < (0.8 if travel(face_box) >= FREE else 0.25)
    if chance >= FITS + LOOSE and white:
        return np.ones((1, 1, size, size), np.float32)
    return box_mask(np.concatenate([least - slack, most + slack]), size)


def box_mask(box: NDArray[np.floating], size: int) -> Floats:
    """White inside a box (4,) left, top, right, bottom in shares of the side, black outside: (1, 1, size, size)."""
    mask = np.zeros((1, 1, size, size), np.float32)
    left, top = np.maximum(np.floor(box[:2] * size).astype(int), 0)
    right, bottom = np.maximum(np.ceil(box[2:] * size).astype(int), 1)
    mask[:, :, top:bottom, left:right] = 1
    return mask


def travel(face_box: Floats) -> float:
    """How far the middle of a clip's boxes (T, 4) goes, across or down, share of the side."""
    middles = (face_box[:, :2] + face_box[:, 2:]) / 2
    return float(np.ptp(middles, axis=0).max())
