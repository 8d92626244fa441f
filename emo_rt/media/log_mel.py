"""Log-mel spectrograms as Whisper hears them (arXiv 2212.04356, section 2.2), in numpy.

80 bands of Slaney's mel scale, windows of 25 ms every 10 ms at 16 kHz. Zero of the result is not silence.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE

Floats = NDArray[np.float32]

WINDOW = 400
"""Samples of one column: 25 ms."""
HOP = 160
"""Samples from column to column: 10 ms."""
FLOOR = 1e-10
"""Least power in front of the logarithm."""
RANGE = 8.0
"""Decades below the loudest moment of the whole sound at which everything is cut off."""
BLOCK = 8192
"""Columns that are transformed at once: an hour of sound must not need gigabytes."""

LINEAR_HZ, LINEAR_MEL = 200 / 3, 15.0
"""Slaney's scale is linear, so many Hz to a mel, up to so many mels; above it is logarithmic …"""
LOG_STEP = np.log(6.4) / 27
"""… with this step of the natural logarithm (Auditory Toolbox, technical report 1998-010)."""


def column_count(samples: int) -> int:
    """Columns of a sound: its last, half-empty one is dropped."""
    return samples // HOP


def log_mel(waveform: Floats, bands: int = 80) -> Floats:
    """(samples,) float32 at 16 kHz → (bands, samples // 160) float32, about −1 … 1.5 for speech.

    Everything below the maximum of the whole sound by more than 8 decades is raised to that floor: so the end of a
    sound has a say in its beginning.
    """
    columns = column_count(len(waveform))
    if not columns:
        return np.zeros((bands, 0), np.float32)
    padded = np.pad(waveform, WINDOW // 2, mode="reflect")
    logs = log_columns(padded[: (columns - 1) * HOP + WINDOW], bands)
    return floored(logs, logs.max())


def log_columns(samples: Floats, bands: int) -> Floats:
    """(bands, columns) float32, without a floor, of ((columns − 1)·160 + 400,) samples: column c sees 400 of them from
    160·c on."""
    columns = (len(samples) - WINDOW) // HOP + 1
    filters, logs = mel_filters(bands), np.empty((bands, columns), np.float32)
    for first in range(0, columns, BLOCK):
        last = min(first + BLOCK, columns)
        part = samples[first * HOP : (last - 1) * HOP + WINDOW]
        windows = np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::HOP] * hann()
        power = np.abs(np.fft.rfft(windows)) ** 2
        logs[:, first:last] = np.log10(np.maximum(filters @ power.T, FLOOR))
    return logs


def floored(logs: Floats, loudest: np.float32) -> Floats:
    """Columns as the encoder takes them, raised to 8 decades below the ``loudest`` moment."""
    scaled: Floats = (np.maximum(logs, loudest - np.float32(RANGE)) + np.float32(4)) / np.float32(4)
    return scaled


@cache
def hann() -> NDArray[np.float64]:
    """(400,): Hann's window, periodic."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


@cache
def mel_filters(bands: int) -> NDArray[np.float64]:
    """(bands, 201): triangles over the frequencies of a Fourier transform, each of unit area in Hz."""
    frequencies = np.linspace(0, AUDIO_SAMPLE_RATE / 2, WINDOW // 2 + 1)
    corners = _hertz(np.linspace(0, _mels(AUDIO_SAMPLE_RATE / 2), bands + 2))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return triangles


def _mels(hertz: float) -> float:
    """Above the linear part."""
    return float(LINEAR_MEL + np.log(hertz / (LINEAR_MEL * LINEAR_HZ)) / LOG_STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    above = LINEAR_MEL * LINEAR_HZ * np.exp(LOG_STEP * np.maximum(mels - LINEAR_MEL, 0))
    return np.where(mels < LINEAR_MEL, mels * LINEAR_HZ, above)
