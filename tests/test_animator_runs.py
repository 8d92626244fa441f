"""Runs of the front door: several at once, progress, cancelling, errors, closing, memory."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_rt import (
    AnimateOptions,
    Animator,
    Avatar,
    Bundle,
    Cancelled,
    Chunk,
    ClosedError,
    Progress,
)
from emo_rt.errors import AudioError
from emo_rt.model.contract import Array
from emo_rt.model.options import SOLVERS
from tests.animations import (
    CLIP,
    FACE,
    FRAME,
    RATE,
    frames_of,
    picture,
    voice,
)

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(picture(), face_box=FACE)


# Several at once


@pytest.mark.parametrize("sound", ["voice.wav", Path("voice.wav"), b"RIFF", 5, None])
def test_a_stream_of_something_else_is_refused_at_once(tiny_animator: Animator, avatar: Avatar, sound: Any) -> None:
    with pytest.raises(AudioError, match=r"expected an iterable of arrays \(Animator\.animate takes files\)"):
        tiny_animator.stream(avatar, sound)


def test_two_streams_in_turn_do_not_disturb_each_other(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box="full")
    jobs = [(avatar, voice(5 * CLIP, 1), 1), (other, voice(5 * CLIP, 2), 2)]
    alone = [frames_of(tiny_animator, who, sound, steps=1, seed=seed) for who, sound, seed in jobs]
    streams = [
        tiny_animator.stream(who, np.split(sound, 25), steps=1, seed=seed, paste_back=None) for who, sound, seed in jobs
    ]
    together: list[list[Array]] = [[], []]
    for pair in itertools.zip_longest(*streams):
        for frames, chunk in zip(together, pair, strict=True):
            if chunk is not None:
                frames.append(chunk.frames)
    for frames, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(frames), expected)


def test_runs_in_several_threads_give_what_they_give_alone(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box="full")
    jobs: list[Callable[[], Array]] = [
        partial(frames_of, tiny_animator, who, voice(3 * CLIP, seed), seed=seed, steps=steps, solver=solver)
        for who, seed, steps, solver in [
            (avatar, 1, 2, "ddim"), (other, 2, 3, "ddim"), (avatar, 3, 3, "unipc"), (other, 4, 7, "dpmpp_2m"),
        ]
    ]  # fmt: skip
    alone = [job() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = [future.result(60) for future in [pool.submit(job) for job in jobs]]
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_portraits_are_prepared_in_several_threads(tiny_animator: Animator) -> None:
    def features(seed: int) -> Array:
        prepared = tiny_animator.prepare(picture(seed=seed), face_box="full")
        assert tiny_animator.memory_stats()["avatars"] >= prepared.nbytes
        return prepared.features["reference_key.mid"].read()

    alone = [features(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(features, range(8)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


# Progress, stopping, errors


def test_progress_counts_every_step(tiny_animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    frames_of(tiny_animator, avatar, steps=3, progress=seen.append)
    assert seen == [Progress(clip, 3, step, 3) for clip in range(3) for step in (1, 2, 3)]


def test_progress_of_a_stream_does_not_know_the_end(tiny_animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    list(tiny_animator.stream(avatar, [voice(2 * CLIP)], steps=2, progress=seen.append))
    assert seen == [Progress(clip, None, step, 2) for clip in range(2) for step in (1, 2)]


def run_video(animator: Animator, avatar: Avatar, **options: Any) -> None:
    frames_of(animator, avatar, **options)


def run_stream(animator: Animator, avatar: Avatar, **options: Any) -> None:
    list(animator.stream(avatar, np.split(voice(3 * CLIP), 12), **{"steps": 2, **options}))


@pytest.mark.parametrize("run", [run_video, run_stream])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clip=st.integers(0, 2), step=st.integers(1, 2))
def test_cancelling_stops_at_the_next_step_and_the_next_call_works(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None], clip: int, step: int
) -> None:
    stop = threading.Event()
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if (progress.clip, progress.step) == (clip, step):
            stop.set()

    with pytest.raises(Cancelled):
        run(tiny_animator, avatar, progress=watch, cancel=stop)
    assert (seen[-1].clip, seen[-1].step) == (clip, step)
    stop.clear()
    run(tiny_animator, avatar, cancel=stop)


@pytest.mark.parametrize("run", [run_video, run_stream])
def test_a_run_that_is_cancelled_before_it_starts_does_nothing(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None]
) -> None:
    stop, seen = threading.Event(), list[Progress]()
    stop.set()
    with pytest.raises(Cancelled):
        run(tiny_animator, avatar, progress=seen.append, cancel=stop)
    assert seen == []


def test_a_stream_is_cancelled_while_the_voice_is_silent(tiny_animator: Animator, avatar: Avatar) -> None:
    """No clip is being made that could notice: too little has come."""
    stop = threading.Event()

    def microphone() -> Generator[Array]:
        yield voice(FRAME)
        stop.set()
        for _ in range(3):
            yield voice(10)
        pytest.fail("the stream went on")

    with pytest.raises(Cancelled):
        list(tiny_animator.stream(avatar, microphone(), cancel=stop))


def test_cancelling_a_save_leaves_no_file(tiny_animator: Animator, avatar: Avatar, tmp_path: Path) -> None:
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.clip == 1:
            stop.set()

    video = tiny_animator.animate(avatar, voice(3 * CLIP), sample_rate=RATE, steps=2, progress=watch, cancel=stop)
    with pytest.raises(Cancelled):
        video.save(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
    assert video.stats is None


@pytest.mark.parametrize("run", [run_video, run_stream])
@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt()], ids=repr)
def test_an_error_of_the_progress_callback_ends_the_run(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None], error: BaseException
) -> None:
    def fail(progress: Progress) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run(tiny_animator, avatar, progress=fail)
    assert raised.value is error


def close_early(chunks: Generator[Chunk]) -> None:
    next(chunks)
    chunks.close()


@pytest.mark.parametrize("how", ["video", "stream"])
def test_closing_early_stops_at_the_next_step(tiny_animator: Animator, avatar: Avatar, how: str) -> None:
    seen: list[Progress] = []
    sound = voice(20 * CLIP)
    options: dict[str, Any] = {"steps": 40, "progress": seen.append}
    if how == "video":
        chunks = tiny_animator.animate(avatar, sound, sample_rate=RATE, **options).chunks()
    else:
        chunks = tiny_animator.stream(avatar, np.split(sound, 40), **options)
    close_early(chunks)
    assert len(seen) < 2 * 40  # the second clip was not finished


def test_dropping_the_iterator_stops_the_run(tiny_animator: Animator, avatar: Avatar) -> None:
    chunks = tiny_animator.animate(avatar, voice(20 * CLIP), sample_rate=RATE, steps=2).chunks()
    next(chunks)
    del chunks
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]


# Closing and memory


def test_a_closed_animator_refuses_everything(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    video = own_animator.animate(there, voice(CLIP), sample_rate=RATE, steps=1)
    stream = own_animator.stream(there, [voice(CLIP)], steps=1)
    own_animator.close()
    own_animator.close()
    uses: list[Callable[[], object]] = [
        lambda: own_animator.prepare(picture(), face_box="full"),
        lambda: own_animator.animate(there, voice(CLIP), sample_rate=RATE, steps=1),
        lambda: own_animator.stream(there, [], steps=1),
        lambda: own_animator.warmup(AnimateOptions(steps=33)),
        video.numpy,
        lambda: list(stream),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()


def test_closing_while_a_run_is_going_on_ends_it(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")

    def close(progress: Progress) -> None:
        if progress.clip == 1:
            own_animator.close()

    with pytest.raises(ClosedError):
        frames_of(own_animator, there, progress=close)


def test_memory_of_avatars_is_counted_while_they_live(own_animator: Animator) -> None:
    empty = {"weights": own_animator.bundle.size_bytes, "avatars": 0, "runs": 0, "kept": 0}
    assert own_animator.memory_stats() == empty
    one, other = (own_animator.prepare(picture(seed=seed), face_box="full") for seed in (1, 2))
    assert own_animator.memory_stats()["avatars"] == one.nbytes + other.nbytes > 0
    del one
    assert own_animator.memory_stats()["avatars"] == other.nbytes
    other.close()
    other.close()
    assert own_animator.memory_stats() == empty
    with pytest.raises(ClosedError, match="prepare the picture again"):
        frames_of(own_animator, other)


def test_closing_an_animator_closes_its_avatars(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    own_animator.close()
    assert there.nbytes == 0


@pytest.mark.parametrize("end", ["finished", "closed", "failed"])
def test_a_run_frees_its_buffers_without_the_garbage_collector(own_animator: Animator, end: str) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    during: list[int] = []

    def watch(progress: Progress) -> None:
        during.append(own_animator.memory_stats()["runs"])
        if end == "failed" and progress.clip == 1:
            raise ZeroDivisionError

    gc.disable()
    try:
        video = own_animator.animate(there, voice(6 * CLIP), sample_rate=RATE, steps=1, progress=watch)
        if end == "closed":
            close_early(video.chunks())
        else:
            with suppress(ZeroDivisionError):
                video.numpy()
        assert during[0] > 0
        assert own_animator.memory_stats()["runs"] == 0
    finally:
        gc.enable()


def test_warmup_opens_what_the_options_need_and_leaves_nothing(own_animator: Animator) -> None:
    own_animator.warmup(AnimateOptions(guidance=1.0, steps=5, solver="unipc"))
    assert own_animator.memory_stats()["avatars"] == own_animator.memory_stats()["runs"] == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_warmup_works_for_every_solver(tiny_animator: Animator, solver: str) -> None:
    tiny_animator.warmup(AnimateOptions(solver=solver, steps=3))


def test_an_animator_says_what_it_is(tiny_animator: Animator, tiny_bundle: Bundle) -> None:
    assert (tiny_animator.device, tiny_animator.backend) == ("cpu", "onnxruntime")
    assert tiny_animator.config == tiny_bundle.config
