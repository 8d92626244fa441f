"""Log-mel spectrograms."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.media import log_mel as module
from emo_rt.media.log_mel import column_count, log_mel, mel_filters
from tests.conftest import shared_file


def sound(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


def slowly(waveform: np.ndarray) -> np.ndarray:
    """Column by column, the Fourier transform written out."""
    padded = np.pad(waveform.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    columns = [np.abs(waves @ (padded[160 * i :][:400] * window)) ** 2 for i in range(len(waveform) // 160)]
    logs = np.log10(np.maximum(mel_filters(80) @ np.array(columns).T, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


@pytest.mark.parametrize("samples", [160, 500, 1601, 4000])
def test_it_is_what_the_transform_says(samples: int) -> None:
    found = log_mel(sound(samples))
    assert found.dtype == np.float32
    assert found.shape == (80, column_count(samples))
    np.testing.assert_allclose(found, slowly(sound(samples)), atol=1e-5)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log_mel(sound(8000))
    monkeypatch.setattr(module, "BLOCK", 7)
    np.testing.assert_array_equal(log_mel(sound(8000)), whole)


def test_the_loudest_moment_sets_the_floor_of_all() -> None:
    """So a file's end changes its beginning."""
    quiet = 1e-4 * sound(3200)
    alone, before_noise = log_mel(quiet), log_mel(np.concatenate([quiet, 1e4 * sound(3200, 1)]))
    assert before_noise[:, :5].min() == before_noise.min()
    assert not np.allclose(alone[:, :5], before_noise[:, :5])


def test_silence_and_less_than_a_column() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(320, np.float32)), -1.5)
    assert log_mel(sound(159)).shape == (80, 0)


def test_filters_have_unit_area_and_cover_every_frequency() -> None:
    filters = mel_filters(80)
    assert filters.shape == (80, 201)
    np.testing.assert_allclose(filters[40:].sum(1) * 40, 1, atol=0.1)
    assert (filters[:, 3:200].sum(0) > 0).all()


def test_numbers_of_the_original() -> None:
    stored = pytest.importorskip("safetensors.numpy").load_file(
        shared_file("golden/echomimic_small/vectors.safetensors")
    )
    np.testing.assert_allclose(mel_filters(80), stored["audio.mel_filters"], atol=1e-8)
    np.testing.assert_allclose(log_mel(stored["in.wave"][0]), stored["audio.mel"], atol=1e-5)
