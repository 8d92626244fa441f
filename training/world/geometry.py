"""Curves, and the 2.5-D head that every part of a face is drawn on.

Units: half a head width is about 1. x grows to the right, y down, z towards the viewer. The origin lies between the
eyes and the nose of a head at rest. Points are float64 arrays, (N, 2) or (N, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from training.world.identity import FaceShape
    from training.world.pose import Pose

Points = NDArray[np.float64]
PointsLike = Sequence[Sequence[float]] | NDArray[Any]

FACE_DEPTH = 0.68
"""How far the middle of the face stands out in front of the ears."""
PIVOT_Z = -0.14
"""The head turns about an axis behind the ears."""
PIVOT_Y = 0.95
"""The head tilts about the top of the neck."""
SKULL_CENTRE_Y = 0.0
SKULL_HEIGHT = 1.2
RIM_DEPTH = -0.12
"""Depth of the skull's outline: it drifts a little against the turn."""
CHIN_DEPTH = 0.42
BODY_RISE = 0.22
"""Shoulders are drawn this much higher than their own numbers say."""
JAW_DROP = 0.24
"""How far the chin goes down when the jaw is wide open."""
BODY_FOLLOWS = (0.55, 0.15)
"""How much of the head's shift the shoulders share, across and down."""


@lru_cache(maxsize=256)
def _spline_matrix(count: int, closed: bool, steps: int) -> Points:
    """Catmull-Rom weights: (samples, count). The curve passes through every control point."""
    spans = count if closed else count - 1
    rows = []
    for span in range(spans):
        for t in np.arange(steps) / steps:
            rows.append(_spline_row(count, closed, span, float(t)))
    if not closed:
        rows.append(_spline_row(count, closed, spans - 1, 1.0))
    return np.array(rows)


def _spline_row(count: int, closed: bool, span: int, t: float) -> Points:
    weights = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    row = np.zeros(count)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = span + offset
        row[index % count if closed else min(max(index, 0), count - 1)] += weight
    return row


def smooth(points: PointsLike, closed: bool = True, steps: int = 5) -> Points:
    """A smooth curve through control points: (N, D) -> (about N * steps, D)."""
    array = np.asarray(points, dtype=np.float64)
    return _spline_matrix(len(array), closed, steps) @ array


@lru_cache(maxsize=8)
def _circle(count: int) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, count: int = 28) -> Points:
    """An axis-aligned ellipse: (count, 2)."""
    return _circle(count) * (rx, ry) + (x, y)


def mirror(points: PointsLike) -> Points:
    """The same points on the other side of the face, in reverse order: (N, 2)."""
    return (np.asarray(points, dtype=np.float64) * (-1, 1))[::-1]


def both_sides(right: PointsLike) -> Points:
    """Left then right: a symmetric open curve from its right half. A point at x = 0 comes first and is not doubled."""
    half = np.asarray(right, dtype=np.float64)
    skip = 1 if abs(half[0, 0]) < 1e-9 else 0
    return np.concatenate([mirror(half[skip:]), half])


def jitter(points: Points, waves: float, size: float, phase: float = 0.0) -> Points:
    """Push a curve's points in and out along its normal in even bumps: curls, (N, 2)."""
    tangent = np.gradient(points, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    along = np.linspace(0, np.pi * waves, len(points)) + phase
    return points + normal * (np.abs(np.sin(along)) * size)[:, None]


class HeadFrame:
    """Places the parts of one head, in one pose, on the stage. Every method returns (N, 2)."""

    def __init__(self, face: FaceShape, pose: Pose) -> None:
        self.face = face
        self.pose = pose
        self.sin_yaw, self.cos_yaw = float(np.sin(pose.yaw)), float(np.cos(pose.yaw))
        self.sin_pitch, self.cos_pitch = float(np.sin(pose.pitch)), float(np.cos(pose.pitch))
        self.jaw_drop = JAW_DROP * pose.lip_gap
        self._roll = _rotation(pose.roll)
        self._rim = self._project_rim(face.outline(self.jaw_drop), face.outline_depth())
        self.outline = self.place(self._rim)
        self.shoulders = (BODY_FOLLOWS[0] * pose.x, BODY_FOLLOWS[1] * pose.y)

    def place(self, points: PointsLike) -> Points:
        """Tilt and shift with the head, without turning: (N, 2)."""
        pivot = (0.0, PIVOT_Y)
        return (np.asarray(points) - pivot) @ self._roll + (self.pose.x, self.pose.y + PIVOT_Y)

    def rim(self, points: PointsLike, depth: float | Points = RIM_DEPTH) -> Points:
        """Parts of the outline, or behind it: they keep their size and drift by depth."""
        return self.place(self._project_rim(np.asarray(points, dtype=np.float64), depth))

    def surface(self, points: PointsLike, lift: float = 0.0, clamp: bool = False) -> Points:
        """Parts on the face: they shift and foreshorten.

        `lift` floats them above the skin; `clamp` keeps them on the head.
        """
        flat = np.asarray(points, dtype=np.float64)
        turned = self._turn(flat, self._depth(flat) + lift)
        return self.place(self._clamp(turned) if clamp else turned)

    def visible(self, x: float, y: float) -> float:
        """How much a point of the face looks at the viewer: 1 in front, 0 at the edge."""
        depth = float(self._depth(np.array([[x, y]]))[0]) - PIVOT_Z
        return float(np.clip((depth * self.cos_yaw - x * self.sin_yaw) / (FACE_DEPTH - PIVOT_Z), 0, 1))

    def hang(self, points: PointsLike, depth: float, top: float = 0.9, bottom: float = 1.9) -> Points:
        """Hair that falls onto the shoulders: moves with the head above `top`, stays almost still below `bottom`."""
        rest = np.asarray(points, dtype=np.float64)
        moved = self.rim(rest, depth)
        follow = np.clip((bottom - rest[:, 1]) / (bottom - top), 0.15, 1.0)[:, None]
        return moved * follow + (rest + self.shoulders) * (1 - follow)

    def _depth(self, flat: Points) -> Points:
        x, y = flat[:, 0] / (1.1 * self.face.width), flat[:, 1] / 1.42
        return FACE_DEPTH * np.sqrt(np.maximum(1.0 - x * x - y * y, 0.02))

    def _turn(self, flat: Points, height: Points) -> Points:
        x, z = flat[:, 0], height - PIVOT_Z
        turned = np.empty_like(flat)
        turned[:, 0] = x * self.cos_yaw + z * self.sin_yaw
        depth = z * self.cos_yaw - x * self.sin_yaw
        turned[:, 1] = (flat[:, 1] - 0.3) * self.cos_pitch - depth * self.sin_pitch + 0.3
        return turned

    def _project_rim(self, points: Points, depth: float | Points) -> Points:
        shifted = np.empty_like(points)
        shifted[:, 0] = points[:, 0] + depth * self.sin_yaw
        shifted[:, 1] = points[:, 1] - depth * self.sin_pitch
        return shifted

    def _clamp(self, points: Points) -> Points:
        half = len(self._rim) // 2
        right, left = self._rim[: half + 1], self._rim[half:][::-1]
        top = self._rim[:, 1].min()
        points[:, 1] = np.maximum(points[:, 1], top)
        limit_right = np.interp(points[:, 1], right[:, 1], right[:, 0])
        limit_left = np.interp(points[:, 1], left[:, 1], left[:, 0])
        points[:, 0] = np.clip(points[:, 0], limit_left, limit_right)
        return points


def _rotation(angle: float) -> Points:
    """Row-vector rotation matrix, clockwise on screen: (2, 2)."""
    sin, cos = np.sin(angle), np.cos(angle)
    return np.array([[cos, sin], [-sin, cos]])
