"""Fréchet distance between two sets of feature vectors, each taken as a normal distribution.

Heusel et al. 2017 (arXiv 1706.08500), equation 6: ``|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)``. FID takes it of
Inception's features, FVD of I3D's, E-FID of expression coefficients. Too few vectors make the distance too large, and a
covariance that is not of full rank; such sets are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.intervals import SEED, Estimate, Sample, block_starts, ends, joined_blocks

Values = NDArray[np.float64]

SMALLEST = 1e-12
"""Share of the largest eigenvalue below which one is rounding."""
LEAST_PER_DIMENSION = 2
"""Fewest vectors of a set, in numbers of features."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Mean and covariance of a set."""

    mean: Values
    """(…, d)."""
    covariance: Values
    """(…, d, d), normalised by n − 1, as pytorch-fid and torchmetrics do."""

    @classmethod
    def of(cls, features: Values) -> Normal:
        """Of (n, d) vectors."""
        return cls(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


def distance(first: Normal, second: Normal) -> Values:
    """(…,) ≥ 0. ``Σ₁ Σ₂`` and the symmetric ``Σ₂^½ Σ₁ Σ₂^½`` have the same eigenvalues."""
    root = _root(second.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ first.covariance @ root)
    return _distance(first, second, eigenvalues.astype(np.float64))


def _distance(first: Normal, second: Normal, eigenvalues: Values) -> Values:
    difference = np.square(first.mean - second.mean).sum(axis=-1)
    traces = sum(np.trace(one.covariance, axis1=-2, axis2=-1) for one in (first, second))
    roots = np.sqrt(eigenvalues.clip(0)).sum(axis=-1)
    return np.asarray(np.maximum(difference + traces - 2 * roots, 0.0))


def _root(covariance: Values) -> Values:
    """(d, d) → its symmetric root."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


def effects(features: Values, true: Normal) -> Values:
    """(n, d) vectors → (n,): the distance plus what giving each vector more weight would change. Their mean is the
    distance.

    First order of a resampled distance (infinitesimal jackknife; Efron 1982): one decomposition instead of one per
    mix, which takes seconds each with 2048 features. The gradient in ``Σ₁`` is the unit matrix minus the map that
    carries the vectors to the true ones by the shortest way, ``Σ₂^½ (Σ₂^½ Σ₁ Σ₂^½)^(−½) Σ₂^½`` (Malagò et al. 2018,
    arXiv 1801.02039).
    """
    own, count = Normal.of(features), len(features)
    root = _root(true.covariance)
    values, vectors = np.linalg.eigh(root @ own.covariance @ root)
    kept = values > SMALLEST * max(float(values[-1]), 0.0)
    centred = features - own.mean
    carried = np.square(centred @ root @ vectors[:, kept]) @ (values[kept] ** -0.5)
    spread = (np.square(centred).sum(axis=1) - carried) * (count / max(count - 1, 1))
    effect = 2 * centred @ (own.mean - true.mean) + spread
    return np.asarray(float(_distance(own, true, values)) + effect - effect.mean())


def distance_sample(sets: Sequence[Values], true: Normal, rates: Sequence[float]) -> Sample:
    """Of (n, d) vectors of each of several videos, so many a second, as one set."""
    ends_of_sets = np.cumsum([len(one) for one in sets])[:-1]
    parts = np.split(effects(np.concatenate(sets), true), ends_of_sets)
    return Sample.joined([Sample.of(part, rate, _never_negative) for part, rate in zip(parts, rates, strict=True)])


def _never_negative(means: Values) -> Values:
    return np.asarray(np.maximum(means[..., 0], 0.0))


def too_few(count: int, dimensions: int, whose: str) -> str | None:
    """Why a set of that size is refused, or ``None``."""
    least = LEAST_PER_DIMENSION * dimensions
    if count >= least:
        return None
    return f"{whose} have {count} samples; a Fréchet distance of {dimensions} features needs {least} or more"


@dataclass(frozen=True, eq=False)
class FrechetSample:
    """Sums of the features and of their products over blocks, of one video or of several; and the true set."""

    sums: Values
    """(blocks, d + d²), of features minus the true mean: products of large numbers would cancel."""
    counts: Values
    """(blocks,) vectors that counted."""
    true: Normal
    """What the distance is to."""

    @classmethod
    def of(cls, features: Values, true: Normal, fps: float) -> FrechetSample:
        """Of (T, d) features of one video; rows with NaN do not count."""
        centred = features - true.mean
        sums, counts = [], []
        for part in np.split(centred, block_starts(len(features), fps)[1:]):
            good = part[np.isfinite(part).all(axis=1)]
            sums.append(np.concatenate([good.sum(axis=0), (good.T @ good).reshape(-1)]))
            counts.append(float(len(good)))
        return cls(np.array(sums), np.array(counts), true)

    @classmethod
    def joined(cls, samples: Sequence[FrechetSample]) -> FrechetSample:
        """Of all frames of several videos. From :data:`ENOUGH_VIDEOS` on, a video is one block."""
        sums, counts = (joined_blocks([getattr(one, name) for one in samples]) for name in ("sums", "counts"))
        return cls(sums, counts, samples[0].true)

    @property
    def whole(self) -> float:
        """The distance."""
        return float(self.at(np.ones(len(self.sums))))

    def at(self, weights: Values) -> Values:
        """(…, blocks) how often each block is in → (…,) the distance."""
        size, total = len(self.true.mean), weights @ self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ self.sums) / total[..., None]
            unbiased = total / np.maximum(total - 1, 1)
        mean, products = means[..., :size], means[..., size:].reshape(*means.shape[:-1], size, size)
        covariance = (products - mean[..., :, None] * mean[..., None, :]) * unbiased[..., None, None]
        return distance(Normal(mean + self.true.mean, covariance), self.true)

    def estimate(self, draws: int) -> Estimate:
        """With its interval. A mix has fewer different frames than the video, which alone makes its distance larger;
        that bias, the mean of the mixes over the value, is taken off."""
        value, mixes = self.whole, self.at(self._weights(draws, self))
        low, high = ends(np.maximum(mixes - (mixes.mean() - value), 0), value, len(self.sums))
        return Estimate(value, low, high, len(self.sums))

    def change(self, after: FrechetSample, draws: int) -> Estimate:
        """From this video to another of as many blocks, both resampled alike."""
        weights = self._weights(draws, after)
        value = after.whole - self.whole
        low, high = ends(after.at(weights) - self.at(weights), value, len(self.sums))
        return Estimate(value, low, high, len(self.sums))

    def _weights(self, draws: int, other: FrechetSample) -> Values:
        """(draws, blocks) how often each block is in a mix; mixes without two frames of both are left out."""
        blocks = len(self.sums)
        rng = np.random.default_rng(SEED)
        weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)
        return weights[np.minimum(weights @ self.counts, weights @ other.counts) > 1]
