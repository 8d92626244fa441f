"""Framing: which square of a picture is animated, and the portrait that comes of it.

All pictures are (H, W, 3) uint8 RGB. Everything that can be wrong with one raises
:class:`~emo_rt.errors.PortraitError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.checks import check
from emo_rt.errors import PortraitError
from emo_rt.media.box import Box, FaceBox
from emo_rt.media.face import MIN_FACE, given_face
from emo_rt.media.picture import MIN_SIDE
from emo_rt.schema.kinds import Range

Framing: TypeAlias = "Callable[[Box, int, int], Box | None]"
"""Face box, width and height of the picture → the square that is animated, in whole pixels; ``None`` = as usual."""
ScalarT = TypeVar("ScalarT", bound=np.generic)

logger = logging.getLogger(__name__)

VIDEO_SIDES = Range(64, 8192, unit="pixels")
"""Longest side of a video, in pixels."""
MARGIN = 0.6
"""Default space around the face, in face heights: hair and shoulders are in, the face fills 45 % of the height."""
TIGHT_MARGIN = 0.125
"""Space that the face keeps even where the square must reach beyond the picture, in face heights."""
WHOLE_SHARES = (0.75, 1.6)
"""A square picture is animated whole if its face is this many times as large as in the square that we would cut.
With the default margin: 34 … 73 % of the side (Hallo asks for 50 … 70 %)."""
FULL_FACE = Box(0.15, 0.15, 0.85, 0.85)
"""Where the face is assumed with ``full``, in a square with side 1: Hallo's 70 %."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture that is ready to be animated. The arrays are read-only."""

    picture: NDArray[np.uint8]
    """(H, W, 3) RGB: the whole picture, H and W even (H.264 needs that) and at most ``max_side``."""
    crop: Box
    """The square that is animated, whole pixels of ``picture``; beyond its edges, their pixels are repeated."""
    face: Box
    """The face, in pixels of ``pixels``: 0 … size."""
    pixels: NDArray[np.uint8]
    """(size, size, 3) RGB: the square, resized for the model."""

    @property
    def covers_picture(self) -> bool:
        """Whether the square holds the whole picture, so that nothing needs to be pasted back."""
        height, width = self.picture.shape[:2]
        return self.crop.left <= 0 and self.crop.top <= 0 and self.crop.right >= width and self.crop.bottom >= height


def prepare_portrait(
    picture: NDArray[np.uint8],
    size: int,
    *,
    face_box: FaceBox,
    max_side: int = 1920,
    margin: float = MARGIN,
    framing: Framing | None = None,
) -> Portrait:
    """Frame the face the way the training pictures are framed.

    The square is centred on the face with ``margin`` face heights (0 … 4) around it, then made smaller and moved so
    that it stays inside the picture; only a face that nearly fills the picture makes it reach beyond. A square picture
    whose face already has about the right size is taken whole.

    ``picture``: what :func:`~emo_rt.media.picture.load_picture` gives. ``size``: side of the model's picture, in
    pixels. ``face_box``: in pixels of the upright picture as loaded, or
    ``full`` for the largest centred square. ``max_side``: pixels, in :data:`VIDEO_SIDES`. ``framing``: a model's own
    rule for the square, which goes before ``margin``.

    Raises :class:`PortraitError` for a picture or a box that cannot be used, :class:`ConfigError` for numbers out of
    range.
    """
    check(8 <= size <= 8192, "size", size, "8 … 8192 pixels")
    check(VIDEO_SIDES.has(max_side), "max_side", max_side, str(VIDEO_SIDES))
    check(0 <= margin <= 4, "margin", margin, "0 … 4 face heights")
    if not (isinstance(face_box, Box) or str(face_box) == "full"):
        raise PortraitError(f"face_box is {face_box!r}; expected a Box or 'full'")
    limited, across, down = _limited(picture, max_side)
    height, width = limited.shape[:2]
    if not isinstance(face_box, Box):
        crop = _square(width, height, min(width, height), (width / 2, height / 2))
        face = FULL_FACE.scaled(crop.width).shifted(crop.left, crop.top)
    else:
        face = given_face(picture.shape[1], picture.shape[0], face_box).scaled(across, down)
        own = framing(face, width, height) if framing else None
        crop = own or _face_square(width, height, face, margin)
    # From the original: a face that is small in a large picture keeps all its detail.
    pixels = _sample(picture, crop.scaled(1 / across, 1 / down), size)
    face = face.shifted(-crop.left, -crop.top).scaled(size / crop.width).clipped(size, size)
    return Portrait(_frozen(limited), crop, face, _frozen(pixels))


def _limited(picture: NDArray[np.uint8], max_side: int) -> tuple[NDArray[np.uint8], float, float]:
    """The picture at ``max_side`` or less, cut to even sides; and the factors applied to its width and height."""
    height, width = picture.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = round(width * scale), round(height * scale)
    if min(size) < MIN_SIDE:
        raise PortraitError(
            f"max_side = {max_side} makes the picture of {width}x{height} pixels {size[0]}x{size[1]}; "
            f"expected {MIN_SIDE} or more on each side: cut the picture or raise max_side"
        )
    if scale < 1:
        picture = np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return picture[: size[1] // 2 * 2, : size[0] // 2 * 2], size[0] / width, size[1] / height


def _face_square(width: int, height: int, face: Box, margin: float) -> Box:
    """The square to animate, in whole pixels of a picture of that size."""
    longest = max(face.width, face.height)
    wanted = (1 + 2 * margin) * longest
    least, most = WHOLE_SHARES
    if width == height and least <= wanted / width <= most:
        return Box(0, 0, width, height)
    # Real pixels beat repeated ones: rather a tighter square than one that reaches beyond the picture.
    tightest = (1 + 2 * min(margin, TIGHT_MARGIN)) * longest
    side = max(min(wanted, width, height), tightest, MIN_FACE)
    return _square(width, height, round(side), face.centre)


def _square(width: int, height: int, side: int, centre: tuple[float, float]) -> Box:
    """A square around ``centre``, moved into the picture where it fits, centred on the picture where it does not."""
    starts = []
    for length, middle in zip((width, height), centre, strict=True):
        start = round(middle - side / 2)
        starts.append(min(max(start, 0), length - side) if side <= length else (length - side) // 2)
    return Box(starts[0], starts[1], starts[0] + side, starts[1] + side)


def _sample(picture: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """The box of the picture as (size, size, 3); beyond the edges, their pixels are repeated."""
    if box.width < size / 2:
        logger.warning(
            "the square around the face is enlarged from %d to %d pixels; a larger picture gives a sharper video",
            box.width, size,
        )  # fmt: skip
    left, top = math.floor(box.left), math.floor(box.top)
    columns = np.arange(left, math.ceil(box.right)).clip(0, picture.shape[1] - 1)
    rows = np.arange(top, math.ceil(box.bottom)).clip(0, picture.shape[0] - 1)
    area = Image.fromarray(picture[rows[:, None], columns])
    window = astuple(box.shifted(-left, -top).clipped(*area.size))
    return np.array(area.resize((size, size), Image.Resampling.LANCZOS, box=window))


def box_mask(face: Box, size: int) -> NDArray[np.float32]:
    """(size, size): 1 in every pixel that the box touches, else 0."""
    mask = np.zeros((size, size), np.float32)
    mask[math.floor(face.top) : math.ceil(face.bottom), math.floor(face.left) : math.ceil(face.right)] = 1
    return mask


def _frozen(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
    array = array.copy()  # the caller's own array stays writable
    array.setflags(write=False)
    return array
