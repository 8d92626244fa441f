"""The measures of the quality benchmark say what their definitions say, on videos whose answer is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from emo_rt import Box
from emo_rt.benchmarks import quality, quality_measures, quality_people, quality_voice
from emo_rt.benchmarks.harness import as_json
from emo_rt.benchmarks.quality_pictures import contact_sheet
from emo_rt.errors import ConfigError

RNG = np.random.default_rng(0)
TURN = np.linspace(0, 1, 101)


def person(colour: tuple[int, int, int], frames: int = 24) -> quality_people.Person:
    picture = np.full((512, 512, 3), 40, np.uint8)
    picture[128:400, 128:384] = colour
    small = picture[::4, ::4]
    return quality_people.Person(
        seed=0, portrait=picture, face=Box(128, 128, 384, 400), frames=np.stack([small] * frames),
        waveform=np.zeros(100, np.float32), opening=np.zeros(frames), silent=np.ones(frames, bool),
        loudness=np.zeros(frames), melody=np.zeros(frames), brow=np.zeros(frames),
    )  # fmt: skip


def reading(features: np.ndarray) -> quality_people.Reading:
    nothing = np.zeros((len(features), 3))
    return quality_people.Reading(nothing[:, 0], nothing, nothing[:, :2], features)


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_the_best_lag_is_how_late_the_lips_are(late: int) -> None:
    true = RNG.random(200)
    read = np.roll(true, late)
    scores = {lag: quality_measures.lagged(true, read, lag) for lag in quality_measures.LAGS}
    assert max(scores, key=scores.__getitem__) == late
    assert scores[late] == pytest.approx(1, abs=0.02)


def test_lips_that_do_not_move_correlate_with_nothing() -> None:
    assert quality_measures.lagged(RNG.random(50), np.full(50, 0.3), 0) == 0


@pytest.mark.parametrize("speed", [0.1, 1.0, 1.3])
def test_head_speed_has_the_unit_of_the_label(speed: float) -> None:
    steady = np.radians(20 * speed * np.arange(100) / 25)
    assert quality_measures.head_speed(np.stack([steady, 0 * steady, 0 * steady], axis=1)) == pytest.approx(speed)


def test_jitter_is_told_apart_at_borders() -> None:
    place = np.zeros((48, 2))
    place[12:, 0], place[24:, 0], place[36:, 0] = 0.01, 0.02, 0.03  # a jump at each border of clips of 12 frames
    inside, borders = quality_measures.jitter([place], 12)
    assert inside == 0
    assert borders == pytest.approx(0.01)


def test_faces_are_nearest_to_their_own_portrait() -> None:
    people = [person((200, 150, 120)), person((90, 60, 40)), person((250, 220, 200))]
    top1, margin = quality_measures.identity(people, [p.frames for p in people])
    assert top1 == 1
    assert margin > 100
    mixed, _ = quality_measures.identity(people, [people[1].frames, people[0].frames, people[2].frames])
    assert mixed == pytest.approx(1 / 3)


def test_what_the_mouth_does_is_not_identity() -> None:
    one = person((200, 150, 120))
    speaking = one.frames.copy()
    top, bottom = int(32 + 68 * 10 / 16), int(32 + 68 * 15 / 16)
    speaking[:, top:bottom, 48:80] = 0
    assert np.array_equal(quality_measures.face_colours(speaking, one), quality_measures.face_colours(one.frames, one))


def test_colour_is_what_cells_are_off_by() -> None:
    one = person((200, 150, 120))
    paler = one.frames + np.array([10, 0, 0], np.uint8)
    assert quality_measures.colour([one], [one.frames]) == 0
    assert quality_measures.colour([one], [paler]) == pytest.approx(10 / np.sqrt(3))
    fine = one.frames.copy()
    fine[:, ::2] += 10
    fine[:, 1::2] -= 10
    assert quality_measures.colour([one], [fine]) == pytest.approx(0, abs=1e-9)


def test_sharpness_is_the_share_of_fine_detail() -> None:
    detailed = person((200, 150, 120))
    noise = np.random.default_rng(1).integers(-20, 21, detailed.frames.shape)
    rough = dataclasses.replace(detailed, frames=(detailed.frames + noise).clip(0, 255).astype(np.uint8))
    half = (0.5 * rough.frames + 0.5 * rough.frames.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    assert quality_measures.sharpness([rough], [rough.frames]) == 1
    assert quality_measures.sharpness([rough], [half]) == pytest.approx(0.25, abs=0.02)
    assert quality_measures.sharpness([rough], [detailed.frames]) < 0.2


@pytest.mark.parametrize("blur", [1, 3, 5])
def test_edges_are_as_wide_as_they_are_blurred(blur: int) -> None:
    """A step behind a box filter is a ramp of its length; four fifths of a ramp lie between the tenths."""
    row = np.convolve(np.where(np.arange(80) < 40, 30.0, 210.0), np.ones(blur) / blur, mode="valid")
    frame = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2).round().astype(np.uint8)
    np.testing.assert_allclose(quality_measures.edge_widths(frame), 0.8 * blur, rtol=0.02)
    faint = (frame // 4).astype(np.uint8)
    assert len(quality_measures.edge_widths(faint)) == 0


def talkers(count: int = 4, frames: int = 100) -> list[tuple[quality_people.Person, quality_people.Reading]]:
    """Brows follow the pitch; two of the judge's features show brows, differently placed in each person. Heads turn as
    fast as the voice is loud."""
    found = []
    for _ in range(count):
        melody = np.where(RNG.random(frames) < 0.3, 0, RNG.normal(size=frames))
        brow = 0.5 * melody + 0.02 * RNG.normal(size=frames)
        features = 0.01 * RNG.normal(size=(frames, 96)) + RNG.normal(size=96)
        features[:, 3] += brow
        features[:, 7] -= 2 * brow
        loudness = np.abs(np.sin(np.arange(frames) / 9 + RNG.random()))
        angles = np.cumsum(loudness)[:, None] * (0.02, 0, 0)
        one = dataclasses.replace(person((200, 150, 120), frames), melody=melody, brow=brow, loudness=loudness)
        found.append((one, quality_people.Reading(np.zeros(frames), angles, np.zeros((frames, 2)), features)))
    return found


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.5, 1.0])
def test_how_much_brows_and_heads_follow_the_voice(share: float) -> None:
    people, truths = zip(*talkers(), strict=True)
    made = []
    for truth in truths:
        mean = truth.features.mean(axis=0)
        made.append(
            dataclasses.replace(truth, features=mean + share * (truth.features - mean), angles=share * truth.angles)
        )
    assert quality_voice.brow_pitch(people, truths, made) == pytest.approx(share, abs=0.01)
    assert quality_voice.head_energy(people, truths, made) == pytest.approx(abs(share), abs=0.01)


def test_a_style_that_nobody_draws_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"style is 'oils'; expected one of comic, flat, painted, line, print"):
        quality_people.load_people(1, 64, style="oils")


def test_drift_is_how_much_worse_a_video_ends_than_it_begins() -> None:
    one = person((200, 150, 120), frames=60)
    paler = one.frames + np.array([8, 8, 8], np.uint8)
    assert quality_measures.drift([one], [paler]) == pytest.approx(1, rel=1e-3)
    paler[-25:] += 8
    assert quality_measures.drift([one], [paler]) == pytest.approx(2, rel=1e-3)


def test_background_counts_only_what_stands_still() -> None:
    one = person((200, 150, 120))
    moving = one.frames.copy()
    moving[::2, :10] += 6
    assert quality_measures.background([one], [one.frames]) == 0
    assert quality_measures.background([one], [moving]) == pytest.approx(6 * 10 / 128)


def test_frechet_distance() -> None:
    real = [reading(RNG.random((240, 96)))]
    assert quality_measures.frechet(real, real) == pytest.approx(0, abs=1e-6)
    near = [reading(real[0].features + 0.01)]
    far = [reading(real[0].features + 0.2)]
    assert 0 < quality_measures.frechet(near, real) < quality_measures.frechet(far, real)


def test_table_has_a_line_for_each_setting() -> None:
    halves = dict.fromkeys((field.name for field in dataclasses.fields(quality.Row)), 0.5) | {"lip_lag": 0}
    row = quality.Row(**halves | {"head_speed": {"0.1": 0.2, "0.5": 0.4, "1.0": 0.9, "1.3": 1.2}})  # type: ignore[arg-type]
    truth = dataclasses.replace(row, lip_correlation=0.97, head_speed=None, box_control=None)
    text = quality.markdown({"ddim, 40 steps": row, "truth": truth})
    lines = text.splitlines()
    assert lines[2].startswith("| ddim, 40 steps | 0.5 | 0 |")
    assert lines[3].startswith("| truth | 0.97 | 0 |")
    assert lines[3].endswith("| 0.5 | – | 0.5 | 0.5 |")
    assert lines[-1] == "| ddim, 40 steps | 0.2 | 0.4 | 0.9 | 1.2 |"


def test_what_was_not_measured_has_no_key() -> None:
    halves = dict.fromkeys((field.name for field in dataclasses.fields(quality_measures.Measures)), 0.5) | {
        "silence_closed": None
    }
    row = json.loads(as_json(quality.Row(**halves)))  # type: ignore[arg-type]
    assert row == halves


def test_pictures() -> None:
    one = person((200, 150, 120))
    sheet = contact_sheet([one.portrait] * 2, [one.frames] * 2, [one.frames] * 2)
    assert sheet.size == (128 * 4, 128 * 4)
