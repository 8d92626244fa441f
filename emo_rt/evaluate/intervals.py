"""Values with their intervals: what is resampled are seconds of a video, or whole videos where there are enough.

Neighbouring frames say nearly the same, so single frames must not be drawn: intervals would be several times too
narrow. A *sample* therefore holds sums over blocks of a second or more; a measure is a function of the sums' means,
and a resampled video is another mix of the same blocks (block bootstrap; Künsch 1989). Blocks grow with the cube root
of the video's length, as they must where frames depend on each other over more than a second (Künsch 1989): a head
turns slowly. Mixes of few blocks differ too little; that is made good by percentiles further out, by Student's t
(expanded percentiles; Hesterberg 2015, arXiv 1411.5279).

What changes so slowly that a short video shows little of it still has an interval that is too narrow: the range of the
head in a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BLOCK_S = 1.0
"""Seconds in a block of a video of one second; ∛T times as many in one of T seconds."""
LEAST_BLOCKS = 5
"""A short video is cut into so many shorter blocks: one or two have no interval worth the name."""
DRAWS = 1000
"""Resampled mixes."""
CONFIDENCE = 0.95
"""Share of the mixes inside the interval."""
ENOUGH_VIDEOS = 8
"""From this many videos on, whole videos are drawn: the interval then says what other videos would give."""
SEED = 20_240_227
"""Of the draws: the same videos give the same interval."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What one video adds to a measure."""

    sums: Values
    """(blocks, k): sums of the moments over the frames of each block."""
    counts: Values
    """(blocks, k): frames that counted."""
    value: Callable[[Values], Values]
    """(…, k) means of the moments → (…,) the measure."""

    @classmethod
    def of(cls, moments: Values, fps: float, value: Callable[[Values], Values] | None = None) -> Sample:
        """From (T,) or (T, k) moments of all frames; NaN does not count. ``value``: default, the first mean itself."""
        moments = moments.reshape(len(moments), -1)
        starts = block_starts(len(moments), fps)
        known = np.isfinite(moments)
        sums = np.add.reduceat(np.where(known, moments, 0.0), starts, axis=0)
        counts = np.add.reduceat(known.astype(np.float64), starts, axis=0)
        return cls(sums, counts, value or _first)

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Of all frames of several videos, as one long one."""
        sums, counts = (joined_blocks([getattr(one, name) for one in samples]) for name in ("sums", "counts"))
        return cls(sums, counts, samples[0].value)

    def at(self, weights: Values) -> Values:
        """(…, blocks) how often each block is in → (…,) the measure. NaN where nothing counted."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.value((weights @ self.sums) / (weights @ self.counts)), np.float64)

    @property
    def whole(self) -> float:
        """The measure of the video as it is."""
        return float(self.at(np.ones(len(self.sums))))

    def drawn(self, rng: np.random.Generator, draws: int = DRAWS) -> Values:
        """(draws,) the measure of resampled mixes."""
        blocks = len(self.sums)
        return self.at(rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64))


def joined_blocks(sums: Sequence[Values]) -> Values:
    """(blocks, …) of each video → of them all. From :data:`ENOUGH_VIDEOS` on, a video is one block."""
    if len(sums) >= ENOUGH_VIDEOS:
        return np.array([one.sum(axis=0) for one in sums])
    return np.concatenate(sums)


def block_starts(frames: int, fps: float) -> NDArray[np.int64]:
    """First frame of each block."""
    seconds = BLOCK_S * max(1.0, frames / fps / BLOCK_S) ** (1 / 3)
    size = min(round(seconds * fps), -(-frames // LEAST_BLOCKS))
    return np.arange(0, frames, max(1, size))


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    """The measure."""
    low: float
    """Lower end of the 95 % interval; the value itself where there is one block only."""
    high: float
    """Upper end."""
    blocks: int
    """Parts of a video of some seconds (less in short ones), or videos, that were resampled."""


def estimate(samples: Sequence[Sample], draws: int = DRAWS) -> Estimate | None:
    """Mean over videos of a measure, with its interval. ``None`` where no video gives a number."""
    return _estimate([(sample, None) for sample in samples], draws)


def estimate_change(before: Sequence[Sample], after: Sequence[Sample], draws: int = DRAWS) -> Estimate | None:
    """Mean change of a measure from one set of videos to another, pair by pair.

    Both of a pair are resampled alike, so what they share (the sentence, the noise) widens no interval.
    """
    return _estimate(list(zip(before, after, strict=True)), draws)


def _estimate(pairs: Sequence[tuple[Sample, Sample | None]], draws: int) -> Estimate | None:
    whole = np.array([s.whole if other is None else other.whole - s.whole for s, other in pairs])
    good = np.isfinite(whole)
    if not good.any():
        return None
    value = float(whole[good].mean())
    rng = np.random.default_rng(SEED)
    if good.sum() >= ENOUGH_VIDEOS:
        picked = rng.integers(int(good.sum()), size=(draws, int(good.sum())))
        low, high = ends(whole[good][picked].mean(axis=1), value, int(good.sum()))
        return Estimate(value, low, high, int(good.sum()))
    used = [pair for pair, usable in zip(pairs, good, strict=True) if usable]
    mixes = np.mean([_mixes(sample, other, rng, draws) for sample, other in used], axis=0)
    blocks = sum(len(sample.sums) for sample, _ in used)
    low, high = ends(mixes, value, blocks)
    return Estimate(value, low, high, blocks)


def _mixes(sample: Sample, other: Sample | None, rng: np.random.Generator, draws: int) -> Values:
    if other is None:
        return sample.drawn(rng, draws)
    state = int(rng.integers(2**62))
    alike = (one.drawn(np.random.default_rng(state), draws) for one in (sample, other))
    first, second = alike
    return second - first


def ends(mixes: Values, value: float, blocks: int) -> tuple[float, float]:
    """Percentiles of what the mixes of so many blocks give; mixes without any counting frame are left out."""
    mixes = mixes[np.isfinite(mixes)]
    if not len(mixes) or blocks < 2:
        return value, value
    below = NormalDist().cdf(-sqrt(blocks / (blocks - 1)) * students_t(blocks - 1))
    low, high = np.percentile(mixes, [100 * below, 100 * (1 - below)])
    return min(float(low), value), max(float(high), value)


def students_t(degrees: int) -> float:
    """Upper end of the :data:`CONFIDENCE` interval of Student's t, to 1 % from 2 degrees of freedom on.

    Cornish and Fisher's expansion around the normal distribution (Abramowitz and Stegun 1964, 26.7.5).
    """
    z, share = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), 1 / degrees
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term * share**power for power, term in enumerate(terms))


def _first(means: Values) -> Values:
    return means[..., 0]
