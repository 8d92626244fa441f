"""Pasting animated squares back into the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.media.framing import Portrait
from emo_rt.media.resize import SquareResizer

FEATHER = 0.1
"""Width of the soft edge of a pasted square, as a part of its side."""
STRIP_BYTES = 128 << 10
"""Memory of a strip's sums: what stays in a core's own cache."""

Area = tuple[slice, slice]
"""Rows and columns."""


def paste_back(portrait: Portrait, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Animated squares (n, size, size, 3) uint8 → whole pictures (n, H, W, 3) uint8. For many calls keep a Paster."""
    return Paster(portrait)(frames)


class _Strip(NamedTuple):
    """A part of the square's soft edge. Channels lie in the columns: three for each pixel."""

    where: Area
    """Its rows and columns in the visible part of the square."""
    weight: NDArray[np.uint16]
    """(rows or 1, 3 columns): weight of the animated pixels, 0 … 256."""
    still: NDArray[np.uint16]
    """(rows, 3 columns): the still picture times its weight, plus 128 to round."""


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
        left, top, right, bottom = (int(side) for side in (crop.left, crop.top, crop.right, crop.bottom))
        rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
        self._square = rows, columns
        self._around = _around(self._square)
        self._seen = _moved(rows, -top), _moved(columns, -left)
        self._resize = SquareResizer(self._size, right - left)
        down, across = _ramp(top, bottom, height), _ramp(left, right, width)
        self._solid = _solid(down), _solid(across)
        self._strips = list(_soft_edge(down, across, self._picture[self._square]))

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
        for area in self._around:
            whole[area] = self._picture[area]
        square, resized = whole[self._square], self._resize(frame)[self._seen]
        square[self._solid] = resized[self._solid]
        for where, weight, still in self._strips:
            blended = _flat(resized[where]) * weight
            blended += still
            blended >>= 8
            square[where] = blended.reshape(square[where].shape)


def _check_frames(name: str, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.uint8:
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}; expected uint8 of shape {shape}")


def _around(square: Area) -> list[Area]:
    """The picture without the square: all above and below it, and what is left and right of it."""
    rows, columns = square
    return [
        (slice(0, rows.start), slice(None)),
        (slice(rows.stop, None), slice(None)),
        (rows, slice(0, columns.start)),
        (rows, slice(columns.stop, None)),
    ]


def _moved(stretch: slice, by: int) -> slice:
    return slice(stretch.start + by, stretch.stop + by)


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


def _soft_edge(down: NDArray[np.uint32], across: NDArray[np.uint32], still: NDArray[np.uint8]) -> Iterator[_Strip]:
    """The soft edge of a square that shows ``still``, with the weights of its rows and columns."""
    for rows, columns in _around((_solid(down), _solid(across))):
        weight = np.repeat(np.outer(down[rows], across[columns]) >> 8, 3, axis=1).astype(np.uint16)
        kept = _flat(still[rows, columns]) * (256 - weight) + np.uint16(128)
        height, width = weight.shape
        if (weight == weight[:1]).all():
            weight = weight[:1]  # beside the solid middle all rows are alike
        step = max(1, STRIP_BYTES // (2 * max(width, 1)))
        first = rows.start
        for start in range(0, height, step):
            part = slice(start, min(start + step, height))
            where = _moved(part, first), columns
            yield _Strip(where, weight if len(weight) == 1 else weight[part], kept[part])


def _flat(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) → (H, 3 W). numpy is slow where its innermost axis is three long."""
    return picture.reshape(len(picture), 3 * picture.shape[1])
