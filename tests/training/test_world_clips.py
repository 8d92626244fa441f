"""Clips: lips that follow the sound, heads that move as fast as they say."""

from __future__ import annotations

import numpy as np
import pytest

from training.world import Clip, Identity
from training.world.clip import build
from training.world.lips import Prosody, lip_curves, loudness_of, pitch_of
from training.world.motion import SPEED_UNIT_DEG_S, Manner, blinks, head_angles
from training.world.speech import Phoneme, Speech, available_engines, silence

needs_voice = pytest.mark.skipif(not available_engines(), reason="needs `apt-get install espeak-ng flite`")
TIMES = (np.arange(50) + 0.5) / 25


def hum(phonemes: list[Phoneme]) -> Speech:
    """A buzz wherever a phoneme is spoken."""
    count = round(phonemes[-1].end_s * 16_000)
    wave = 0.5 * np.sign(np.sin(2 * np.pi * 150 * np.arange(count) / 16_000)).astype(np.float32)
    for phoneme in phonemes:
        if not phoneme.symbol:
            wave[round(phoneme.start_s * 16_000) : round(phoneme.end_s * 16_000)] = 0
    return Speech(wave, tuple(phonemes))


def test_lips_open_for_vowels_and_close_for_m() -> None:
    script = [Phoneme("m", 0.0, 0.12), Phoneme("ɑː", 0.12, 0.4), Phoneme("p", 0.4, 0.5), Phoneme("uː", 0.5, 0.8)]
    times = np.array([0.06, 0.26, 0.44, 0.65])
    curves = lip_curves(script, times, np.full(4, 0.8))
    gap = curves.opening * (1 - curves.press)
    assert gap[1] > 0.7
    assert gap[0] < 0.05
    assert gap[2] < 0.05
    assert curves.rounding[3] > 0.7
    assert curves.rounding[1] < 0.3


def test_rounding_starts_before_its_vowel() -> None:
    script = [Phoneme("ɑː", 0.0, 0.3), Phoneme("t", 0.3, 0.38), Phoneme("uː", 0.38, 0.7)]
    before_oo = lip_curves(script, np.array([0.34]), np.ones(1)).rounding[0]
    script[2] = Phoneme("iː", 0.38, 0.7)
    assert before_oo > lip_curves(script, np.array([0.34]), np.ones(1)).rounding[0] + 0.2


def test_silence_is_closed() -> None:
    clip = build(0, "train", Identity.sample(0), silence(2.0), Manner(), 25, np.random.default_rng(0))
    assert clip.truth.opening.max() < 1e-3
    assert (clip.truth.phoneme == 0).all()


def test_pause_closes_the_mouth() -> None:
    speech = hum([Phoneme("ɑː", 0.0, 0.5), Phoneme("", 0.5, 1.2), Phoneme("ɑː", 1.2, 2.0)])
    clip = build(0, "train", Identity.sample(0), speech, Manner(), 25, np.random.default_rng(0))
    assert clip.truth.opening[17:27].max() < 0.02
    assert clip.truth.opening[6] > 0.6


@pytest.mark.parametrize("speed", [0.0, 0.1, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("seconds", [2, 6])
def test_head_moves_at_the_speed_of_its_label(speed: float, seconds: int) -> None:
    rng = np.random.default_rng(3)
    prosody = Prosody(rng.random(seconds * 25), rng.normal(0, 0.2, seconds * 25))
    angles = head_angles(rng, Manner(speed=speed), prosody, 25)
    steps = np.rad2deg(np.linalg.norm(np.diff(angles, axis=0), axis=1)) * 25
    assert steps.mean() / SPEED_UNIT_DEG_S == pytest.approx(speed, rel=0.03, abs=1e-9)
    assert np.all(np.abs(angles) < (0.43, 0.27, 0.25))


def test_speed_is_felt_in_the_poses() -> None:
    speech = hum([Phoneme("ɑː", 0.0, 2.0)])
    for speed in (0.2, 1.2):
        clip = build(0, "train", Identity.sample(0), speech, Manner(speed=speed), 25, np.random.default_rng(1))
        angles = np.array([(p.yaw, p.pitch, p.roll) for p in clip.poses])
        measured = np.rad2deg(np.linalg.norm(np.diff(angles, axis=0), axis=1)).mean() * 25 / SPEED_UNIT_DEG_S
        assert clip.speed == pytest.approx(measured)
        assert clip.speed == pytest.approx(speed, rel=0.03)


def test_blinks_are_rare_and_complete() -> None:
    times = np.arange(1500) / 25
    lids = blinks(np.random.default_rng(0), times)
    shut = np.diff((lids > 0.5).astype(int)).clip(0).sum()
    assert 8 <= shut <= 30
    assert lids.max() > 0.9
    assert lids.min() == 0


def test_loudness_and_pitch_of_a_tone() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 150 * np.arange(32_000) / 16_000)).astype(np.float32)
    tone[:16_000] = 0
    loud = loudness_of(tone, TIMES)
    assert loud[:20].max() == 0
    assert loud[30:].min() > 0.9
    assert np.abs(pitch_of(tone, TIMES)[30:48]).max() < 0.05


@needs_voice
def test_clip_is_the_same_every_time() -> None:
    first, second = Clip.sample(4, 1.2), Clip.sample(4, 1.2)
    assert first.identity == second.identity
    assert first.poses == second.poses
    assert np.array_equal(first.waveform, second.waveform)
    assert np.array_equal(first.frame(7, 64), second.frame(7, 64))
    assert Clip.sample(5, 1.2).identity != first.identity


@needs_voice
@pytest.mark.parametrize("split", ["train", "test"])
def test_clip_shapes_and_ranges(split: str) -> None:
    clip = Clip.sample(9, 2.0, fps=25, split=split)  # type: ignore[arg-type]
    truth, count = clip.truth, 50
    assert len(clip) == count
    assert len(clip.waveform) == 32_000
    assert truth.opening.shape == truth.width.shape == truth.head_speed.shape == truth.phoneme.shape == (count,)
    assert truth.angles.shape == (count, 3)
    assert truth.face_box.shape == (count, 4)
    assert truth.opening.min() >= 0
    assert truth.opening.max() <= 1
    assert truth.face_box.min() >= 0
    assert truth.face_box.max() <= 1
    assert clip.phonemes[-1].end_s <= 2.0 + 1e-9
    for pose in clip.poses:
        assert 0 <= pose.blink_left <= 1
        assert 0 <= pose.press <= 1
        assert -1 <= pose.gaze_x <= 1


@needs_voice
def test_mouth_follows_the_voice() -> None:
    """Over some clips, frames of loud vowels are wider open than frames of silence."""
    spoken, silent = [], []
    for seed in range(6):
        clip = Clip.sample(seed, 2.0)
        spoken += clip.truth.opening[clip.truth.phoneme > 0].tolist()
        silent += clip.truth.opening[clip.truth.phoneme == 0].tolist()
    assert np.mean(spoken) > 0.15
    assert np.median(silent) < 0.05
