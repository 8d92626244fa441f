"""A face in a picture: what the built-in networks say of it, and what a detector of one's own must give.

A face box reaches from the upper forehead to the chin and from cheek to cheek, ears and hair left out: the extent of
MediaPipe's face mesh, with which EMO and Hallo made the face masks of their training data. Detectors of one's own
should return boxes with this meaning, because :mod:`emo_rt.media.framing` builds on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import PortraitError
from emo_rt.media.box import Box

MIN_FACE = 8
"""Smallest width and height of a face box that is given, in pixels."""
OVERRIDE = "give the face's place with face_box / --face-box left,top,right,bottom (pixels), or 'full'"
"""What a user can do when no face was found or nothing can look for it; part of the error messages."""


@dataclass(frozen=True)
class HeadPose:
    """Angles in degrees; all 0 for a face that looks straight into the camera."""

    yaw: float
    """Turned towards the right edge of the picture; −90 … 90."""
    pitch: float
    """Turned upwards; −180 … 180."""
    roll: float
    """Tilted clockwise in the picture; −180 … 180."""

    @property
    def away(self) -> float:
        """Angle between the direction in which the face looks and the camera, 0 … 180."""
        cosine = math.cos(math.radians(self.yaw)) * math.cos(math.radians(self.pitch))
        return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


@dataclass(frozen=True, eq=False)
class Face:
    """One face. Left and right are the person's, in names of landmarks and blendshapes."""

    box: Box
    """Extent of the face mesh: from the upper forehead to the chin, from cheek to cheek; pixels of the picture."""
    score: float
    """Probability that this is a face, 0 … 1."""
    landmarks: NDArray[np.float64]
    """(478, 3): Google's face mesh and irises. x and y in pixels of the picture; z as Google scales it, in pixels
    too, negative towards the camera."""
    blendshapes: Mapping[str, float]
    """Coefficients 0 … 1 by ARKit's names, like ``jawOpen``; ``_neutral`` first."""
    pose: HeadPose
    """Where the head is turned."""

    def scaled(self, across: float, down: float) -> Face:
        """The same face in a picture that is ``across`` times as wide and ``down`` times as high."""
        landmarks = self.landmarks * (across, down, across)
        return replace(self, box=self.box.scaled(across, down), landmarks=landmarks)


class FaceDetector(Protocol):
    """What :func:`emo_rt.media.framing.prepare_portrait` needs in order to find faces."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Box]:
        """Face boxes (upper forehead to chin, cheek to cheek), best first, in pixels of ``picture``.

        ``picture``: (H, W, 3) uint8 RGB. No face gives an empty list.
        """
        ...


def given_face(width: int, height: int, box: Box) -> Box:
    """The part of a given box inside a picture of that size.

    Raises :class:`PortraitError` if it has less than 8x8 pixels there.
    """
    left, top, right, bottom = max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height)
    if min(right - left, bottom - top) < MIN_FACE:
        raise PortraitError(
            f"face box {box} has less than {MIN_FACE}x{MIN_FACE} pixels inside the picture of {width}x{height}; "
            "expected left,top,right,bottom in pixels of the upright picture"
        )
    return Box(left, top, right, bottom)
