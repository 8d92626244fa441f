"""A face as recognition networks are trained to see it: turned, scaled and moved until its points are in their places.

As InsightFace's ``norm_crop``, which uses OpenCV's ``warpAffine``: coordinates count from the middle of the first
pixel, places between pixels are looked up bilinearly, values are rounded, and outside of the picture it is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.errors import InputError
from emo_rt.media.box import Box

Points = NDArray[Any]
"""(n, 2): x and y in pixels."""
Pixels = NDArray[np.uint8]

ARCFACE_SIZE = 112
"""Side of the aligned face that face recognition takes, in pixels."""
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where both eyes, the tip of the nose and both corners of the mouth belong in it (InsightFace)."""
ARCFACE_FACE_HEIGHT, ARCFACE_FACE_CENTRE = 96.0, 56 + 69j
"""Where a face box belongs in it: the mean of five upright faces with boxes of the face mesh, to some 3 pixels."""
FIVE_POINTS = ((33, 133), (263, 362), (1,), (61,), (291,))
"""Points of MediaPipe's face mesh whose means are those of :data:`ARCFACE_TEMPLATE`; of the eyes, both corners."""
MIDDLE = 0.5 + 0.5j
"""Of a pixel, counted from its corner: boxes and Pillow count from there, points from the middle of the first pixel."""
LEAST_SPREAD = 1.0
"""Sum of the squared distances to the points' mean, in pixels, below which they are one point."""


@dataclass(frozen=True)
class Similarity:
    """A place x + iy in a picture → ``turn · (x + iy) + shift``, its place in another."""

    turn: complex
    """Rotation and scale."""
    shift: complex
    """In pixels of the other."""

    @classmethod
    def of_points(cls, points: Points, template: Points) -> Similarity:
        """The one that brings points nearest to their places, by least squares (Umeyama 1991 without mirroring).

        Raises :class:`InputError` where all points are in one place.
        """
        here, there = points @ (1, 1j), template @ (1, 1j)
        spread = here - here.mean()
        size = float(np.vdot(spread, spread).real)
        if size < LEAST_SPREAD:
            raise InputError("eyes, nose and mouth of the landmarks are all in one place; expected those of a face")
        turn = complex(np.vdot(spread, there - there.mean()) / size)
        return cls(turn, complex(there.mean() - turn * here.mean()))

    @classmethod
    def of_box(cls, face: Box) -> Similarity:
        """An approximation for ArcFace where only the face's box is known: scaled and moved, not turned."""
        turn = complex(ARCFACE_FACE_HEIGHT / face.height)
        return cls(turn, ARCFACE_FACE_CENTRE - MIDDLE - turn * (complex(*face.centre) - MIDDLE))

    def crop(self, frame: Pixels, side: int, *, averaged: bool = False) -> Pixels:
        """(H, W, 3) → (side, side, 3).

        ``averaged``: large faces are averaged down first, as dlib does; the bilinear look-up alone, which is
        InsightFace's, skips pixels.
        """
        image, factor = Image.fromarray(frame), max(1, int(1 / max(abs(self.turn), 1e-6))) if averaged else 1
        if factor > 1:
            image = image.reduce(factor)
        back = 1 / (self.turn * factor)  # Pillow wants the way back
        start = (MIDDLE - (MIDDLE + self.shift) / self.turn) / factor
        way = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
        looked = [  # as floats: of bytes, Pillow cuts off what is after the point, half a level on average
            channel.convert("F").transform((side, side), Image.Transform.AFFINE, way, Image.Resampling.BILINEAR)
            for channel in image.split()
        ]
        return np.stack([np.asarray(one) for one in looked], axis=-1).round().astype(np.uint8)


def five_points(landmarks: Points) -> NDArray[np.float64]:
    """(468 or 478, 2 or 3) → (5, 2): eyes, tip of the nose, corners of the mouth."""
    return np.array([landmarks[list(group), :2].mean(axis=0) for group in FIVE_POINTS], np.float64)


__all__ = ["ARCFACE_SIZE", "ARCFACE_TEMPLATE", "FIVE_POINTS", "Similarity", "five_points"]
