"""Pictures: files, Pillow images and arrays of any kind as (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from emo_rt.errors import PortraitError
from emo_rt.media.untrusted import PICTURE, UntrustedFile, open_file
from emo_rt.schema.kinds import Range

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Picture:
    """What was decoded, and the size of what it was decoded from."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    width: int
    """Of the upright picture in the file, in pixels: places in it are given in these. W, or more."""
    height: int
    """The same. H, or more."""

    @property
    def across(self) -> float:
        """Columns of ``pixels`` for each column in the file."""
        return float(self.pixels.shape[1] / self.width)

    @property
    def down(self) -> float:
        """Rows of ``pixels`` for each row in the file."""
        return float(self.pixels.shape[0] / self.height)


PictureSource: TypeAlias = "str | Path | NDArray[np.generic] | Image.Image | Picture"
"""What :func:`open_picture` takes."""

MIN_SIDE = 32
"""Smallest width and height of a picture, in pixels."""
PIXELS = Range(1_024, 80_000_000)
"""What may be allowed for a picture file. Below Pillow's own limit for decompression bombs, 89 megapixels."""
MAX_PIXELS = 50_000_000
"""Largest picture that is decoded of a file unless the caller allows more: what most cameras make fits in."""
SHARES = (2, 4, 8)
"""A JPEG is decoded at a half, a quarter or an eighth of its sides, and takes memory for that only."""
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
BACKGROUND = (255, 255, 255)
"""What transparent pixels are composited on: white, which cut-out portraits are mostly prepared for."""
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Formats that are opened. Not all that Pillow reads: its EPS reader, for one, runs Ghostscript on the file."""

_filters = threading.Lock()
"""Python's filters of warnings are the process's: one thread at a time changes them and puts them back."""


def load_picture(source: PictureSource, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright: the pixels of :func:`open_picture`, for whom places in the file do not matter."""
    return open_picture(source, max_pixels).pixels


def open_picture(source: PictureSource, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file, a Pillow image or an array.

    EXIF orientation is applied, transparency composited on white, 16-bit values scaled to 8 bits; of an animation the
    first frame counts. Arrays: (H, W) or (H, W, 1 | 3 | 4), uint8, uint16, or floats in 0 … 1; one that is (H, W, 3)
    uint8 already may be returned as it is. A JPEG file of more than ``max_pixels`` (:data:`PIXELS`), width times
    height, is decoded at a half, a quarter or an eighth of its size, whichever fits in, and that is logged as a
    warning. Raises :class:`PortraitError` if the source cannot be read, has another form, is smaller than 32 pixels on
    a side, or is another file of more than ``max_pixels``.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        picture = _whole(_from_array(source))
    elif isinstance(source, Image.Image):
        with _foreign_errors("the image"):
            picture = _whole(_to_rgb(ImageOps.exif_transpose(source)))
    elif isinstance(source, str | os.PathLike):
        picture = _read(os.fspath(source), max_pixels)
    else:
        raise PortraitError(
            f"a portrait cannot be a {type(source).__name__}; expected a path, a Pillow image or an array"
        )
    if min(picture.pixels.shape[:2]) < MIN_SIDE:
        raise PortraitError(f"the picture has {_size(picture)} pixels; expected {MIN_SIDE} or more on each side")
    return picture


def _whole(pixels: NDArray[np.uint8]) -> Picture:
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _size(picture: Picture) -> str:
    return f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}"


def _read(path: str, max_pixels: int) -> Picture:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with (
        open_file(path, PICTURE) as file,
        _foreign_errors(path, max_pixels),
        _opened(file, formats) as image,
    ):
        file.deadline = None  # it is a picture; from here on its size bounds the work
        size = image.size
        is_whole = image.width * image.height <= max_pixels
        if not is_whole:
            _reduce(image, max_pixels)
            if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS:
                size = size[::-1]
        ImageOps.exif_transpose(image, in_place=True)  # a copy of 80 megapixels has 240 MB
        pixels = _to_rgb(image)
    if is_whole:
        return _whole(pixels)
    picture = Picture(pixels, *size)
    logger.warning(
        "%s has %dx%d pixels, more than max_pixels allows, and is decoded as %s", path, *size, _size(picture)
    )
    return picture


def _reduce(image: Image.Image, max_pixels: int) -> None:
    """Have a picture decoded so that it fits in. Raises Pillow's error of bombs where that cannot be."""
    pixels = image.width * image.height
    if isinstance(image, JpegImageFile) and (pixels <= PIXELS.high or _is_read_once(image)):
        for share in SHARES:
            if -(-image.width // share) * -(-image.height // share) <= max_pixels:
                image.draft(None, (image.width // share, image.height // share))
                return
    raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")


def _is_read_once(image: JpegImageFile) -> bool:
    """Whether a JPEG has all its colours in its first and only scan.

    Of one with several scans libjpeg keeps all coefficients: 6 bytes a pixel, at whatever size it is decoded.
    """
    file = image.fp
    if file is None or image.info.get("progressive"):
        return False
    file.seek(2)
    while len(head := file.read(5)) == 5 and head[0] == 0xFF:
        if head[1] == 0xDA:
            return head[4] == image.layers
        file.seek(max(3, int.from_bytes(head[2:4], "big")) - 3, os.SEEK_CUR)
    return False


def _opened(file: UntrustedFile, formats: list[str]) -> Image.Image:
    """What kind of picture it is, and how large. What Pillow warns of as a bomb is above :data:`PIXELS`, too."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(BufferedReader(file), "r", formats)


@contextmanager
def _foreign_errors(name: str, max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Translates what Pillow raises about a picture."""
    try:
        yield
    except PortraitError:
        raise
    except Image.DecompressionBombError as exc:
        raise PortraitError(f"{name} is too large to decode ({exc}); expected {max_pixels:,} pixels at most") from exc
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
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


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
