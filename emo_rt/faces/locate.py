"""The face of a picture that will be animated: found, chosen, checked."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.faces.choice import choose, refuse_unusable, remarks
from emo_rt.faces.finder import default_finder
from emo_rt.media.box import Box
from emo_rt.media.face import MIN_FACE, FaceDetector
from emo_rt.media.picture import Picture, open_picture

logger = logging.getLogger(__name__)


class Located(NamedTuple):
    """Where the face is."""

    box: Box
    """In pixels of the picture in the file."""
    landmarks: NDArray[np.float64] | None
    """(478, 2), the same; ``None`` from a detector that gives boxes only."""


def locate(
    source: NDArray[np.uint8] | Picture, index: int | None = None, detector: FaceDetector | None = None
) -> Located:
    """Find the face to animate with the built-in networks, or with a ``detector`` of one's own.

    ``source``: (H, W, 3) uint8 RGB, upright, or a :class:`Picture`. All places, also those in messages, are pixels of
    the picture in the file; only a ``detector`` sees and tells those that were decoded. ``index``: which face, the
    largest is 0; ``None`` = the only one, or the one that is much larger than all others. What is odd about the face is
    logged as a warning.

    Raises :class:`FaceNotFoundError`, :class:`PortraitError` for a face that cannot be used or a choice that is the
    user's, :class:`ConfigError` for an index below 0, :class:`MissingDependencyError` where nothing runs the networks.
    """
    usable = detector is None or callable(getattr(detector, "detect", None))
    check(usable, "detector", detector, "an object with a method detect, or None")
    picture = open_picture(source)
    height, width = picture.pixels.shape[:2]
    size, across, down = f"{picture.width}x{picture.height}", 1 / picture.across, 1 / picture.down
    if detector is not None:
        boxes = _inside(detector.detect(picture.pixels), width, height)
        return Located(choose([box.scaled(across, down) for box in boxes], size, index), None)
    face = choose([face.scaled(across, down) for face in default_finder().find(picture.pixels)], size, index)
    refuse_unusable(face, picture.width, picture.height)
    for remark in remarks(face):
        logger.warning("%s", remark)
    return Located(face.box, face.landmarks[:, :2])


def _inside(boxes: list[Box], width: int, height: int) -> list[Box]:
    """Those that reach into the picture, the largest first."""
    shown = []
    for box in boxes:
        across = min(box.right, width) - max(box.left, 0)
        down = min(box.bottom, height) - max(box.top, 0)
        if min(across, down) >= MIN_FACE:
            shown.append(box.clipped(width, height))
    return sorted(shown, key=lambda box: box.area, reverse=True)
