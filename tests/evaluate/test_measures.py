"""The measures measure: against the truth of drawn videos, and over five graded degradations of each."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emo_rt.evaluate import of_frames
from emo_rt.evaluate.assessment import Eyes, measured
from emo_rt.evaluate.context import DLIB, Context, PortraitFacts
from emo_rt.evaluate.expression import expressions
from emo_rt.evaluate.intervals import Estimate, Sample
from emo_rt.evaluate.lips import LAGS, correlation, lagged_correlations
from emo_rt.evaluate.metrics import METRICS, take
from emo_rt.evaluate.motion import blink_starts
from emo_rt.evaluate.reading import UPPER_LIP, Reading
from tests.evaluate.drawn import FPS, clip, footage, late_lips, true_frames

GRADES = (0.0, 0.25, 0.5, 0.75, 1.0)
RNG = np.random.default_rng(0)


def value(name: str, reading: Reading, context: Context | None = None) -> float:
    sample = take(METRICS[name], reading, context or Context())
    assert isinstance(sample, Sample), sample
    return sample.whole


def rising(values: list[float]) -> bool:
    return all(first < second for first, second in pairwise(values))


def changed(reading: Reading, **curves: Any) -> Reading:
    return replace(reading, **curves)


def test_lip_gap_is_the_true_opening(true_reading: Reading) -> None:
    assert true_reading.found.all()
    assert np.corrcoef(true_reading.opening, clip().truth.opening)[0, 1] >= 0.9


@pytest.mark.parametrize("seed", [2, 4, 5])
def test_lip_gap_is_the_true_opening_in_every_style(seed: int, eyes: Eyes) -> None:
    reading = eyes.read(footage(true_frames(seed, 1.2), seed=seed, seconds=1.2))
    assert np.corrcoef(reading.opening, clip(seed, 1.2).truth.opening)[0, 1] >= 0.9


def test_the_head_turns_as_it_was_drawn(true_reading: Reading) -> None:
    true = np.degrees(clip().truth.angles)
    assert abs(np.corrcoef(true_reading.angles[:, 0], true[:, 0])[0, 1]) >= 0.8


@pytest.mark.parametrize("frames", [3])
def test_a_planted_lag_is_read_exactly(frames: int, true_reading: Reading, eyes: Eyes) -> None:
    late = eyes.read(footage(late_lips(frames)))
    assert value("lip_lag", late) - value("lip_lag", true_reading) == pytest.approx(1000 * frames / FPS)


@pytest.mark.parametrize("frames", [-6, -1, 2, 5])
def test_a_planted_lag_of_the_curve_is_read_exactly(frames: int, true_reading: Reading) -> None:
    """The same on what was read already: as fast as a test can be, over more lags."""
    late = changed(true_reading, landmarks=np.roll(true_reading.landmarks, frames, axis=0))
    assert value("lip_lag", late) - value("lip_lag", true_reading) == pytest.approx(1000 * frames / FPS)


def test_lags_with_few_pairs_do_not_count() -> None:
    curve = np.random.default_rng(1).normal(size=12)
    found = lagged_correlations(curve, curve)
    assert LAGS[found.argmax()] == 0
    assert not found[np.abs(LAGS) > 6].any()
    assert found[np.abs(LAGS) <= 6].all()


def test_a_still_mouth_is_neither_late_nor_early(true_reading: Reading) -> None:
    still = changed(true_reading, landmarks=np.repeat(true_reading.landmarks[:1], len(true_reading), axis=0))
    assert take(METRICS["lip_lag"], still, Context()) == "the mouth stands still"


def test_lips_that_follow_less_correlate_less(true_reading: Reading) -> None:
    """From what was read, the lips lose their share to those of any other moment."""
    other = true_reading.landmarks[np.random.default_rng(3).permutation(len(true_reading))]
    mixes = [changed(true_reading, landmarks=(1 - g) * true_reading.landmarks + g * other) for g in GRADES]
    assert rising([-value("lip_correlation", mix) for mix in mixes])


def test_the_interval_of_a_mouth_that_does_not_follow_lies_around_its_value() -> None:
    """A mix that chose its own best lag would find a higher correlation than the video has."""
    rng, apart = np.random.default_rng(4), []
    for _ in range(20):
        voice, gap = np.apply_along_axis(np.convolve, 1, rng.normal(size=(2, 206)), np.ones(7), mode="valid")
        reading: Any = SimpleNamespace(loudness=voice, opening=gap, fps=FPS)
        sample = correlation(reading, Context())
        assert isinstance(sample, Sample)
        apart.append(float(sample.drawn(np.random.default_rng(0), 200).mean()) - sample.whole)
    assert abs(np.mean(apart)) < 0.02


def test_lips_open_in_silence(true_reading: Reading) -> None:
    silent = true_reading.silent
    assert silent is not None
    assert silent.any()
    opened = []
    for grade in GRADES:
        landmarks = true_reading.landmarks.copy()
        landmarks[silent, UPPER_LIP, 1] -= 10 * grade
        opened.append(value("silence_opening", changed(true_reading, landmarks=landmarks)))
    assert rising(opened)


def test_a_stiff_face_moves_less(true_reading: Reading) -> None:
    """Mouth, head and expression drawn towards their means, in five steps."""
    mean = {name: getattr(true_reading, name).mean(axis=0) for name in ("landmarks", "angles", "blendshapes")}
    stiff = [
        changed(true_reading, **{n: m + (1 - g) * (getattr(true_reading, n) - m) for n, m in mean.items()})
        for g in GRADES
    ]
    for name in ("mouth_range", "head_speed", "head_range", "expression_range"):
        assert rising([-value(name, one) for one in stiff]), name


def test_a_trembling_head_jitters(true_reading: Reading) -> None:
    tremor = RNG.normal(0, 1, (len(true_reading), 1, 3)).astype(np.float32)
    shaken = [changed(true_reading, landmarks=true_reading.landmarks + 2 * g * tremor) for g in GRADES]
    assert rising([value("jitter", one) for one in shaken])


def test_blinks_are_counted(eyes: Eyes) -> None:
    """Four blinks drawn into a video whose eyes are open otherwise; what was read of the last ones is taken back."""
    from tests.evaluate.drawn import drawn

    one = clip(2, 1.6)
    starts = (2, 8, 14, 20)
    blinking = [float(index - index % 2 in starts) for index in range(24)]
    poses = [replace(p, blink_left=b, blink_right=b) for p, b in zip(one.poses, blinking, strict=False)]
    reading = eyes.read(of_frames("blinking", drawn(poses, one.identity), FPS))
    counted = []
    for blinks in range(5):
        landmarks = reading.landmarks.copy()
        for start in starts[blinks:]:
            landmarks[start : start + 2] = landmarks[0]
        counted.append(value("blinks", changed(reading, landmarks=landmarks)) / 60 * len(reading) / FPS)
    assert counted == pytest.approx([0, 1, 2, 3, 4])


def test_half_shut_eyes_are_no_second_blink() -> None:
    openings = np.array([0.3] * 5 + [0.1, 0.19, 0.1, 0.3] + [0.3] * 5)
    assert blink_starts(openings).sum() == 1


def test_pixels_degrade_in_five_steps(recognising_eyes: Eyes) -> None:
    """Another face that shines through more and more, and flicker, in one video per grade."""
    frames, other = true_frames()[:5].astype(np.float32), true_frames(7, 0.5)[:5].astype(np.float32)
    flicker = RNG.normal(0, 6, frames.shape).astype(np.float32)
    readings = []
    for grade in GRADES:
        mixed = (1 - 0.6 * grade) * frames + 0.6 * grade * other
        worse = (mixed + grade * flicker).clip(0, 255).astype(np.uint8)
        readings.append(recognising_eyes.read(of_frames("worse", worse, FPS)))
    portrait = PortraitFacts({DLIB: np.nanmean(readings[0].embeddings[DLIB], axis=0)})
    context = Context(portrait_of=lambda name: portrait)
    assert rising([value("identity", one, context) for one in readings])
    assert rising([value("background_flicker", one) for one in readings])


def test_blur_is_seen(eyes: Eyes) -> None:
    from scipy.ndimage import gaussian_filter

    frames = true_frames()[:3].astype(np.float32)
    blurred = [gaussian_filter(frames, (0, 1.5 * g, 1.5 * g, 0)).clip(0, 255).astype(np.uint8) for g in GRADES]
    assert rising([-value("sharpness", eyes.read(of_frames("blurred", one, FPS))) for one in blurred])


def test_jumps_at_borders_and_frozen_frames(true_reading: Reading) -> None:
    change = true_reading.face_change
    border = np.arange(len(change)) % 12 == 0
    jumps = [changed(true_reading, face_change=np.where(border, change * (1 + g), change)) for g in GRADES]
    assert rising([value("border_jump", one, Context(clip_frames=12)) for one in jumps])
    stills = [
        changed(true_reading, face_change=np.where(np.arange(len(change)) % 10 < 4 * g, 0, change)) for g in GRADES
    ]
    assert rising([value("frozen", one) for one in stills])


def test_repeated_frames_are_frozen(eyes: Eyes) -> None:
    frames = true_frames()[:21].copy()
    frames[10::10] = frames[9:-1:10]
    assert value("frozen", eyes.read(of_frames("repeating", frames, FPS))) == pytest.approx(100 * 2 / 20)


def test_expressions_further_from_the_truth_have_a_larger_e_fid(true_reading: Reading) -> None:
    context = Context(true_expressions=np.concatenate([expressions(true_reading)] * 2))
    strange = RNG.random(true_reading.blendshapes.shape).astype(np.float32)
    mixes = [changed(true_reading, blendshapes=(1 - g) * true_reading.blendshapes + g * strange) for g in GRADES]
    found = [measured(METRICS["e_fid_blendshapes"], [mix, mix], context) for mix in mixes]
    assert all(isinstance(one, Estimate) for one in found)
    assert rising([one.value for one in found if isinstance(one, Estimate)])
    assert found[0].value == pytest.approx(0, abs=1e-3)  # type: ignore[union-attr]


def test_few_frames_have_no_e_fid(true_reading: Reading) -> None:
    context = Context(true_expressions=expressions(true_reading))
    refused = measured(METRICS["e_fid_blendshapes"], [true_reading], context)
    assert isinstance(refused, str)
    assert "102 or more" in refused


def test_lost_faces_and_lengths_are_told(true_reading: Reading) -> None:
    counts = []
    for grade in GRADES:
        lost = np.arange(len(true_reading)) < grade * 40
        curves = {name: getattr(true_reading, name).copy() for name in ("landmarks", "sharpness", "blendshapes")}
        for curve in curves.values():
            curve[lost] = np.nan
        counts.append(value("face_found", changed(true_reading, **curves)))
    assert rising([-one for one in counts])
    gaps = [value("length_gap", changed(true_reading, video_s=3.0 + g, audio_s=3.0)) for g in GRADES]
    assert gaps == pytest.approx([1000 * g for g in GRADES])


def test_a_video_without_a_face_has_reasons_instead_of_values(eyes: Eyes) -> None:
    reading = eyes.read(of_frames("grey", np.full((6, 64, 64, 3), 90, np.uint8), FPS))
    assert value("face_found", reading) == 0
    for name, metric in METRICS.items():
        if name not in ("face_found",):
            assert isinstance(take(metric, reading, Context()), str), name
