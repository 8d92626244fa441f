"""Where a head is turned, from its landmarks.

The rotation is the one that brings Google's standard face nearest to the landmarks: least squares over the 33 points,
with the weights, that its own geometry module uses for this.
"""

from __future__ import annotations

import functools
import json
import math

import numpy as np

from emo_rt.faces.align import Points
from emo_rt.faces.networks import asset
from emo_rt.media.face import HeadPose


def head_pose(points: Points) -> HeadPose:
    """The pose of a head. ``points``: (478 or 468, 3), x, y and z in the same unit."""
    indices, weights, standard = _standard_face()
    turn = rotation(standard, points[indices], weights)
    yaw = math.asin(min(max(turn[2, 0], -1.0), 1.0))
    return HeadPose(
        yaw=math.degrees(yaw),
        pitch=math.degrees(-math.atan2(turn[2, 1], turn[2, 2])),
        roll=math.degrees(math.atan2(turn[1, 0], turn[0, 0])),
    )


@functools.cache
def _standard_face() -> tuple[list[int], Points, Points]:
    """Landmark indices, their weights (n, 1), and their places (n, 3) as pictures have them: y down, z away."""
    rows = json.loads(asset("standard_face.json").read_text(encoding="utf-8"))["points"]
    table = np.array([[row["weight"], row["x"], -row["y"], -row["z"]] for row in rows])
    return [row["landmark"] for row in rows], table[:, :1], table[:, 1:]


def rotation(before: Points, after: Points, weights: Points) -> Points:
    """The rotation (3, 3) that fits ``after`` best to ``before`` turned, moved and scaled: (n, 3), weights (n, 1)."""
    middle_before, middle_after = (np.average(x, axis=0, weights=weights[:, 0]) for x in (before, after))
    left, _, right = np.linalg.svd((weights * (after - middle_after)).T @ (before - middle_before))
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])  # no mirror image
    turn: Points = left @ handed @ right
    return turn
