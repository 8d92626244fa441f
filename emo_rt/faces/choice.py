"""Which face of a picture is animated, and what may be wrong with it.

Refusals say what was measured, what is expected and what to do; remarks let the work go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.errors import FaceNotFoundError, PortraitError
from emo_rt.media.box import Box
from emo_rt.media.face import OVERRIDE, Face

ChoiceT = TypeVar("ChoiceT", Box, Face)

logger = logging.getLogger(__name__)

RIVAL = 0.5
"""A second face of at least this share of the largest one's width and height makes the choice the user's."""
SMALLEST_FACE = 32
"""Pixels across and down: less does not tell one person from another."""
MOST_CUT_OFF = 0.1
"""Share of the landmarks that may lie outside of the picture."""
LARGEST_TURN = 60.0
"""Degrees away from the camera: half of the face is then out of sight."""
CLOSED_EYES = 0.6
"""``eyeBlinkLeft`` and ``eyeBlinkRight`` above this: closed. Laughing eyes reach 0.5."""
OPEN_MOUTH = 0.5
"""``jawOpen`` above this: wide open. A laugh reaches 0.4."""
LIP_GAP = 0.15
"""Between the lips, shares of the face's height: above it, wide open, in drawings too, whose ``jawOpen`` stays low.
Drawn mouths wide open have 0.24 to 0.28, laughing photographs up to 0.09."""
LID_GAP = 0.15
"""Between the lids, shares of the eye's width: below it, closed. Open eyes have 0.27 or more."""
UPPER_LIP, LOWER_LIP = 13, 14
LIDS = (((159, 145), (33, 133)), ((386, 374), (263, 362)))
"""Per eye: upper and lower lid, and its two corners. Numbers of the face mesh."""


def choose(faces: Sequence[ChoiceT], size: str, index: int | None) -> ChoiceT:
    """The face with that index, or else the only one, or one that is much larger than all others.

    ``faces``: the largest first. ``size``: of the picture, in words. Raises :class:`FaceNotFoundError` where there is
    none or no such index, :class:`PortraitError` where the user must choose.
    """
    if not faces:
        raise FaceNotFoundError(f"no face found in the picture of {size} pixels; {OVERRIDE}")
    if index is not None:
        check(isinstance(index, int) and index >= 0, "face_index", index, "0 or more")
        if index >= len(faces):
            raise FaceNotFoundError(f"there is no face {index}: found {len(faces)}: {_list(enumerate(faces))}")
        return faces[index]
    rivals = [(index, face) for index, face in enumerate(faces) if _is_rival(_box(face), _box(faces[0]))]
    if len(rivals) > 1:
        raise PortraitError(
            f"{len(rivals)} faces of about the same size found: {_list(rivals)}; choose one with face_index / "
            "--face-index, or " + OVERRIDE
        )
    if len(faces) > 1:
        logger.info(
            "%d faces found; animating the largest, %s (face_index chooses another)", len(faces), _box(faces[0])
        )
    return faces[0]


def _box(face: Box | Face) -> Box:
    return face.box if isinstance(face, Face) else face


def _is_rival(box: Box, largest: Box) -> bool:
    return box.width >= RIVAL * largest.width and box.height >= RIVAL * largest.height


def _list(faces: Iterable[tuple[int, Box | Face]]) -> str:
    boxes = [(index, _box(face)) for index, face in faces]
    return ", ".join(
        f"{index} at {box.left:.0f},{box.top:.0f},{box.right:.0f},{box.bottom:.0f}" for index, box in boxes
    )


def refuse_unusable(face: Face, width: int, height: int) -> None:
    """Raise :class:`PortraitError` for a face that no model can do anything good with. Sizes of the picture: pixels."""
    box = face.box
    if min(box.width, box.height) < SMALLEST_FACE:
        raise PortraitError(
            f"the face has {box.width:.0f}x{box.height:.0f} pixels; expected {SMALLEST_FACE} or more each way: "
            f"take a larger picture, or {OVERRIDE}"
        )
    outside = cut_off(face.landmarks, width, height)
    if outside > MOST_CUT_OFF:
        raise PortraitError(
            f"{100 * outside:.0f} % of the face lies outside of the picture; expected {100 * MOST_CUT_OFF:.0f} % at "
            f"most: take a picture with the whole face, or {OVERRIDE}"
        )
    pose = face.pose
    if pose.away > LARGEST_TURN:
        raise PortraitError(
            f"the face is turned {pose.away:.0f}° away from the camera (yaw {round(pose.yaw)}°, "
            f"pitch {round(pose.pitch)}°); expected {LARGEST_TURN:.0f}° at most: take a picture from the front, "
            f"or {OVERRIDE}"
        )


def cut_off(landmarks: NDArray[np.float64], width: int, height: int) -> float:
    """Share of the landmarks outside of the picture."""
    x, y = landmarks[:, 0], landmarks[:, 1]
    return float(((x < 0) | (y < 0) | (x >= width) | (y >= height)).mean())


def remarks(face: Face) -> list[str]:
    """What will be seen in the whole video, in words; empty for most faces."""
    scores, found = face.blendshapes, []
    closed, lids = min(scores["eyeBlinkLeft"], scores["eyeBlinkRight"]), lid_gap(face)
    if closed > CLOSED_EYES or lids < LID_GAP:
        found.append(
            f"the eyes are closed (eyeBlink {closed:.2f}, expected {CLOSED_EYES} at most; lids {lids:.2f} of the eye's "
            f"width apart, expected {LID_GAP} or more): so they will be"
        )
    lips = lip_gap(face)
    if scores["jawOpen"] > OPEN_MOUTH or lips > LIP_GAP:
        found.append(
            f"the mouth is wide open (jawOpen {scores['jawOpen']:.2f}, expected {OPEN_MOUTH} at most; lips {lips:.2f} "
            f"of the face's height apart, expected {LIP_GAP} at most): a picture with closed lips gives better lips"
        )
    return found


def lid_gap(face: Face) -> float:
    """Of the eye that is more open: between the lids, shares of its width."""
    return max(_apart(face, lids) / _apart(face, corners) for lids, corners in LIDS)


def lip_gap(face: Face) -> float:
    """Between the lips, shares of the face's height."""
    return _apart(face, (UPPER_LIP, LOWER_LIP)) / face.box.height


def _apart(face: Face, pair: tuple[int, int]) -> float:
    first, second = (face.landmarks[number, :2] for number in pair)
    return float(np.hypot(*(first - second)))
