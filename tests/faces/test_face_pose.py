"""The pose of heads whose angles are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emo_rt.faces.pose import _standard_face, head_pose, rotation
from emo_rt.media.face import HeadPose


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The standard face after it looks up, then to the right edge, then leans clockwise: (478, 3), moved and scaled."""
    y, p, r = (math.radians(angle) for angle in (yaw, pitch, roll))
    up = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    right = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    lean = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    indices, _, standard = _standard_face()
    points = np.zeros((478, 3))
    points[indices] = 7 * standard @ (lean @ right @ up).T + [100, 200, 5]
    return points


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, -45), (-50, 15, 100), (10, -30, 5)])
def test_known_angles(angles: tuple[float, float, float]) -> None:
    found = head_pose(turned(*angles))
    assert (found.yaw, found.pitch, found.roll) == pytest.approx(angles, abs=1e-6)


def test_a_face_that_looks_right_and_up_points_there() -> None:
    """The tip of the nose is right of and above the middle of the other points."""
    indices, _, _ = _standard_face()
    points = turned(30, 30, 0)
    nose, middle = points[4], points[indices].mean(axis=0)
    assert nose[0] > middle[0]
    assert nose[1] < middle[1]


@pytest.mark.parametrize(("pose", "away"), [((0, 0, 50), 0), ((60, 0, 0), 60), ((0, -40, 9), 40), ((45, 45, 0), 60)])
def test_how_far_away_it_looks(pose: tuple[float, float, float], away: float) -> None:
    assert HeadPose(*pose).away == pytest.approx(away)


def test_a_mirror_image_is_no_rotation() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    found = rotation(points, points * [-1, 1, 1], np.ones((9, 1)))
    assert np.linalg.det(found) == pytest.approx(1)
