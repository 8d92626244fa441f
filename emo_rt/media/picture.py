"""Pictures: files, Pillow images and arrays of any kind as (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from emo_rt.errors import PortraitError
from emo_rt.media.untrusted import PICTURE, UntrustedFile, open_file
from emo_rt.schema.kinds import Range

PictureSource: TypeAlias = "str | Path | NDArray[np.generic] | Image.Image"
"""What :func:`load_picture` takes."""

MIN_SIDE = 32
"""Smallest width and height of a picture, in pixels."""
PIXELS = Range(1_024, 80_000_000)
"""What may be allowed for a picture file. Below Pillow's own limit for decompression bombs, 89 megapixels."""
MAX_PIXELS = 50_000_000
"""Largest picture file that is decoded unless the caller allows more: what most cameras make fits in."""
BACKGROUND = (255, 255, 255)
"""What transparent pixels are composited on: white, which cut-out portraits are mostly prepared for."""
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Formats that are opened. Not all that Pillow reads: its EPS reader, for one, runs Ghostscript on the file."""

_filters = threading.Lock()
"""Python's filters of warnings are the process's: one thread at a time changes them and puts them back."""


def load_picture(source: PictureSource, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a picture file, a Pillow image or an array as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied, transparency composited on white, 16-bit values scaled to 8 bits; of an animation the
    first frame counts. Arrays: (H, W) or (H, W, 1 | 3 | 4), uint8, uint16, or floats in 0 … 1; one that is (H, W, 3)
    uint8 already may be returned as it is. Raises :class:`PortraitError` if the source cannot be read, has another
    form, is smaller than 32 pixels on a side, or is a file of more than ``max_pixels``
    (:data:`PIXELS`), width times height.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source)
    elif isinstance(source, Image.Image):
        with _foreign_errors("the image"):
            picture = _to_rgb(ImageOps.exif_transpose(source))
    elif isinstance(source, str | os.PathLike):
        picture = _read(os.fspath(source), max_pixels)
    else:
        raise PortraitError(
            f"a portrait cannot be a {type(source).__name__}; expected a path, a Pillow image or an array"
        )
    if min(picture.shape[:2]) < MIN_SIDE:
        raise PortraitError(f"the picture has {_size(picture)} pixels; expected {MIN_SIDE} or more on each side")
    return picture


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _read(path: str, max_pixels: int) -> NDArray[np.uint8]:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with (
        open_file(path, PICTURE) as file,
        _foreign_errors(path, max_pixels),
        _opened(file, formats) as image,
    ):
        file.deadline = None  # it is a picture; from here on its size bounds the work
        if image.width * image.height > max_pixels:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
        ImageOps.exif_transpose(image, in_place=True)  # a copy of 80 megapixels has 240 MB
        return _to_rgb(image)


def _opened(file: UntrustedFile, formats: list[str]) -> Image.Image:
    """What kind of picture it is, and how large. Pillow's warning of bombs becomes the error that follows from it."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(BufferedReader(file), "r", formats)


@contextmanager
def _foreign_errors(name: str, max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Translates what Pillow raises about a picture."""
    try:
        yield
    except PortraitError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
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
