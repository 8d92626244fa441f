"""Mel-frequency cepstral coefficients as SyncNet hears them: those of python_speech_features 0.6 with its defaults.

Davis and Mermelstein 1980: frames of 25 ms a hundred times a second, 26 mel filters, 13 coefficients, of which the
first is the frame's energy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RATE = 16_000
"""Samples a second."""
WINDOW, STEP, TRANSFORM = 400, 160, 512
"""Samples of a frame, from one to the next, and of the Fourier transform."""
EMPHASIS, FILTERS, COEFFICIENTS, LIFTER = 0.97, 26, 13, 22
"""Pre-emphasis, mel filters, coefficients that are kept, and the parameter of the sine lifter."""
TINY = float(np.finfo(np.float64).eps)


def cepstra(sound: NDArray[np.int16]) -> Values:
    """(n,) 16 kHz → (frames, 13)."""
    values = sound.astype(np.float64)
    raised = np.concatenate([values[:1], values[1:] - EMPHASIS * values[:-1]])
    count = 1 + max(0, -(-(len(raised) - WINDOW) // STEP))
    padded = np.pad(raised, (0, max(0, (count - 1) * STEP + WINDOW - len(raised))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP][:count]
    power = np.square(np.abs(np.fft.rfft(frames, TRANSFORM))) / TRANSFORM
    energies = _never_zero(power @ mel_filters().T)
    found = np.log(energies) @ _cosines().T * _lifter()
    found[:, 0] = np.log(_never_zero(power.sum(axis=1)))
    return np.asarray(found)


def mel_filters() -> Values:
    """(26, 257) triangles, evenly spread over mels."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), FILTERS + 2)
    edges = np.floor((TRANSFORM + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    bins = np.arange(TRANSFORM // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.where((bins >= low) & (bins < middle), rising, np.where((bins >= middle) & (bins < high), falling, 0))


def _cosines() -> Values:
    """(13, 26): the orthonormal discrete cosine transform."""
    waves = np.cos(np.pi * np.arange(COEFFICIENTS)[:, None] * (np.arange(FILTERS) + 0.5) / FILTERS)
    waves *= np.sqrt(2 / FILTERS)
    waves[0] /= np.sqrt(2)
    return waves


def _lifter() -> Values:
    return 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)


def _never_zero(values: Values) -> Values:
    return np.where(values == 0, TINY, values)
