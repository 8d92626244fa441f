"""Many live sessions on one device: who is admitted, whose turn it is, and that nobody starves."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from emo_rt import Animator, Avatar, Bundle, LiveSession, OverloadedError, Runtime
from emo_rt.model.contract import Array
from emo_rt.runtime.live.maker import LiveClip, Made
from emo_rt.runtime.live.warming import wait_until
from tests.live_sessions import (
    CLIP_S,
    FPS,
    LADDER,
    Stage,
    forget_costs,
    noise_picture,
    run_all,
    staged,
    take,
    voice,
    with_short_ladder,
)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(with_short_ladder(tiny_bundle.path, tmp_path_factory.mktemp("live") / "bundle"))


@pytest.fixture(scope="module")
def animator(bundle: Bundle) -> Iterator[Animator]:
    """With a runtime apart from the others."""
    with (
        Runtime("cpu") as runtime,
        Animator.load(bundle.path, device="cpu", threads=1, verify=False, runtime=runtime) as loaded,
    ):
        yield loaded


@pytest.fixture(scope="module")
def avatar(animator: Animator) -> Avatar:
    return animator.prepare(noise_picture(), face_box="full")


@pytest.fixture
def stage(animator: Animator, avatar: Avatar) -> Iterator[Stage]:
    """With an empty device that nobody has measured."""
    assert animator._runtime.sessions == 0
    forget_costs(animator)
    with staged(animator, avatar) as opened:
        yield opened


def test_sessions_are_admitted_as_long_as_all_keep_up_on_the_last_rung(stage: Stage) -> None:
    stage.clock.step_s = 0.22 * CLIP_S / LADDER["last"]
    sessions = [stage.open() for _ in range(4)]  # 88 % of the device
    with pytest.raises(OverloadedError, match="4 are open, and with it the device would be busy for 110% of the time"):
        stage.open()
    assert stage.animator._runtime.sessions == 4
    run_all(sessions, stage.clock, 2)  # they go down the ladder: three steps each would be 264 %
    late = [session.stats.late_frames for session in sessions]
    found = run_all(sessions, stage.clock, 3)
    assert {session.stats.rung for session in sessions} == {"last"}
    for session, before in zip(sessions, late, strict=True):
        assert session.stats.late_frames - before <= 3  # of 75, each by less than a frame
    counts = [len(pairs) for pairs in found]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 3 * FPS - 1
    stage.close_one(sessions[0])
    stage.open()


def test_the_first_is_admitted_however_slow_the_device_is(stage: Stage) -> None:
    stage.clock.step_s = 5 * CLIP_S
    session = stage.open()
    with pytest.raises(OverloadedError):
        stage.open()
    assert len(take(session, 20)) == 20


def test_what_a_clip_costs_is_measured_once_per_model(stage: Stage) -> None:
    first = stage.open()
    assert set(first.stats.seconds_per_clip) == set(LADDER)
    for name, steps in LADDER.items():
        assert first.stats.seconds_per_clip[name] == pytest.approx(0.005 * steps, abs=1e-6)
    before = stage.clock.now()
    second = stage.open()
    assert stage.clock.now() - before <= 0.005 * LADDER["best"] + 1e-6  # its first clip alone
    assert second.stats.seconds_per_clip == first.stats.seconds_per_clip


def test_memory_is_bounded(stage: Stage, bundle: Bundle) -> None:
    session = stage.open()
    take(session, 30)
    needed = session.most_bytes
    assert 0 < session.nbytes < needed < 5e6
    with (
        Runtime("cpu", live_bytes=int(2.5 * needed)) as runtime,
        Animator.load(bundle.path, device="cpu", threads=1, runtime=runtime, verify=False) as animator,
        staged(animator, animator.prepare(noise_picture(), face_box="full")) as other,
    ):
        other.open()
        other.open()
        with pytest.raises(OverloadedError, match="more memory than live_bytes allows"):
            other.open()


def test_sessions_of_two_models_share_one_device(stage: Stage, tiny_bundle: Bundle) -> None:
    runtime = stage.animator._runtime
    with Animator.load(tiny_bundle.path, device="cpu", threads=1, verify=False, runtime=runtime) as other:
        stage.clock.step_s = 0.4 * CLIP_S / LADDER["best"]
        avatar = other.prepare(noise_picture(3), face_box="full")
        sessions = [stage.open(), stage.open(animator=other, avatar=avatar, steps=1)]
        for session in sessions:
            session.push(voice(50))
            session.flush()
        found = run_all(sessions, stage.clock, 4)
        for pairs, session in zip(found, sessions, strict=True):
            assert sum(pair.speaking for pair in pairs) == 50
            assert session.stats.late_frames == 0
        for session in sessions:
            stage.close_one(session)


def test_the_nearest_deadline_comes_first(stage: Stage) -> None:
    """Of two whose clips are composed together, the one that is due first is made first."""
    stage.clock.step_s = 0.1 * CLIP_S
    early, late = stage.open(steps=1), stage.open(steps=1)
    order = []
    for session in (early, late):
        wait_until(lambda maker=session._maker: not maker.making, session._maker, stage.clock)  # type: ignore[misc]
        record, made = session._maker, session._maker.made

        def note(clip: LiveClip, pixels: Array, who: LiveSession = session, made: Made = made) -> None:
            order.extend([(who, clip.due)] * clip.is_made)
            made(clip, pixels)

        record.made = note
    gate, reached = threading.Event(), threading.Event()

    def hold() -> Iterator[None]:
        reached.set()
        assert gate.wait(30)
        yield

    holding = threading.Thread(target=lambda: early._maker._scheduler.call(hold(), 1000))
    holding.start()
    assert reached.wait(30)
    now = stage.clock.now()
    for session, due in ((late, now + 9), (early, now + 2)):
        with session._signal.changed:
            silence = [session._conductor.voice.silence() for _ in range(4)]
            session._conductor._track.extend(silence)
            session._maker.begin(silence, session._ladder.rung, now, due)
        session._maker.wake()
    gate.set()
    holding.join()
    while len(order) < 2:
        stage.clock.wait_for_any([(early._signal, early._signal.version), (late._signal, late._signal.version)], None)
    assert [due - now for _, due in order] == [2, 9]


def test_a_video_is_made_beside_live_sessions_that_leave_time(stage: Stage) -> None:
    """Live sessions interrupt it between two steps; it is not starved, because admission leaves a tenth to others."""
    stage.clock.step_s = 0.2 * CLIP_S / LADDER["last"]
    sessions = [stage.open(preset="last") for _ in range(3)]
    made = []

    def make() -> None:
        chunks = stage.animator.stream(stage.avatar, [voice(40)], preset="last", progress=stage.clock.step)
        made.extend(len(chunk.frames) for chunk in chunks)

    video = threading.Thread(target=make)
    video.start()
    run_all(sessions, stage.clock, 4)
    stage.clock.end()
    video.join()
    assert sum(made) == 40
    assert max(session.stats.repeated_frames for session in sessions) <= 2
