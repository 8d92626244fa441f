"""Heads that travel or stay, and expression that follows the voice."""

from __future__ import annotations

import numpy as np
import pytest

from training.world import Clip, Identity, Speech
from training.world.clip import build
from training.world.lips import Prosody
from training.world.motion import MAX_TRAVEL, Manner, brow_curve, head_angles, head_shift
from training.world.renderer import stage_unit
from training.world.speech import Phoneme, Voice, available_engines, is_vowel, silence, synthesize

needs_espeak = pytest.mark.skipif("espeak" not in available_engines(), reason="needs `apt-get install espeak-ng`")
TALK = Prosody(np.random.default_rng(1).random(100), np.random.default_rng(2).normal(0, 0.2, 100))


@pytest.mark.parametrize("travel", [0.05, 0.12, MAX_TRAVEL])
def test_a_head_goes_as_far_as_it_travels(travel: float) -> None:
    rng = np.random.default_rng(0)
    manner = Manner(speed=0.7, travel=travel)
    shift = head_shift(rng, manner, TALK, head_angles(rng, manner, TALK, 25), 25)
    assert np.ptp(shift, axis=0) == pytest.approx((travel, travel / 3))


def test_some_heads_travel_and_others_stay() -> None:
    travels = np.array([Manner.sample(np.random.default_rng(seed)).travel for seed in range(400)])
    assert 0.3 < np.mean(travels == 0) < 0.6
    assert travels.max() > 0.19


def test_the_face_box_goes_with_the_head() -> None:
    person = Identity.sample(2)
    boxes = {}
    for travel in (0.0, MAX_TRAVEL):
        clip = build(0, "train", person, silence(4.0), Manner(0.3, travel), 25, np.random.default_rng(4))
        boxes[travel] = clip.truth.face_box
        middle = (boxes[travel][:, 0] + boxes[travel][:, 2]) / 2
        placed = 0.5 + np.array([pose.x for pose in clip.poses]) * stage_unit(person)
        assert np.abs(middle - placed).max() < 0.06
    least, most = boxes[MAX_TRAVEL][:, 0].min(), boxes[MAX_TRAVEL][:, 2].max()
    tight = boxes[0.0][:, 2].max() - boxes[0.0][:, 0].min()
    assert most - least > tight + 0.12


def test_brows_rise_with_the_melody_and_with_accents() -> None:
    flat, loud = np.zeros(100), np.full(100, 0.6)
    high, accent = flat.copy(), loud.copy()
    high[40:60] = 0.3
    accent[45:55] = 1.0
    assert brow_curve(Prosody(loud, high), 25)[50] > 0.4
    assert brow_curve(Prosody(loud, -high), 25)[50] < -0.4
    assert brow_curve(Prosody(accent, flat), 25)[50] > 0.1
    assert np.abs(brow_curve(Prosody(loud, flat), 25)[20:80]).max() < 0.02


def test_a_loud_voice_moves_the_head_and_a_pause_lets_it_rest() -> None:
    loudness, melody = np.zeros(400), np.zeros(400)
    loudness[200:] = 0.9
    melody[200:] = np.random.default_rng(5).normal(0, 0.25, 200)
    ratios = []
    for seed in range(20):
        angles = head_angles(np.random.default_rng(seed), Manner(speed=0.6), Prosody(loudness, melody), 25)
        steps = np.linalg.norm(np.diff(angles, axis=0), axis=1)
        ratios.append(steps[215:].mean() / steps[:185].mean())
    assert np.median(ratios) > 2


def test_a_singer_nods_with_the_beat() -> None:
    prosody = Prosody(np.full(200, 0.8), np.zeros(200), beat_s=0.6)
    pitch = np.mean(
        [head_angles(np.random.default_rng(seed), Manner(speed=0.8), prosody, 25)[:, 1] for seed in range(30)], axis=0
    )
    spectrum = np.abs(np.fft.rfft((pitch - pitch.mean()) * np.hanning(200)))
    assert np.argmax(spectrum[5:]) + 5 == pytest.approx(200 / 25 / 0.6, abs=1)


@needs_espeak
def test_sung_vowels_start_on_halves_of_beats() -> None:
    voice = Voice(rate=110, sings=True, beat_s=0.6)
    song = synthesize(("mama", "sings", "a", "happy", "song."), voice, np.random.default_rng(0))
    starts = np.array([p.start_s for p in song.phonemes if p.symbol and is_vowel(p.symbol)])
    steps = np.diff(starts) / 0.3
    assert np.abs(steps - np.round(steps)).max() < 0.02
    assert np.diff(starts).max() > 0.55


@needs_espeak
def test_a_song_tells_its_beat() -> None:
    clips = [Clip.sample(seed, 1.0) for seed in range(14)]
    beats = {clip.prosody.beat_s for clip in clips}
    assert 0.0 in beats
    assert any(0.45 <= beat <= 0.85 for beat in beats)


def test_gain_does_not_change_the_expression() -> None:
    """Loudness is told from the recording's own loud parts."""
    wave = np.sin(2 * np.pi * 140 * np.arange(32_000) / 16_000) * np.repeat([0.1, 0.8, 0.3, 0.6], 8000)
    whole, quiet = (
        build(0, "train", Identity.sample(0), Speech((wave * gain).astype(np.float32), (Phoneme("a", 0, 2.0),)),
              Manner(), 25, np.random.default_rng(0))
        for gain in (1.0, 0.25)
    )  # fmt: skip
    assert np.allclose([p.brow for p in whole.poses], [p.brow for p in quiet.poses], atol=0.02)
