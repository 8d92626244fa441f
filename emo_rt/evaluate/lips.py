"""Measures of the mouth, alone and against the voice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.intervals import Sample
from emo_rt.evaluate.reading import Reading
from emo_rt.evaluate.syncnet import RATE, best_shift, lse_c, lse_d

Values = NDArray[np.float64]

LAGS = np.arange(-10, 11)
"""Frames that the lips may be late."""
LEAST_PAIRS = 0.5
"""Share of the pairs without lag that a lag must have: in a short video a far one has two, which always correlate."""
NO_SOUND = "needs a sound: the video has none, and no voice was given"
STILL = 1e-9
"""Variance below which a curve does not move."""


def lagged_pairs(first: Values, second: Values) -> Values:
    """Moments of correlations at all :data:`LAGS`: (T,), (T,) → (T, 5 · lags), NaN where a partner is missing.

    Row t holds ``first[t]`` with ``second[t + lag]``: where ``second`` is late by the lag. A lag with fewer than
    :data:`LEAST_PAIRS` is NaN throughout.
    """
    columns, least = [], LEAST_PAIRS * (np.isfinite(first) & np.isfinite(second)).sum()
    for late in LAGS.tolist():
        moved = np.full(len(second), np.nan)
        start, end = max(0, -late), min(len(second), len(second) - late)
        if end > start:
            moved[start:end] = second[start + late : end + late]
        x = np.where(np.isfinite(moved), first, np.nan)
        y = np.where(np.isfinite(first), moved, np.nan)
        if np.isfinite(x).sum() < least:
            x = y = np.full(len(first), np.nan)
        columns += [x, y, x * x, y * y, x * y]
    return np.stack(columns, axis=1)


def correlations(means: Values) -> Values:
    """(…, 5 · lags) means of the moments → (…, lags) Pearson correlations; 0 where nothing moves."""
    x, y, xx, yy, xy = np.moveaxis(means.reshape(*means.shape[:-1], -1, 5), -1, 0)
    spreads = np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0)
    safe = np.where(spreads > STILL**2, spreads, 1)
    return np.where(spreads > STILL**2, (xy - x * y) / np.sqrt(safe), 0.0)


def lagged_correlations(first: Values, second: Values) -> Values:
    """Of two whole curves at all :data:`LAGS`: (T,), (T,) → (lags,); 0 where there are no pairs."""
    pairs = lagged_pairs(first, second)
    counts = np.isfinite(pairs).sum(axis=0)
    return correlations(np.nansum(pairs, axis=0) / np.maximum(counts, 1))


def correlation(reading: Reading, context: Context) -> Sample | str:
    """Highest correlation over the lags. The interval is that of this lag: mixes that chose their own would flatter."""
    if reading.loudness is None:
        return NO_SOUND
    best = int(lagged_correlations(reading.loudness, reading.opening).argmax())
    pairs = lagged_pairs(reading.loudness, reading.opening)[:, 5 * best : 5 * best + 5]
    return Sample.of(pairs, reading.fps, lambda means: correlations(means)[..., 0])


def lag(reading: Reading, context: Context) -> Sample | str:
    """The lag of the highest correlation, in milliseconds."""
    if reading.loudness is None:
        return NO_SOUND
    frame_ms = 1000 / reading.fps
    pairs = lagged_pairs(reading.loudness, reading.opening)
    if not np.ptp(reading.loudness):
        return "the sound has no voice: it is silent or even throughout"
    if np.nanvar(reading.opening) <= STILL:
        return "the mouth stands still"
    return Sample.of(pairs, reading.fps, lambda means: LAGS[correlations(means).argmax(axis=-1)] * frame_ms)


def sync_distance(reading: Reading, context: Context) -> Sample | str:
    """LSE-D."""
    return _sync(reading, lse_d)


def sync_confidence(reading: Reading, context: Context) -> Sample | str:
    """LSE-C."""
    return _sync(reading, lse_c)


def _sync(reading: Reading, value: Callable[[Values, int], Values]) -> Sample | str:
    """At the video's own best shift: mixes that chose theirs would flatter."""
    if reading.sync is None:
        return "needs SyncNet: --syncnet FILE.onnx, and a sound"
    if not len(reading.sync):
        return "the video or its sound is too short for SyncNet"
    best = best_shift(reading.sync.mean(axis=0))
    return Sample.of(reading.sync, RATE, lambda means: value(means, best))


def silence_opening(reading: Reading, context: Context) -> Sample | str:
    """Mean lip gap in silences."""
    silent = reading.silent
    if silent is None:
        return NO_SOUND
    if not (silent & reading.found).any():
        return "the sound has no silence of five frames"
    return Sample.of(np.where(silent, reading.opening, np.nan), reading.fps)


def mouth_range(reading: Reading, context: Context) -> Sample | str:
    """Standard deviation of the lip gap."""
    return Sample.of(np.stack([reading.opening, reading.opening**2], axis=1), reading.fps, spread)


def spread(means: Values) -> Values:
    """Means of (x₁ … xₖ, x₁² … xₖ²) → root of the summed variances."""
    first, second = np.split(means, 2, axis=-1)
    return np.asarray(np.sqrt(np.maximum(second - first**2, 0).sum(axis=-1)))
