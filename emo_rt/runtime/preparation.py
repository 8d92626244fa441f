"""From a picture to what the portrait's graphs take: the face, the square around it, the inputs beside its pixels."""

from __future__ import annotations

import logging
from dataclasses import replace

from emo_rt.errors import FaceNotFoundError, InputError
from emo_rt.faces.locate import locate
from emo_rt.faces.style import mismatch
from emo_rt.media.box import Box
from emo_rt.media.face import FaceDetector, given_face
from emo_rt.media.framing import Portrait, prepare_portrait
from emo_rt.media.picture import PictureSource, open_picture
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array
from emo_rt.model.families.base import Family
from emo_rt.model.identity import FaceInputs
from emo_rt.runtime.request import PrepareOptions

logger = logging.getLogger(__name__)


def frame_face(
    picture: PictureSource, chosen: PrepareOptions, bundle: Bundle, family: Family, detector: FaceDetector | None
) -> tuple[Portrait, dict[str, Array]]:
    """The square around the face, and :meth:`Family.portrait_inputs` of it.

    Logs where the model was trained on drawings and gets a photograph, or the other way round. Raises what
    :meth:`emo_rt.Animator.prepare` raises.
    """
    face_box, face = chosen.face_box, chosen.face
    if chosen.head_room is not None:
        family.check_heeds({"head_room": chosen.head_room})
    opened = open_picture(picture, chosen.max_pixels)
    if face_box is None and face is not None:
        face_box = face.silhouette()
    if face_box is not None and chosen.face_index is not None:
        raise InputError(f"face_index is {chosen.face_index}, and the face's place is given, too; expected one of them")
    has_face = True
    if face_box is None:
        try:
            face_box, landmarks = locate(opened, chosen.face_index, detector)
            face = family.with_landmarks(face, landmarks)
        except FaceNotFoundError as exc:
            if family.needs_face:
                raise
            logger.warning("%s; all of the picture's square is animated", exc)
            face_box, has_face = "full", False
    if isinstance(face_box, Box):  # from here on in pixels that were decoded
        given_face(opened.width, opened.height, face_box)
        face_box = face_box.scaled(opened.across, opened.down)
    face = (face or FaceInputs()).scaled(opened.across, opened.down)
    original = opened.pixels
    portrait = prepare_portrait(
        original, bundle.config.size, face_box=face_box, max_side=chosen.max_side, framing=family.crop
    )
    if not has_face:
        portrait = replace(portrait, face=Box(0, 0, bundle.config.size, bundle.config.size))
    if isinstance(face_box, Box):
        problem = mismatch(bundle.trained_on, original, face_box, bundle.config.name)
        if problem is not None:
            logger.warning("%s", problem)
    return portrait, family.portrait_inputs(portrait, face, original, chosen.head_room)
