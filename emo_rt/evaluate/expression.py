"""Measures of the blendshapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.frechet import FrechetSample, Normal, too_few
from emo_rt.evaluate.intervals import Sample
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


def e_fid(reading: Reading, context: Context) -> FrechetSample | str:
    """The blendshapes against the true ones. The number of frames is checked over all videos."""
    return _against_truth(reading.blendshapes.astype(np.float64), context.true_expressions, reading.fps)


def e_fid_3dmm(reading: Reading, context: Context) -> FrechetSample | str:
    """The same of a 3D face model's expression coefficients."""
    if reading.coefficients is None:
        return "needs a network of a 3D face model: --deep3d FILE.onnx"
    return _against_truth(reading.coefficients, context.true_coefficients, reading.fps)


def coefficients(readings: Sequence[Reading]) -> Values | None:
    """(n, 64) of all frames with a face; ``None`` where no network looked."""
    found = [one.coefficients[one.found] for one in readings if one.coefficients is not None]
    return np.concatenate(found) if found else None


def _against_truth(features: Values, true: Values | None, fps: float) -> FrechetSample | str:
    if true is None:
        return "needs a folder of true videos"
    refused = too_few(len(true), true.shape[1], "the true videos")
    return refused or FrechetSample.of(features, Normal.of(true), fps)
