"""A face in a picture, with all that the built-in networks say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emo_rt.faces.align import Points
from emo_rt.faces.pose import HeadPose
from emo_rt.media.face import Box

MESH_POINTS = 468
"""Landmarks of the skin; those of the irises follow."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face. Left and right are the person's, in names of landmarks and blendshapes."""

    box: Box
    """Extent of the face mesh: from the upper forehead to the chin, from cheek to cheek; pixels of the picture."""
    score: float
    """Probability that this is a face, 0 … 1."""
    landmarks: Points
    """(478, 3) float64: Google's face mesh and irises. x and y in pixels of the picture; z as Google scales it, in
    pixels too, negative towards the camera."""
    blendshapes: Mapping[str, float]
    """Coefficients 0 … 1 by ARKit's names, like ``jawOpen``; ``_neutral`` first."""
    pose: HeadPose
    """Where the head is turned."""


def mesh_box(points: Points) -> Box:
    """Extent of the 468 points of the skin."""
    skin = points[:MESH_POINTS, :2]
    (left, top), (right, bottom) = skin.min(axis=0).tolist(), skin.max(axis=0).tolist()
    return Box(left, top, right, bottom)
