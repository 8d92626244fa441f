"""The 478 points of a face: 468 of Google's face mesh, then five of each iris."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emo_rt.faces.align import Pixels, Points, Square
from emo_rt.faces.detector import Detection
from emo_rt.faces.networks import Network

SIDE = 256
"""Pixels of the network's picture."""
POINTS = 478
ROOM = 1.5
"""The crop's side, in longer sides of the box around the face."""
EYE_CORNERS = (33, 263)
"""Outer corners of the person's right and left eye: the line that the next crop of a video is turned by."""
MIN_PRESENCE = 0.5
"""Least probability that the crop shows a face."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the network says of one crop."""

    points: Points
    """(478, 3): x and y in pixels of the picture; z in the same unit, smaller is nearer, 0 at the head's middle."""
    presence: float
    """Probability that this is a face, 0 … 1."""
    crop: Square
    """Where it was looked for."""

    @property
    def corners(self) -> Points:
        """(2, 2): left and top, right and bottom of all points."""
        flat = self.points[:, :2]
        return np.stack([flat.min(axis=0), flat.max(axis=0)])


def crop_of_detection(found: Detection) -> Square:
    """Where to look for the landmarks of a detected face: turned so that its eyes are level."""
    return _crop(found.corners, found.key_points[0], found.key_points[1])


def crop_of_landmarks(points: Points) -> Square:
    """Where to look for them in the next frame of a video."""
    flat = points[:, :2]
    return _crop(np.stack([flat.min(axis=0), flat.max(axis=0)]), *flat[list(EYE_CORNERS)])


def _crop(corners: Points, right_eye: Points, left_eye: Points) -> Square:
    x, y = corners.mean(axis=0)
    across, down = left_eye - right_eye
    return Square(float(x), float(y), float(ROOM * np.ptp(corners, axis=0).max()), math.atan2(down, across))


def read_landmarks(network: Network, picture: Pixels, crop: Square) -> Landmarks:
    """The points of the face in that square. ``network``: the one called ``landmarks``."""
    outputs = network((crop.sample(picture, SIDE) / 255)[None].astype(np.float32))
    logit = float(outputs["presence"].reshape(()))
    points = outputs["points"].reshape(POINTS, 3).astype(np.float64) / SIDE
    return Landmarks(crop.outward(points), 1 / (1 + math.exp(-max(logit, -700.0))), crop)


def depth_stretch(crop: Square, width: int, height: int) -> float:
    """By what Google's runtime multiplies z besides: it measures the crop's upper side in shares of width and height,
    so that a tilted face in a picture that is no square gets another depth. 1 for level faces and square pictures."""
    return math.hypot(math.cos(crop.turn), math.sin(crop.turn) * width / height)
