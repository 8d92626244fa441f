"""The portrait: load it, find the square to animate, and paste animated squares back into the whole picture.

All pictures are (H, W, 3) uint8 RGB. Everything that can be wrong with one raises
:class:`~emo_rt.errors.PortraitError`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from emo_rt.checks import check
from emo_rt.errors import InputError, PortraitError
from emo_rt.media.box import Box, FaceBox
from emo_rt.media.face import MIN_FACE, given_face
from emo_rt.media.untrusted import PICTURE, open_file

__all__ = ["Box", "FaceBox", "Paster", "Portrait", "load_picture", "paste_back", "prepare_portrait"]

PictureSource: TypeAlias = "str | Path | NDArray[np.generic] | Image.Image"
"""What :func:`load_picture` takes."""
Framing: TypeAlias = "Callable[[Box, int, int], Box | None]"
"""Face box, width and height of the picture → the square that is animated, in whole pixels; ``None`` = as usual."""
ScalarT = TypeVar("ScalarT", bound=np.generic)

logger = logging.getLogger(__name__)

MIN_SIDE = 32
"""Smallest width and height of a picture, in pixels."""
MAX_PIXELS = 80_000_000
"""Largest picture file that is decoded. Below Pillow's own limit for decompression bombs, 89 megapixels."""
BACKGROUND = (255, 255, 255)
"""What transparent pixels are composited on: white, which cut-out portraits are mostly prepared for."""
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Formats that are opened. Not all that Pillow reads: its EPS reader, for one, runs Ghostscript on the file."""

MARGIN = 0.6
"""Default space around the face, in face heights: hair and shoulders are in, the face fills 45 % of the height."""
TIGHT_MARGIN = 0.125
"""Space that the face keeps even where the square must reach beyond the picture, in face heights."""
WHOLE_SHARES = (0.75, 1.6)
"""A square picture is animated whole if its face is this many times as large as in the square that we would cut.
With the default margin: 34 … 73 % of the side (Hallo asks for 50 … 70 %)."""
FULL_FACE = Box(0.15, 0.15, 0.85, 0.85)
"""Where the face is assumed with ``full``, in a square with side 1: Hallo's 70 %."""
FEATHER = 0.1
"""Width of the soft edge of a pasted square, as a part of its side."""


def load_picture(source: PictureSource) -> NDArray[np.uint8]:
    """Read a picture file, a Pillow image or an array as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied, transparency composited on white, 16-bit values scaled to 8 bits; of an animation the
    first frame counts. Arrays: (H, W) or (H, W, 1 | 3 | 4), uint8, uint16, or floats in 0 … 1; one that is (H, W, 3)
    uint8 already may be returned as it is. Raises :class:`PortraitError` if the source cannot be read, has another
    form, is smaller than 32 pixels on a side, or is a file of more than 80 megapixels.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source)
    elif isinstance(source, Image.Image):
        with _foreign_errors("the image"):
            picture = _to_rgb(ImageOps.exif_transpose(source))
    elif isinstance(source, str | os.PathLike):
        picture = _read(os.fspath(source))
    else:
        raise PortraitError(
            f"a portrait cannot be a {type(source).__name__}; expected a path, a Pillow image or an array"
        )
    if min(picture.shape[:2]) < MIN_SIDE:
        raise PortraitError(f"the picture has {_size(picture)} pixels; expected {MIN_SIDE} or more on each side")
    return picture


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _read(path: str) -> NDArray[np.uint8]:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with (
        open_file(path, PICTURE) as file,
        _foreign_errors(path),
        Image.open(BufferedReader(file), "r", formats) as image,
    ):
        file.deadline = None  # it is a picture; from here on its size bounds the work
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
        return _to_rgb(ImageOps.exif_transpose(image))


@contextmanager
def _foreign_errors(name: str) -> Iterator[None]:
    """Translates what Pillow raises about a picture."""
    try:
        yield
    except PortraitError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise PortraitError(f"{name} is too large to decode ({exc}); expected {MAX_PIXELS:,} pixels at most") from exc
    except Exception as exc:  # Pillow's decoders raise nearly anything on a broken file
        raise PortraitError(
            f"{name} cannot be read as a picture ({exc}); expected a whole {', '.join(FORMATS)}"
        ) from exc


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of an image of any mode. Pillow has already undone the inverted inks of Adobe's CMYK JPEGs."""
    if image.mode == "F":
        return _from_array(np.asarray(image))
    if image.mode.startswith("I"):  # I;16, I;16B and, from other 16-bit files, I (32 bits)
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise PortraitError(f"the picture's grey values are {values.min()} … {values.max()}; expected 0 … 65535")
        return _from_array(values.astype(np.uint16))
    if image.has_transparency_data:
        straight = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), straight)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _from_array(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise PortraitError(f"the picture is an array of shape {array.shape}; expected (H, W) or (H, W, 1 | 3 | 4)")
    pixels = _to_8_bits(array).reshape(*array.shape[:2], channels)
    if channels == 4:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*array.shape[:2], 3)))


def _to_8_bits(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if np.issubdtype(array.dtype, np.uint16):
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise PortraitError(f"the picture's pixels are {array.dtype}; expected uint8, uint16 or floats in 0 … 1")
    values = array.astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails too
        raise PortraitError(f"the picture's float pixels are {values.min():g} … {values.max():g}; expected 0 … 1")
    return np.rint(values * 255).astype(np.uint8)


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
    picture: PictureSource,
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

    ``size``: side of the model's picture, in pixels. ``face_box``: in pixels of the upright picture as loaded, or
    ``full`` for the largest centred square. ``max_side``: 64 … 8192 pixels. ``framing``: a model's own rule for the
    square, which goes before ``margin``.

    Raises :class:`PortraitError` for a picture or a box that cannot be used, :class:`ConfigError` for numbers out of
    range.
    """
    check(8 <= size <= 8192, "size", size, "8 … 8192 pixels")
    check(64 <= max_side <= 8192, "max_side", max_side, "64 … 8192 pixels")
    check(0 <= margin <= 4, "margin", margin, "0 … 4 face heights")
    if not (isinstance(face_box, Box) or str(face_box) == "full"):
        raise PortraitError(f"face_box is {face_box!r}; expected a Box or 'full'")
    original = load_picture(picture)
    limited, across, down = _limited(original, max_side)
    height, width = limited.shape[:2]
    if not isinstance(face_box, Box):
        crop = _square(width, height, min(width, height), (width / 2, height / 2))
        face = FULL_FACE.scaled(crop.width).shifted(crop.left, crop.top)
    else:
        face = given_face(original, face_box).scaled(across, down)
        own = framing(face, width, height) if framing else None
        crop = own or _face_square(width, height, face, margin)
    # From the original: a face that is small in a large picture keeps all its detail.
    pixels = _sample(original, crop.scaled(1 / across, 1 / down), size)
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


def paste_back(portrait: Portrait, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Animated squares (n, size, size, 3) uint8 → whole pictures (n, H, W, 3) uint8. For many calls keep a Paster."""
    return Paster(portrait)(frames)


class _Strip(NamedTuple):
    """A part of the square's soft edge."""

    where: tuple[slice, slice]
    """Its rows and columns in the pasted region."""
    weight: NDArray[np.uint16]
    """(rows, columns, 1): weight of the animated pixels, 0 … 256."""
    still: NDArray[np.uint16]
    """(rows, columns, 3): the still picture times its weight, plus 128 to round."""


class Paster:
    """Pastes animated squares back into their portrait; made once, called for every batch of frames.

    The outer tenth of the square's side fades into the picture, except along the picture's own edges. Pixels outside
    the square stay exactly as they are. Safe to share between threads.
    """

    def __init__(self, portrait: Portrait) -> None:
        self._picture = portrait.picture
        self._size = portrait.pixels.shape[0]
        height, width = portrait.picture.shape[:2]
        crop = portrait.crop
        visible = crop.clipped(width, height)
        self._region = slice(int(visible.top), int(visible.bottom)), slice(int(visible.left), int(visible.right))
        self._target = int(visible.width), int(visible.height)
        shown = visible.shifted(-crop.left, -crop.top).scaled(self._size / crop.width)
        self._shown = astuple(shown.clipped(self._size, self._size))
        across = _ramp(int(crop.left), int(crop.right), width)
        down = _ramp(int(crop.top), int(crop.bottom), height)
        self._solid = _solid(down), _solid(across)
        self._strips = _soft_edge(down, across, self._picture[self._region])

    def __call__(self, frames: NDArray[np.uint8], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """(n, size, size, 3) uint8 → (n, H, W, 3) uint8, written to ``out`` if given.

        Raises :class:`InputError` for arrays of another shape or type.
        """
        _check_frames("frames", frames, (len(frames), self._size, self._size, 3))
        if out is None:
            out = np.empty((len(frames), *self._picture.shape), np.uint8)
        _check_frames("out", out, (len(frames), *self._picture.shape))
        for frame, whole in zip(frames, out, strict=True):
            self._paste(frame, whole)
        return out

    def _paste(self, frame: NDArray[np.uint8], whole: NDArray[np.uint8]) -> None:
        whole[...] = self._picture
        resized = np.asarray(Image.fromarray(frame).resize(self._target, Image.Resampling.BICUBIC, box=self._shown))
        region = whole[self._region]
        region[self._solid] = resized[self._solid]
        for strip in self._strips:
            blended = resized[strip.where] * strip.weight
            blended += strip.still
            blended >>= 8
            region[strip.where] = blended


def _check_frames(name: str, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.uint8:
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}; expected uint8 of shape {shape}")


def _ramp(start: int, end: int, length: int) -> NDArray[np.uint32]:
    """Weights 0 … 256 of the visible rows or columns of a square at start … end, for a picture side of ``length``."""
    place = np.arange(max(start, 0), min(end, length)) + 0.5
    from_start = place - start if start > 0 else np.full_like(place, np.inf)
    from_end = end - place if end < length else np.full_like(place, np.inf)
    part = np.minimum(np.minimum(from_start, from_end) / max(1.0, FEATHER * (end - start)), 1)
    weights: NDArray[np.uint32] = np.rint(256 * part * part * (3 - 2 * part)).astype(np.uint32)
    return weights


def _solid(ramp: NDArray[np.uint32]) -> slice:
    """The stretch in the middle that is animated only."""
    solid = np.flatnonzero(ramp == ramp.max())
    return slice(int(solid[0]), int(solid[-1]) + 1)


def _soft_edge(down: NDArray[np.uint32], across: NDArray[np.uint32], still: NDArray[np.uint8]) -> list[_Strip]:
    """The strips around the solid middle: above and below at full width, left and right of it."""
    rows, columns, every = _solid(down), _solid(across), slice(None)
    above, below = (slice(0, rows.start), every), (slice(rows.stop, None), every)
    left, right = (rows, slice(0, columns.start)), (rows, slice(columns.stop, None))
    strips = []
    for where in (above, below, left, right):
        weight = (np.outer(down[where[0]], across[where[1]]) >> 8).astype(np.uint16)[..., None]
        if weight.size:
            strips.append(_Strip(where, weight, still[where] * (256 - weight) + np.uint16(128)))
    return strips
