"""A small label that a viewer can read, drawn into the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]

TEXT = "AI-generated"
SHOWN_S, EVERY_S = 3, 30
"""Seconds that it is shown, from the start and then each time so much later."""
HEIGHT = 0.045
"""Of the letters, as a share of the picture's shorter side."""
LEAST_HEIGHT = 9
"""Pixels of a letter that can still be read."""
MARGIN = 0.5
"""Around the text, in heights of a letter; as much as that to the edge of the picture."""
SHADE = 0.55
"""How much of the picture the dark field behind the letters takes away."""


class Label:
    """Of one frame rate. Safe to share between threads."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._drawn: tuple[tuple[int, int], NDArray[np.float32]] | None = None

    def is_shown(self, index: int) -> bool:
        """Whether frame ``index`` has it."""
        return index / self._fps % EVERY_S < SHOWN_S

    def __call__(self, frames: Frames, start_index: int) -> Frames:
        """(n, H, W, 3) uint8 RGB, of which the first is frame ``start_index`` → labelled: a new array, or the same."""
        shown = [place for place in range(len(frames)) if self.is_shown(start_index + place)]
        if not shown:
            return frames
        height, width = frames.shape[1:3]
        light = self._letters(height, width)
        rows, columns = light.shape[:2]
        bottom, left = height - min(rows // 3, height - rows), min(rows // 3, width - columns)
        place = (slice(bottom - rows, bottom), slice(left, left + columns))
        labelled = frames.copy()
        for index in shown:
            field = labelled[index][place]
            field[:] = np.rint(field * (1 - SHADE) * (1 - light) + 255 * light)
        return labelled

    def _letters(self, height: int, width: int) -> NDArray[np.float32]:
        """(h, w, 1), 0 … 1: the letters in their field, which fits into the picture. Kept for the next frames."""
        if self._drawn is None or self._drawn[0] != (height, width):
            self._drawn = ((height, width), _letters(height, width))
        return self._drawn[1]


def _letters(height: int, width: int) -> NDArray[np.float32]:
    size = max(LEAST_HEIGHT, round(HEIGHT * min(height, width)))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(TEXT)
    margin = round(MARGIN * size)
    field = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(field).text((margin - left, margin - top), TEXT, fill=255, font=font)
    field.thumbnail((width, height))
    return np.asarray(field, np.float32)[..., None] / np.float32(255)
