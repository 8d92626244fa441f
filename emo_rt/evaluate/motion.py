"""Measures of head and eyes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.intervals import Sample
from emo_rt.evaluate.lips import spread
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]

SMOOTH_S = 0.28
"""Over how long angles are averaged before their speed is taken: landmarks tremble a little from frame to frame."""
OPEN_PERCENTILE, SHUT, BACK = 80, 0.6, 0.75
"""Percentile of the eye aspect ratio that is open; shares of it where a blink begins and is over."""


def jitter(reading: Reading, context: Context) -> Sample | str:
    """Mean length of the second difference, in thousandths of an eye distance; belongs to its middle frame."""
    return Sample.of(1000 * bends(reading.rigid), reading.fps)


def bends(points: Values) -> Values:
    """(T, n, 2) → (T,) mean length of the second differences; NaN at both ends."""
    bent = np.full(len(points), np.nan)
    if len(points) > 2:
        bent[1:-1] = np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean(axis=-1)
    return bent


def head_speed(reading: Reading, context: Context) -> Sample | str:
    """Mean angular speed, degrees a second."""
    return Sample.of(angular_speed(reading.angles, reading.fps), reading.fps)


def angular_speed(angles: Values, fps: float) -> Values:
    """(T, 3) degrees → (T,) degrees a second; NaN where the smoothing window is not full."""
    window = max(1, round(SMOOTH_S * fps))
    speeds = np.full(len(angles), np.nan)
    if len(angles) > window:
        smooth = np.lib.stride_tricks.sliding_window_view(angles, window, axis=0).mean(axis=-1)
        rates = np.linalg.norm(np.diff(smooth, axis=0), axis=1) * fps
        speeds[window // 2 + 1 : window // 2 + 1 + len(rates)] = rates
    return speeds


def head_range(reading: Reading, context: Context) -> Sample | str:
    """Root of the summed variances of the angles, degrees."""
    return Sample.of(np.concatenate([reading.angles, reading.angles**2], axis=1), reading.fps, spread)


def blinks(reading: Reading, context: Context) -> Sample | str:
    """Beginnings of blinks, per minute."""
    starts = np.where(np.isfinite(reading.eye_opening), blink_starts(reading.eye_opening), np.nan)
    return Sample.of(60 * reading.fps * starts, reading.fps)


def blink_starts(openings: Values) -> Values:
    """(T,) 1 where a blink begins, else 0."""
    seen = openings[np.isfinite(openings)]
    wide = float(np.percentile(seen, OPEN_PERCENTILE)) if len(seen) else np.nan
    starts, shut = np.zeros(len(openings)), False
    for index, opening in enumerate(openings):
        if not shut and opening < SHUT * wide:
            starts[index], shut = 1, True
        elif shut and opening > BACK * wide:
            shut = False
    return starts
