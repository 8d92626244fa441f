"""Disturbed voices: what changes, and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from training.disturb import RATE, Chances, codec, disturb, throat
from training.world.lips import loudness_of

TIMES = (np.arange(50) + 0.5) / 25
NEVER = Chances(throat=0, room=0, color=0, band=0, codec=0, noise=0, gain_db=0)


def voice(pitch: float = 120.0) -> np.ndarray:
    """Two seconds of syllables with a formant at 800 Hz."""
    times = np.arange(2 * RATE) / RATE
    parts = [np.sin(2 * np.pi * pitch * k * times) / (1 + ((pitch * k - 800) / 150) ** 2) for k in range(1, 40)]
    syllables = 0.05 + np.clip(np.sin(2 * np.pi * 2.5 * times), 0, 1)
    wave = np.sum(parts, axis=0) * syllables
    return np.asarray(0.4 * wave / np.abs(wave).max(), np.float32)


def heard_pitch(wave: np.ndarray) -> float:
    likeness = np.fft.irfft(np.abs(np.fft.rfft(wave[4000:8096] * np.hanning(4096), 8192)) ** 2)
    return float(RATE / (np.argmax(likeness[RATE // 400 : RATE // 70]) + RATE // 400))


def formant(wave: np.ndarray) -> float:
    """The middle of the spectrum's power between 400 and 1400 Hz."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    places = np.arange(800, 2800)
    return float((power[places] * places).sum() / power[places].sum() / 2)


def test_the_seed_decides() -> None:
    first, again, other = (disturb(voice(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.float32
    assert first.shape == (2 * RATE,)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.abs(first).max() <= 1


def test_without_disturbances_nothing_changes() -> None:
    assert np.allclose(disturb(voice(), np.random.default_rng(0), NEVER), voice(), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_timing_stays(seed: int) -> None:
    clean, heard = loudness_of(voice(), TIMES), loudness_of(disturb(voice(), np.random.default_rng(seed)), TIMES)
    lags = [np.corrcoef(clean[3:-3], heard[3 + lag : len(heard) - 3 + lag])[0, 1] for lag in (-2, -1, 0, 1, 2)]
    assert np.argmax(lags) in (2, 3), "a room may smear by one frame"
    assert max(lags) > 0.6


@pytest.mark.parametrize(("pitch", "formants"), [(1.25, 1.0), (0.8, 1.0), (1.0, 1.16), (1.0, 0.86)])
def test_pitch_and_formants_move_apart(pitch: float, formants: float) -> None:
    made = throat(voice(), pitch, formants)
    assert heard_pitch(made) == pytest.approx(120 * pitch, rel=0.02)
    assert formant(made) == pytest.approx(formant(voice()) * formants, rel=0.06)
    assert np.std(made) == pytest.approx(np.std(voice()), rel=0.02)


def test_noise_has_the_ratio_asked_for() -> None:
    only = Chances(
        throat=0, room=0, color=0, band=0, codec=0, noise=1, loudest_noise_db=10, quietest_noise_db=10, gain_db=0
    )
    for seed in range(6):
        noise = disturb(voice(), np.random.default_rng(seed), only) - voice()
        assert 20 * np.log10(np.std(voice()) / np.std(noise)) == pytest.approx(10, abs=0.5)


def test_codecs_are_heard_and_understood() -> None:
    for seed in range(6):
        made = codec(voice().astype(np.float64), np.random.default_rng(seed))
        assert 0.5 < np.corrcoef(made, voice())[0, 1] < 0.99999


def test_silence_stays_finite() -> None:
    for seed in range(8):
        assert np.isfinite(disturb(np.zeros(8000, np.float32), np.random.default_rng(seed))).all()
