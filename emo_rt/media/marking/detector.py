"""Looking for the watermark in pictures that were encoded, scaled or cut.

Pictures are brought to one size, whitened (their mean taken off, divided by their local variance: the best weights
where a picture is stronger in some places than in others), and summed. The sum is whitened in its frequencies, too.
Then, for each of many sizes of a cell, it is folded onto one tile of the pattern and compared with the pilot at all
offsets at once, by FFT. The best places are decoded, and all cells together compared with the whole pattern of what was
read.

The key chooses the signs of the cells, so where there is no mark, that comparison is a sum of given numbers with random
signs. Such a sum exceeds t standard deviations with a chance of at most exp(-t²/2), whatever the picture (Hoeffding,
1963); there are as many chances as places and payloads. The threshold follows from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.media.marking.code import CODED_BITS, PAYLOAD_BITS, decode
from emo_rt.media.marking.pattern import CELLS, Pattern, pulse

SIDE = 256
"""Pictures are brought to this many pixels squared; a cell has 4 pixels there, if nothing was cut off."""
SIZES = tuple(SIDE / CELLS * 1.005**step for step in range(-6, 61))
"""Sizes of a cell that are tried, in pixels of such a picture: cut off to 74.1 % of each side, enlarged by up to 3 %.
Half a step moves the outermost cells by 0.08 of a cell."""
FOLDED = 2 * CELLS
"""Samples along the side of a folded tile."""
FALSE_ALARM = 1e-6
"""Chance that a video without this mark is taken for one that has it."""
PAYLOAD_SURE = 12.5
"""From here on a payload is told, in deviates. In white noise 3 of 60 were decoded wrong at 12, and none at 13."""
DECODED = 3
"""Places that are decoded: the best, each of another size of the cells."""
MEAN_RADIUS, VARIANCE_RADIUS = 3, 4
"""Of the local means and variances, in pixels."""
FLAT = 0.5
"""Deviation that is added to each, in levels of the luma: rounding alone."""
NEAR = 4
"""Frequencies on each side over which the power of one is averaged."""
CLIP = 2.0
"""Deviations; a single bright pixel counts as much as this."""

Real = NDArray[np.float32]
Spectrum = NDArray[Any]


def threshold() -> float:
    """Standard deviations that less than one of a million videos without the mark reach (see above)."""
    chances = len(SIZES) * FOLDED**2 * 2.0**PAYLOAD_BITS
    return math.sqrt(2 * math.log(chances / FALSE_ALARM))


@dataclass(frozen=True)
class Sighting:
    """What was found of one key."""

    score: float
    """How well all cells fit what was read, at the best place, in standard deviations of chance."""
    is_found: bool
    """Whether that is more than chance gives."""
    payload: int | None
    """48 bits; ``None`` where they cannot be read for sure."""


class Evidence:
    """Whitened pictures, summed. Keys are looked for in it as often as needed."""

    def __init__(self) -> None:
        self.frames = 0
        """Pictures that were added."""
        self._sum: Real | None = None
        self._folds: Spectrum | None = None

    def add(self, luma: NDArray[np.uint8]) -> None:
        """One picture, (H, W). One of another form than the first, as few files have part-way, is left out."""
        height, width = luma.shape
        factor = SIDE / math.sqrt(height * width)
        size = (max(8, round(width * factor)), max(8, round(height * factor)))
        way = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
        white = _whitened(np.asarray(Image.fromarray(luma.astype(np.float32)).resize(size, way)))
        if self._sum is not None and white.shape != self._sum.shape:
            return
        self._sum = white if self._sum is None else self._sum + white
        self.frames += 1
        self._folds = None

    def look_for(self, pattern: Pattern) -> Sighting:
        """The mark of one key."""
        fits = np.fft.irfft2(self._folded() * _spectrum_of(pattern))  # size, row, column
        peaks = fits.max(axis=(1, 2)) / np.maximum(fits.std(axis=(1, 2)), np.finfo(np.float32).tiny)
        best = np.argsort(peaks)[::-1][:DECODED]
        return max((self._decoded(int(size), fits[size], pattern) for size in best), key=lambda seen: seen.score)

    def _decoded(self, size: int, fit: NDArray[Any], pattern: Pattern) -> Sighting:
        """What is at the best offset of one size of the cells."""
        row, column = np.unravel_index(int(fit.argmax()), fit.shape)
        seen = np.roll(np.fft.irfft2(self._folded()[size]), (-int(row), -int(column)), axis=(0, 1))[::2, ::2]
        carries = pattern.bits >= 0
        soft = np.bincount(pattern.bits[carries], weights=(seen * pattern.signs)[carries], minlength=CODED_BITS)
        payload = decode(soft.astype(np.float64))
        score = _agreement(seen, pattern.tile(payload))
        is_sure = _agreement(seen[carries], pattern.tile(payload)[carries]) >= PAYLOAD_SURE
        is_found = score >= threshold()
        return Sighting(score, is_found, payload if is_found and is_sure else None)

    def _folded(self) -> Spectrum:
        """Of each size of a cell: the spectrum of the folded sum, filtered with the form of a cell."""
        if self._folds is None:
            total = np.zeros((SIDE, SIDE), np.float32) if self._sum is None else _flattened(self._sum)
            form = np.conj(np.fft.rfft2(pulse()))
            self._folds = np.fft.rfft2(np.stack([_fold(total, size) for size in SIZES])) * form
        return self._folds


def _whitened(picture: Real) -> Real:
    """(H, W) → its details, weighted by how rare they are around there."""
    detail = picture - _local_mean(picture, MEAN_RADIUS)
    deviation = np.sqrt(np.maximum(_local_mean(detail * detail, VARIANCE_RADIUS), 0)) + np.float32(FLAT)
    white: Real = np.clip(detail / deviation, -CLIP, CLIP) / deviation
    return white


def _flattened(picture: Real) -> Real:
    """(H, W) → the same with an even spectrum: what of it is strongest is the picture's, not the mark's."""
    spectrum = np.fft.fft2(picture)
    power = np.abs(spectrum) ** 2
    for axis in (0, 1):
        power = np.mean([np.roll(power, by, axis) for by in range(-NEAR, NEAR + 1)], axis=0)
    flat: Real = np.fft.ifft2(spectrum / np.sqrt(power + np.finfo(np.float32).tiny)).real.astype(np.float32)
    return flat


def _local_mean(picture: Real, radius: int) -> Real:
    """(H, W): means of squares of 2 ``radius`` + 1 pixels; the edge is repeated outside."""
    side = 2 * radius + 1
    padded = np.pad(picture.astype(np.float64), (radius + 1, radius), mode="edge")
    sums = padded.cumsum(axis=0).cumsum(axis=1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    mean: Real = (total / side**2).astype(np.float32)
    return mean


def _fold(picture: Real, size: float) -> Real:
    """(H, W) → (128, 128): the tiles that are in it, with cells of ``size`` pixels, added up."""
    height, width = (int(side / size * 2) for side in picture.shape)
    box = (0.0, 0.0, width * size / 2, height * size / 2)
    sampled = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box))
    padded = np.pad(sampled, ((0, -height % FOLDED), (0, -width % FOLDED)))
    down, across = (side // FOLDED for side in padded.shape)
    tile: Real = padded.reshape(down, FOLDED, across, FOLDED).sum(axis=(0, 2))
    return tile


def _spectrum_of(pattern: Pattern) -> Spectrum:
    spread = np.zeros((FOLDED, FOLDED), np.float32)
    spread[::2, ::2] = pattern.pilot
    return np.conj(np.fft.rfft2(spread))


def _agreement(seen: NDArray[Any], signs: Real) -> float:
    """Standard deviations of a sum of ``seen`` with random signs that the sum with these signs is."""
    length = float(np.linalg.norm(seen))
    return float((seen * signs).sum()) / length if length > 0 else 0.0
