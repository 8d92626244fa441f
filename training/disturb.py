"""What happens to a voice before a microphone's samples arrive: other throats, rooms, bands, codecs, noise, levels.

Everything keeps the timing: a disturbed sound has the lips of the clean one. numpy and scipy, about 14 ms for 3 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float32]

RATE = 16_000
_WINDOW, _HOP = 512, 128
_LIFTER = 32
"""Cepstral coefficients of a spectral envelope: what is coarser than 500 Hz."""


@dataclass(frozen=True)
class Chances:
    """How often each disturbance strikes, and how hard."""

    throat: float = 0.5
    """Another pitch and other formants."""
    pitch: float = 0.35
    """Octaves, at most."""
    formants: float = 0.22
    """Octaves, at most: a throat shorter or longer by a seventh."""
    room: float = 0.5
    color: float = 0.6
    """Another microphone: bands louder and quieter."""
    band: float = 0.3
    """Low and high ends missing, as of a telephone or a laptop."""
    codec: float = 0.3
    noise: float = 0.75
    quietest_noise_db: float = 20.0
    """Speech to noise, dB: between `loudest_noise_db` and this."""
    loudest_noise_db: float = 5.0
    gain_db: float = 12.0
    """Louder or quieter, at most; what exceeds full scale is clipped."""


def disturb(sound: Floats, rng: np.random.Generator, chances: Chances | None = None) -> Floats:
    """Another voice, room, microphone, line, noise and level: (samples,) → the same, from -1 to 1."""
    want = chances or Chances()
    if rng.random() < want.throat:
        pitch, formants = (2.0 ** rng.uniform(-most, most) for most in (want.pitch, want.formants))
        sound = throat(sound, pitch, formants)
    response = np.ones(len(sound) + 1, complex)
    if rng.random() < want.color:
        response *= _color(rng, len(response))
    if rng.random() < want.room:
        response *= np.fft.rfft(room(rng), 2 * len(sound))
    if rng.random() < want.band:
        response *= _band(rng, len(response))
    heard = np.fft.irfft(np.fft.rfft(sound, 2 * len(sound)) * response)[: len(sound)]
    if rng.random() < want.noise:
        heard = heard + _noise(rng, heard, rng.uniform(want.loudest_noise_db, want.quietest_noise_db))
    if rng.random() < want.codec:
        heard = codec(heard, rng)
    return np.clip(heard * 10 ** (rng.uniform(-want.gain_db, want.gain_db) / 20), -1, 1).astype(np.float32)


def throat(sound: Floats, pitch: float, formants: float) -> Floats:
    """The same words at the same times by another speaker: (samples,) → the same. ``pitch``, ``formants``: factors.

    A phase vocoder with the envelope of the original, warped (Röbel and Rodet, 2005: envelope by liftering).
    """
    padded = np.pad(np.asarray(sound, np.float64), (_WINDOW, 2 * _WINDOW))
    window = np.hanning(_WINDOW + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * window
    spectra = np.fft.rfft(frames)
    size, bins = np.abs(spectra) + 1e-9, np.arange(_WINDOW // 2 + 1)
    envelope = _envelope(size)
    source = np.minimum(bins / pitch, bins[-1])
    fine = _at(size / envelope, source) * (bins / pitch <= bins[-1])
    phases = _phases(np.angle(spectra), pitch, source)
    shaped = fine * _at(envelope, np.minimum(bins / formants, bins[-1])) * np.exp(1j * phases)
    pieces = np.fft.irfft(shaped) * window
    made = np.zeros(len(padded))
    for offset in range(0, _WINDOW, _HOP):  # every fourth piece lies beside the last one
        part = pieces[offset // _HOP :: _WINDOW // _HOP].ravel()
        made[offset : offset + len(part)] += part[: len(made) - offset]
    voice = made[_WINDOW : _WINDOW + len(sound)] / 1.5
    level = np.sqrt(np.mean(np.square(sound)) / (np.mean(voice**2) + 1e-12))
    return (voice * level).astype(np.float32)


def _envelope(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth spectra: (frames, bins) → the same."""
    cepstrum = np.fft.irfft(np.log(size))
    cepstrum[:, _LIFTER:-_LIFTER] = 0
    smooth: NDArray[np.float64] = np.exp(np.fft.rfft(cepstrum).real)
    return smooth


def _at(rows: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row between its values: (frames, bins) at ``places`` (bins,) → (frames, bins)."""
    low = np.minimum(places.astype(int), rows.shape[1] - 2)
    share = places - low
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def _phases(angles: NDArray[np.float64], pitch: float, source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phases that turn ``pitch`` times as fast: (frames, bins) → the same, at the bins that `source` names."""
    expected = 2 * np.pi * _HOP / _WINDOW * np.arange(angles.shape[1])
    steps = np.diff(angles, axis=0, prepend=angles[:1]) - expected
    steps = steps - 2 * np.pi * np.round(steps / (2 * np.pi)) + expected
    nearest = np.round(source).astype(int)
    turned: NDArray[np.float64] = angles[:1, nearest] + np.cumsum(steps[:, nearest] * pitch, axis=0)
    return turned


def room(rng: np.random.Generator) -> NDArray[np.float64]:
    """An impulse response: the direct sound, a few echoes, a tail that decays by 60 dB in 0.1 to 0.6 s."""
    length = int(rng.uniform(0.1, 0.6) * RATE)
    tail = rng.normal(size=length) * 10 ** (-3 * np.arange(length) / length)
    tail[: int(rng.uniform(0.002, 0.012) * RATE)] = 0
    tail *= rng.uniform(0.1, 0.9) / np.sqrt(np.sum(tail**2))
    tail[rng.integers(30, min(600, length), 4)] += rng.normal(0, 0.25, 4)
    tail[0] = 1
    return tail


def _color(rng: np.random.Generator, bins: int) -> NDArray[np.float64]:
    """Nine bands, evenly spaced or narrower in the depth, each up or down by some decibels."""
    bands = np.exp(rng.normal(0, 0.5, 9))
    along = np.linspace(0, 1, bins) ** (1.0 if rng.random() < 0.5 else 0.4)
    return np.interp(8 * along, np.arange(9), bands)


def _band(rng: np.random.Generator, bins: int) -> NDArray[np.float64]:
    """High pass at 50 to 400 Hz, low pass at 2.5 to 7 kHz, both without delay."""
    frequency = np.linspace(1e-3, RATE / 2, bins)
    low, high = np.exp(rng.uniform(np.log(50), np.log(400))), np.exp(rng.uniform(np.log(2500), np.log(7000)))
    return 1 / np.sqrt(1 + (low / frequency) ** 6) / np.sqrt(1 + (frequency / high) ** 12)


def _noise(rng: np.random.Generator, sound: NDArray[np.float64], ratio_db: float) -> NDArray[np.float64]:
    """Hiss, rumble, hum of the mains, or what comes and goes as voices around do, so many decibels below the speech."""
    count = len(sound)
    bins = count // 2 + 1
    spectrum = rng.normal(size=bins) + 1j * rng.normal(size=bins)
    noise = np.fft.irfft(spectrum / np.arange(1, bins + 1) ** rng.uniform(0, 1), count)
    noise /= noise.std() + 1e-12
    times = np.arange(count) / RATE
    kind = rng.random()
    if kind < 0.25:
        mains = rng.choice((50, 60)) * 2 * np.pi * times
        noise += rng.uniform(0.3, 2) * sum(np.sin(part * mains) / part for part in range(1, 6))
    elif kind < 0.5:
        swells = np.abs(rng.normal(size=int(times[-1] * 6) + 2))
        noise *= np.interp(times * 6, np.arange(len(swells)), swells)
    level = np.sqrt(np.mean(np.square(sound))) + 1e-5
    return noise * level * 10 ** (-ratio_db / 20) / (noise.std() + 1e-12)


def codec(sound: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Half of the time 8-bit mu-law, as on telephones; else transform coding with too few bits, as of a poor stream."""
    if rng.random() < 0.5:
        peak = np.abs(sound).max() + 1e-9
        levels = 2.0 ** rng.integers(5, 8)
        code = np.round(np.log1p(255 * np.abs(sound) / peak) / np.log(256) * levels) / levels
        return np.sign(sound) * np.expm1(code * np.log(256)) / 255 * peak
    padded = np.pad(sound, (_WINDOW, 2 * _WINDOW))
    half = _WINDOW // 2
    window = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::half] * window
    spectra = np.fft.rfft(frames)
    size = np.abs(spectra)
    step = gaussian_filter1d(size, 8, axis=1, truncate=2) * rng.uniform(0.6, 1.6) + 1e-6
    kept = np.fft.irfft(spectra / (size + 1e-9) * np.round(size / step) * step) * window
    made = np.zeros(len(padded))
    for offset in (0, half):
        part = kept[offset // half :: 2].ravel()
        made[offset : offset + len(part)] += part[: len(made) - offset]
    return made[_WINDOW : _WINDOW + len(sound)]
