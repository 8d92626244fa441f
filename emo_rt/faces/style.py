"""Whether a face is drawn or photographed: drawings are flat, photographs are not."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.errors import PortraitError
from emo_rt.media.box import Box

Style: TypeAlias = Literal["drawings", "photographs"]
"""What a model was trained on, and what a picture is one of."""

SIDE = 96
"""The face is looked at in this size, in pixels: grain and traces of JPEG are averaged away."""
FLAT = 1.0
"""Steps of grey (of 255) to the right and down, together, below which a place is flat."""
SMALLEST = 48
"""Pixels: a smaller face has too few flat places to tell."""
DRAWN, PHOTOGRAPHED = 0.35, 0.12
"""Share of flat places: above the first it is a drawing (flat ones have 0.5 to 0.8), below the second a photograph
(0.01 to 0.08). In between, and that is where soft drawings and blurred photographs are, nothing is said."""


def style_of(picture: NDArray[np.uint8], face: Box) -> Style | None:
    """What the face looks like, or ``None`` where that is not sure. ``picture``: (H, W, 3) uint8 RGB."""
    if min(face.width, face.height) < SMALLEST:
        return None
    share = flatness(picture, face)
    if share > DRAWN:
        return "drawings"
    return "photographs" if share < PHOTOGRAPHED else None


def flatness(picture: NDArray[np.uint8], face: Box) -> float:
    """Share of flat places in the face, 0 … 1."""
    height, width = picture.shape[:2]
    inside = face.clipped(width, height)
    grey = Image.fromarray(picture).convert("L")
    box = (inside.left, inside.top, inside.right, inside.bottom)
    side = max(2, min(SIDE, int(inside.width), int(inside.height)))  # enlarging would repeat pixels: flat places
    small = np.asarray(grey.resize((side, side), Image.Resampling.BOX, box=box), np.int64)
    steps = np.abs(np.diff(small, axis=1))[:-1] + np.abs(np.diff(small, axis=0))[:, :-1]
    return float((steps < FLAT).mean())


def mismatch(trained_on: Style | None, picture: NDArray[np.uint8], face: Box, model: str) -> str | None:
    """What to say where the model knows the other kind of picture; ``None`` where nothing is wrong or known."""
    if trained_on is None:
        return None
    try:
        seen = style_of(picture, face)
    except PortraitError:  # the face lies outside of the picture: others say so
        return None
    if seen is None or seen == trained_on:
        return None
    return (
        f"the model {model} was trained on {trained_on}, and the picture looks like one of {seen}: "
        "expect a poor likeness, or bring a model for such pictures"
    )
