"""Packs of voices: the same clips where no synthesiser is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import opus
from training.corpus import Recording, clip_path, draw_all, main
from training.voices import Voices, say_all
from training.world import Clip
from training.world.lips import loudness_of
from training.world.speech import available_engines

try:
    opus.lookahead()
except opus.OpusError as error:
    pytest.skip(str(error), allow_module_level=True)

needs_voice = pytest.mark.skipif(not available_engines(), reason="needs `apt-get install espeak-ng flite`")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voices") / "pack.npz"
    main(["voices", str(path), "--clips", "3", "--first", "2", "--seconds", "1.2", "--varied", "--workers", "1"])
    return path


def test_decoded_sound_is_in_its_place() -> None:
    times = np.arange(16_000) / 16_000
    wave = (0.4 * np.sin(2 * np.pi * 180 * times) * (times > 0.5)).astype(np.float32)
    packets = opus.encode(wave, 15_000)
    again = opus.decode(packets, len(wave))
    assert again.shape == wave.shape
    assert sum(map(len, packets)) < 2500
    assert np.abs(again[:7600]).max() < 0.05
    assert np.corrcoef(wave[8200:], again[8200:])[0, 1] > 0.8, "6 ms late it would be 0.4"


@needs_voice
def test_a_pack_says_and_moves_what_the_synthesisers_did(pack: Path) -> None:
    voices = Voices.load(pack)
    assert list(voices.seeds) == [2, 3, 4]
    times = (np.arange(30) + 0.5) / 25
    for seed in voices.seeds:
        told, spoken = voices.clip(seed), Clip.sample(seed, 1.2, varied=True)
        assert told.poses == spoken.poses
        assert told.identity == spoken.identity
        assert np.array_equal(told.truth.phoneme, spoken.truth.phoneme)
        assert len(told.waveform) == len(spoken.waveform)
        loud = spoken.prosody.loudness > 0.5
        assert np.abs(loudness_of(told.waveform, times) - spoken.prosody.loudness)[loud].mean() < 0.12


@needs_voice
def test_pictures_need_no_synthesiser(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    available_engines.cache_clear()
    try:
        assert available_engines() == ()
        assert list(draw_all(pack, tmp_path, 64, style="line", limit=2)) == [2, 3]
    finally:
        available_engines.cache_clear()
    clip = Recording.load(clip_path(tmp_path, 2))
    assert clip.frames.shape == (30, 64, 64, 3)
    assert clip.brows.shape == (30,)
    assert clip.prosody.shape == (30, 2)
    assert clip.angles.shape == (30, 3)


@needs_voice
def test_a_pack_is_the_same_every_time(pack: Path, tmp_path: Path) -> None:
    say_all(range(2, 5), 1.2, "train", True, 15_000).save(tmp_path / "again.npz")
    with np.load(pack) as first, np.load(tmp_path / "again.npz") as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(opus.ctypes, "CDLL", missing)
    opus._opus.cache_clear()
    try:
        with pytest.raises(opus.OpusError, match="libopus0"):
            opus.encode(np.zeros(320, np.float32), 15_000)
    finally:
        opus._opus.cache_clear()
