"""Measures of the blendshapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.frechet import Normal, distance, too_few
from emo_rt.evaluate.intervals import Sample, block_starts
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]


def expression_range(reading: Reading, context: Context) -> Sample | str:
    """Mean standard deviation of the blendshapes."""
    shapes = reading.blendshapes.astype(np.float64)
    return Sample.of(np.concatenate([shapes, shapes**2], axis=1), reading.fps, mean_deviation)


def mean_deviation(means: Values) -> Values:
    """Means of (x₁ … xₖ, x₁² … xₖ²) → mean of the standard deviations."""
    first, second = np.split(means, 2, axis=-1)
    return np.asarray(np.sqrt(np.maximum(second - first**2, 0)).mean(axis=-1))


def expressions(reading: Reading) -> Values:
    """(n, 51) of the frames with a face."""
    return reading.blendshapes[reading.found].astype(np.float64)


def e_fid(reading: Reading, context: Context) -> Sample | str:
    """Moments of the blendshapes; the distance to the true ones. The number of frames is checked over all videos."""
    if context.true_expressions is None:
        return "needs a folder of true videos"
    refused = too_few(len(context.true_expressions), context.true_expressions.shape[1], "the true videos")
    return refused or frechet_sample(
        reading.blendshapes.astype(np.float64), Normal.of(context.true_expressions), reading.fps
    )


def frechet_sample(features: Values, true: Normal, fps: float) -> Sample:
    """The sample of a Fréchet distance: sums of the features (T, d) and of their products, in blocks."""
    size = features.shape[1]
    centred = features - true.mean  # small numbers: products of large ones would cancel
    starts = block_starts(len(features), fps)
    sums, counts = [], []
    for part in np.split(centred, starts[1:]):
        good = part[np.isfinite(part).all(axis=1)]
        sums.append(np.concatenate([good.sum(axis=0), (good.T @ good).reshape(-1)]))
        counts.append(float(len(good)))
    whole = sum(counts)

    def value(means: Values) -> Values:
        mean, products = means[..., :size], means[..., size:].reshape(*means.shape[:-1], size, size)
        covariance = (products - mean[..., :, None] * mean[..., None, :]) * (whole / max(whole - 1, 1))
        return distance(Normal(mean + true.mean, covariance), true)

    return Sample(np.array(sums), np.repeat(np.array(counts)[:, None], size + size * size, axis=1), value)
