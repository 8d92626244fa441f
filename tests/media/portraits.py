"""Pictures and portraits that the tests of framing and pasting share."""

from __future__ import annotations

import numpy as np

from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait, prepare_portrait


def waves(width: int, height: int) -> np.ndarray:
    """A smooth picture, which survives resizing nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(x / 17 + k) * np.cos(y / 23 + k) for k in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def outside(portrait: Portrait) -> np.ndarray:
    """(H, W): the pixels that the square does not touch."""
    crop = portrait.crop
    keep = np.ones(portrait.picture.shape[:2], bool)
    keep[max(int(crop.top), 0) : int(crop.bottom), max(int(crop.left), 0) : int(crop.right)] = False
    return keep


def framed(width: int = 400, height: int = 300, size: int = 128) -> Portrait:
    return prepare_portrait(waves(width, height), size, face_box=Box(180, 120, 240, 200))
