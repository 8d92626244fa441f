"""A live session keeps up: it goes down its ladder before frames come late, and lags as it was told to if it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from emo_rt import Animator, Avatar, Bundle, QueueFull
from tests.live_sessions import (
    CLIP_S,
    FPS,
    LADDER,
    RATE,
    Stage,
    Talker,
    delays,
    forget_costs,
    noise_picture,
    sound,
    staged,
    with_short_ladder,
)

HALF = 0.5 * CLIP_S / LADDER["best"]
"""Seconds of a step, with which a clip of the best preset takes half of the time that it lasts."""
TOO_SLOW = 1.6 * CLIP_S / LADDER["last"]
"""With which the last preset is too slow."""


@pytest.fixture(scope="module")
def animator(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Animator]:
    path = with_short_ladder(tiny_bundle.path, tmp_path_factory.mktemp("live") / "bundle")
    with Animator.load(path, device="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def avatar(animator: Animator) -> Avatar:
    return animator.prepare(noise_picture(), face_box="full")


@pytest.fixture
def stage(animator: Animator, avatar: Avatar) -> Iterator[Stage]:
    """What a clip costs is remembered as long as a model is loaded; here it is measured anew."""
    forget_costs(animator)
    with staged(animator, avatar, HALF) as opened:
        yield opened


def test_three_times_slower_it_falls_within_two_clips_and_rises_again(stage: Stage) -> None:
    session, clock = stage.open(), stage.clock
    talker = Talker(session, clock)
    talker.listen(1)
    assert session.stats.rungs == ("best", "middle", "last")
    assert (session.stats.rung, session.stats.late_frames) == ("best", 0)
    clock.step_s *= 3
    talker.listen(2 * CLIP_S + 3 / FPS)
    assert session.stats.rung == "last"
    talker.listen(2 * CLIP_S)  # what was begun before comes late yet
    late = session.stats.late_frames
    slow = delays(talker.listen(1.5))
    assert session.stats.late_frames == late
    assert np.nanmax(slow) - np.nanmin(slow) < 0.03
    clock.step_s /= 3
    talker.listen(3)
    assert (session.stats.rung, session.stats.late_frames, session.stats.steps_up) == ("best", late, 2)


def test_a_slowly_slower_machine_makes_no_frame_late(stage: Stage) -> None:
    session, clock = stage.open(), stage.clock
    talker = Talker(session, clock)
    seen = []
    for _ in range(9):
        talker.listen(0.32)
        seen.append(session.stats.rung)
        clock.step_s *= 1.1
    assert seen[0] == "best"
    assert seen[-1] != "best"
    assert session.stats.late_frames == session.stats.repeated_frames == 0


def test_a_preset_that_is_too_slow_from_the_start_is_never_run(stage: Stage) -> None:
    stage.clock.step_s *= 3
    session = stage.open()
    Talker(session, stage.clock).listen(1)
    assert (session.stats.rung, session.stats.steps_down, session.stats.late_frames) == ("last", 0, 0)


@pytest.mark.parametrize("seconds", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_too_slow_on_the_last_rung_the_delay_stays_constant(stage: Stage, seconds: float) -> None:
    """``drop``: as much sound is left out as the model is too slow, and the rest comes when it came before."""
    stage.clock.step_s = TOO_SLOW
    session = stage.open(lag="drop")
    found = Talker(session, stage.clock).listen(seconds)
    assert session.stats.is_too_slow
    parts = [
        found[start : start + len(found) // 6] for start in range(0, len(found) - len(found) // 6, len(found) // 6)
    ]
    means = [np.nanmean(delays(part)) for part in parts[1:]]
    assert max(means) - min(means) < CLIP_S
    assert np.nanmax(delays(found)) < 1.5
    assert np.diff([one.at for one in found]).max() < 2.01 / FPS  # the pairs themselves keep coming
    assert session.stats.dropped_s > 0.2 * seconds


def test_too_slow_and_told_to_wait_nothing_is_lost_and_the_queue_is_the_bound(stage: Stage) -> None:
    stage.clock.step_s = TOO_SLOW
    session = stage.open(lag="slow", queue_s=1.0, when_full="raise")
    talker = Talker(session, stage.clock)
    first, later = talker.listen(8), talker.listen(4)
    assert talker.refused > 0
    assert session.stats.dropped_s == 0
    assert np.nanmax(delays(first + later)) < 2.5
    assert abs(np.nanmean(delays(first[-100:])) - np.nanmean(delays(later))) < CLIP_S
    spoken = sound([one.pair for one in first if one.pair.speaking])[:RATE]
    np.testing.assert_allclose(np.diff(spoken) * 1000, 1 / RATE, atol=1e-4)  # the first second came whole


def test_who_takes_pairs_late_and_wants_no_delay_misses_what_was_said(stage: Stage) -> None:
    session, clock = stage.open(lag="drop"), stage.clock
    talker = Talker(session, clock)
    before = np.nanmean(delays(talker.listen(2)))
    clock.work_alone(5)
    after = np.nanmean(delays(talker.listen(3)[50:]))
    assert after - before < 2 * CLIP_S
    assert 4.5 < session.stats.dropped_s < 5.1


def test_who_takes_pairs_late_goes_on_from_now(stage: Stage) -> None:
    session, clock = stage.open(), stage.clock
    for _ in range(10):
        next(session)
    clock.work_alone(60)
    before = clock.now()
    for _ in range(25):
        next(session)
    assert 0.9 < clock.now() - before < 1.1


@pytest.mark.parametrize(
    ("seconds", "rate"), [(8, 16_000), (8, 22_051), pytest.param(3_600, 22_051, marks=pytest.mark.slow)]
)
def test_sound_and_picture_do_not_drift_apart(stage: Stage, seconds: float, rate: int) -> None:
    """Random pauses, interruptions and sizes of what is pushed: pairs stay on the clock, their sound stays on them."""
    stage.clock.step_s = 0.002
    session = stage.open(steps=1, sample_rate=rate, idle="loop", loop_s=0.32, when_full="raise", queue_s=4)
    chance, often = np.random.default_rng(11), 40 if seconds < 60 else 160  # an hour is mostly pauses
    started_at, samples, pairs = stage.clock.now(), 0, 0
    while pairs < seconds * FPS:
        match int(chance.integers(0, often)):
            case 0 | 1 | 2:
                with suppress(QueueFull):
                    session.push(0.1 * chance.standard_normal(int(chance.integers(1, rate)), np.float32))
            case 3:
                session.flush()
            case 4:
                session.clear()
        pair = next(session)
        samples, pairs = samples + len(pair.audio), pairs + 1
        assert abs(samples - pairs * rate / FPS) < 1
        assert abs(stage.clock.now() - started_at - pair.time_s) < 0.5 / FPS
    stats = session.stats
    assert stats.repeated_frames == stats.late_frames == 0
