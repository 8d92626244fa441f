"""What the lips are held against: how loud the voice is, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE

Curve = NDArray[np.float64]

WINDOW_S = 0.06
"""Length of sound that counts for a frame, around its middle: a few periods of the lowest voice."""
RANGE_DB = 30.0
"""From where a voice is as good as silent to its loud parts."""
LOUD_SHARE = 92
"""Percentile of the levels that counts as loud: above it are single bursts."""
SILENT = 1 - 25 / RANGE_DB
"""Loudness below which a frame is silent: 25 dB under the loud parts."""
NEAR_FRAMES = 2
"""A silent frame counts only where its neighbours within this reach are silent as well: lips lead and trail sounds."""
QUIET = 1e-4
"""Root mean square below which a whole recording has no voice."""


def loudness(sound: NDArray[np.float32], frames: int, fps: float) -> Curve:
    """How loud it is in each frame: 0 for :data:`RANGE_DB` below the loud parts, 1 for those. (n,) → (T,)."""
    half = round(WINDOW_S / 2 * AUDIO_SAMPLE_RATE)
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound.astype(np.float64)))])
    middle = np.round((np.arange(frames) + 0.5) / fps * AUDIO_SAMPLE_RATE).astype(int)
    first, last = (np.clip(middle + side, 0, len(sound)) for side in (-half, half))
    level = np.sqrt((energy[last] - energy[first]) / np.maximum(last - first, 1))
    loud = float(np.percentile(level, LOUD_SHARE)) if frames else 0.0
    if loud < QUIET:
        return np.zeros(frames)
    decibels: Curve = 20 * np.log10(np.maximum(level / loud, 1e-6))
    return np.clip(1 + decibels / RANGE_DB, 0, 1)


def silences(loud: Curve) -> NDArray[np.bool_]:
    """Frames well inside a silence. (T,) → (T,)."""
    quiet = np.pad(loud < SILENT, NEAR_FRAMES, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(quiet, 2 * NEAR_FRAMES + 1)
    return np.asarray(windows.all(axis=1))
