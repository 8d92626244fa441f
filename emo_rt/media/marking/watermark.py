"""Putting the watermark into frames: classical spread spectrum on the luma, faint where an eye would see it.

The pattern (:mod:`emo_rt.media.marking.pattern`) stays as it is through the whole video: an encoder copies it from
frame to frame instead of paying for it again. Its strength follows the picture, block by block: brighter and livelier
places take more. All three colours move by the same amount, so only the luma changes, by 3 of 255 at most.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.marking.pattern import PUBLIC_KEY, Pattern, laid_over

Frames = NDArray[np.uint8]

Laid = NDArray[np.int8]

SIZES_KEPT = 4
"""Sizes of pictures whose pattern is kept although nobody uses it: the next video is often as large as the last."""
LEAST_SIDE = 64
"""Pixels. A smaller picture stays as it is: its cells would be smaller than pixels."""
BLOCKS = 32
"""Blocks of one strength along the side of a square picture; two cells each."""
SAMPLES = 4
"""Pixels that are looked at along the side of a block."""
STRIP_BYTES = 1 << 18
"""Bytes that are worked on at a time, so that all that is needed of them stays in the processor's cache."""
BRIGHT_STEP, BRIGHT_MOST = 33, 4
"""Strength per brightness: one more for each 33 of 255, up to four. An eye sees differences relative to brightness."""
FLAT_SHARE = 0.5
"""Strength in places of one colour, as in drawings, against those of photographs: nothing hides the mark there."""
LIVELY_MOST = 8
"""A difference of two pixels counts up to here: the edge of a calm place must not make it a lively one."""
STRONGEST = 7
"""Strength that is never exceeded: 15 * 7 / 32 rounds to 3."""
ROUND, SHIFT = np.int8(16), np.int8(5)
"""Pattern times strength, in 32nds, to whole numbers."""


class Watermark:
    """One key and one payload. Safe to share between threads."""

    def __init__(self, key: str = PUBLIC_KEY, payload: int = 0) -> None:
        """``payload``: 48 bits, as a number."""
        self._tile = Pattern(key).tile(payload)
        self._kept = lru_cache(maxsize=SIZES_KEPT)(self._laid)
        self._used = WeakValueDictionary[tuple[int, int], Laid]()

    def __call__(self, frames: Frames, laid: Laid | None = None) -> Frames:
        """(n, H, W, 3) uint8 RGB → marked, as a new array. Smaller than 64 pixels on a side: the frames themselves.

        ``laid``: :meth:`pattern` of this size, of a caller who keeps it.
        """
        height, width = frames.shape[1:3]
        if min(height, width) < LEAST_SIDE:
            return frames
        if laid is None:
            laid = self.pattern(height, width)
        marked = np.empty(frames.shape, np.uint8)
        for frame, target in zip(frames, marked, strict=True):
            _add(np.ascontiguousarray(frame).reshape(height, -1), laid, _strengths(frame), target.reshape(height, -1))
        return marked

    def pattern(self, height: int, width: int) -> Laid:
        """(H, 3 W): what pictures of that size get. The same array as long as anybody keeps it."""
        laid = self._used.get((height, width))
        if laid is None:
            laid = self._used[height, width] = self._kept(height, width)
        return laid

    def _laid(self, height: int, width: int) -> Laid:
        """(H, 3 W): the pattern over a picture of that size. Takes longer than marking a frame with it."""
        return np.repeat(laid_over(self._tile, height, width), 3, axis=1)


class _Scratch(threading.local):
    """Memory of one thread, kept from frame to frame: getting it anew takes a tenth of the time of marking."""

    def __init__(self) -> None:
        self._kept = dict[str, NDArray[Any]]()

    def __call__(self, name: str, shape: tuple[int, ...], value: np.generic) -> NDArray[Any]:
        """An array that was full of ``value`` when it was made, the same for the next frame of that size."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape:
            kept = self._kept[name] = np.full(shape, value)
        return kept


_scratch = _Scratch()


def block_side(height: int, width: int) -> int:
    """Pixels along the side of a block: a multiple of four, and no more than the picture's shorter side."""
    fitting = min(round(math.sqrt(height * width) / BLOCKS / SAMPLES), min(height, width) // SAMPLES)
    return SAMPLES * max(1, fitting)


def _strengths(frame: Frames) -> NDArray[np.int8]:
    """(H, W, 3) → 1 … 7 for each whole block, from its green."""
    height, width = frame.shape[:2]
    side = block_side(height, width)
    rows, columns = height // side, width // side
    stride = side // SAMPLES
    seen = frame[: rows * side : stride, : columns * side : stride, 1].astype(np.int16)
    mean = _block_sums(seen) / np.float32(SAMPLES**2)
    changes = _scratch("changes", (2, *seen.shape), np.int16(0))  # of the last row, and the last column, it stays so
    most = _scratch("most", changes.shape, np.int16(LIVELY_MOST))
    np.subtract(seen[1:], seen[:-1], out=changes[0, :-1])
    np.subtract(seen[:, 1:], seen[:, :-1], out=changes[1, :, :-1])
    np.abs(changes, out=changes)
    np.minimum(changes, most, out=changes)  # of two arrays: faster than with a number
    liveliness = _block_sums(changes[0] + changes[1]) / np.float32(2 * SAMPLES**2)
    strength = np.minimum(mean / BRIGHT_STEP, BRIGHT_MOST) * np.minimum(FLAT_SHARE + liveliness, 1) + liveliness
    return np.maximum(np.minimum(np.rint(strength), STRONGEST), 1).astype(np.int8)


def _block_sums(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Sums of 4 × 4 neighbours: halved twice each way, as numpy's sums over four are four times as slow."""
    down = values[0::2] + values[1::2]
    down = down[0::2] + down[1::2]
    sums = down[:, 0::2] + down[:, 1::2]
    return sums[:, 0::2] + sums[:, 1::2]


def _add(pixels: Frames, laid: NDArray[np.int8], strengths: NDArray[np.int8], target: Frames) -> None:
    """Add the pattern, times strength, to (H, 3 W) pixels; black and white stay within 0 … 255."""
    height, length = pixels.shape
    side = block_side(height, length // 3)
    spread = np.repeat(strengths, 3 * side, axis=1)
    if spread.shape[1] < length:
        spread = np.pad(spread, ((0, 0), (0, length - spread.shape[1])), mode="edge")
    most = min(len(spread), max(1, STRIP_BYTES // (length * side)))
    scratch = _scratch("strip", (3, most, side, length), np.int8(0))
    zeros = _scratch("zeros", scratch.shape[1:], np.int8(0))
    for rows, blocks in _strips(height, side, most):
        shape = (blocks.stop - blocks.start, -1, length)
        part = laid[rows].reshape(shape)
        own = (slice(part.shape[0]), slice(part.shape[1]))
        change, up, down = scratch[:, *own]
        np.multiply(part, spread[blocks, None], out=change)
        np.add(change, ROUND, out=change)
        np.right_shift(change, SHIFT, out=change)
        np.maximum(change, zeros[own], out=up)  # of two arrays: with a number it takes twenty times as long
        np.subtract(up, change, out=down)
        marked = target[rows].reshape(shape)
        # uint8 wraps around: what would leave 0 … 255 is first brought to where the sum ends at 0 or 255.
        np.maximum(pixels[rows].reshape(shape), down.view(np.uint8), out=marked)
        np.minimum(marked, np.invert(up.view(np.uint8), out=up.view(np.uint8)), out=marked)
        np.add(marked, change.view(np.uint8), out=marked)


def _strips(height: int, side: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Rows of pixels and of blocks: up to ``most`` rows of blocks at a time; what is left has the last blocks."""
    whole = height // side
    for start in range(0, whole, most):
        stop = min(start + most, whole)
        yield slice(start * side, stop * side), slice(start, stop)
    if whole * side < height:
        yield slice(whole * side, height), slice(whole - 1, whole)
