"""Faces as numbers: the JSON of ``emo-rt faces``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo_rt.media.face import Face

DECIMALS = 3
"""Of pixels and degrees. Scores get :data:`SCORE_DECIMALS`."""
SCORE_DECIMALS = 6


def as_json(width: int, height: int, faces: Sequence[Face]) -> dict[str, Any]:
    """Stable: ``width`` and ``height`` of the upright picture, and ``faces`` in the order of ``face_index``."""
    return {"width": width, "height": height, "faces": [_face(face) for face in faces]}


def _face(face: Face) -> dict[str, Any]:
    box, pose = face.box, face.pose
    return {
        "box": [round(side, DECIMALS) for side in (box.left, box.top, box.right, box.bottom)],
        "score": round(face.score, SCORE_DECIMALS),
        "landmarks": face.landmarks.round(DECIMALS).tolist(),
        "blendshapes": {name: round(score, SCORE_DECIMALS) for name, score in face.blendshapes.items()},
        "pose": {name: round(getattr(pose, name), DECIMALS) for name in ("yaw", "pitch", "roll")},
    }
