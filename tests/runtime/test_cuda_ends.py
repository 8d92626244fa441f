"""The GPU's code path on the stand-in: progress, what stops a run, errors, memory that comes back, traces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    AnimateOptions,
    Animator,
    BackendError,
    Bundle,
    Cancelled,
    CaptureError,
    ClosedError,
    DeviceLostError,
    NotFiniteError,
    Progress,
    Trace,
)
from emo_rt.model.contract import Array
from emo_rt.runtime.worker import Worker
from tests.runtime.on_stand_in import CLIP, RATE, frames_of, made_by, on_stand_in, picture, voice

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def expected(tiny_animator: Animator) -> Callable[..., Array]:
    """What the CPU backend makes."""
    return made_by(tiny_animator)


# Progress, stopping, errors


def test_latents_that_are_not_finite_come_back_as_an_error(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    with on_stand_in(tiny_bundle, seed=1) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")
        with pytest.raises(NotFiniteError, match=r"clip 0: .* graph step computed"):
            frames_of(animator, avatar, noise=lambda _: np.full((4, 4, 8, 8), np.inf))
        np.testing.assert_array_equal(frames_of(animator, avatar), expected())


@pytest.mark.parametrize(("obstacle", "steps"), [(None, [3]), ("it is in the way", [1, 2, 3])])
def test_progress(tiny_bundle: Bundle, obstacle: str | None, steps: list[int]) -> None:
    seen: list[Progress] = []
    with on_stand_in(tiny_bundle, 0, obstacle) as (animator, _):
        frames_of(animator, animator.prepare(picture(), face_box="full"), clips=3, progress=seen.append)
    assert seen == [Progress(clip, 3, step, 3) for clip in range(3) for step in steps]


def test_how_the_loop_was_launched_is_told(tiny_bundle: Bundle) -> None:
    for obstacle, words in [
        (None, "one launch per clip"),
        ("it is in the way", "one launch per step: it is in the way"),
    ]:
        with on_stand_in(tiny_bundle, 0, obstacle) as (animator, _):
            avatar = animator.prepare(picture(), face_box="full")
            video = animator.animate(avatar, voice(CLIP), sample_rate=RATE, steps=2)
            video.numpy()
            assert video.stats is not None
            assert video.stats.loop == words
            stats = animator.memory_stats()
            assert stats["device_used"] > stats["kept"] > 0
            assert stats["captured_loops"] == (obstacle is None)
            assert stats["runs"] == 0


def test_a_capture_that_fails_falls_back_and_says_so(
    tiny_bundle: Bundle, expected: Callable[..., Array], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(graph: str, capturing: bool) -> None:
        if capturing:
            raise BackendError("this graph waits for the host")

    with on_stand_in(tiny_bundle) as (animator, backend):
        backend.trouble = refuse
        avatar = animator.prepare(picture(), face_box="full")
        found = frames_of(animator, avatar)
        again = frames_of(animator, avatar)
    np.testing.assert_array_equal(found, expected())
    np.testing.assert_array_equal(again, found)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "step by step" in warnings[0]
    assert "waits for the host" in warnings[0]


@pytest.mark.parametrize("obstacle", [None, "it is in the way"])
def test_cancelling_ends_the_run_and_the_next_works(
    tiny_bundle: Bundle, expected: Callable[..., Array], obstacle: str | None
) -> None:
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.clip == 1:
            stop.set()

    with on_stand_in(tiny_bundle, 1, obstacle) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")
        with pytest.raises(Cancelled):
            frames_of(animator, avatar, progress=watch, cancel=stop)
        np.testing.assert_array_equal(frames_of(animator, avatar), expected())


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_leaves_the_workspace_usable(
    tiny_bundle: Bundle, expected: Callable[..., Array], taken: int
) -> None:
    with on_stand_in(tiny_bundle, taken) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")
        chunks: Generator[Any] = animator.animate(avatar, voice(9 * CLIP), sample_rate=RATE, steps=3).chunks()
        for _ in range(taken):
            next(chunks)
        chunks.close()
        np.testing.assert_array_equal(frames_of(animator, avatar), expected())


GRAPHS = ("audio_encoder", "clip", "step", "vae_decoder")


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_cannot_be_enqueued_ends_the_run(
    tiny_bundle: Bundle, expected: Callable[..., Array], graph: str
) -> None:
    left = [2]

    def fail(name: str, capturing: bool) -> None:
        if name == graph and not capturing:
            left[0] -= 1
            if left[0] == 0:
                raise BackendError("out of luck")

    with on_stand_in(tiny_bundle, 2, None if graph != "step" else "so that steps fail one by one") as (
        animator,
        backend,
    ):
        avatar = animator.prepare(picture(), face_box="full")
        animator.warmup(AnimateOptions(steps=3))
        backend.trouble = fail
        with pytest.raises(BackendError, match="out of luck"):
            frames_of(animator, avatar)
        np.testing.assert_array_equal(frames_of(animator, avatar), expected())


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_crash_on_the_device_is_final(tiny_bundle: Bundle, graph: str) -> None:
    def crash(name: str) -> None:
        if name == graph:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")

    with on_stand_in(tiny_bundle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        animator.warmup(AnimateOptions(steps=3))
        backend.accident = crash
        for _ in range(2):
            with pytest.raises(DeviceLostError, match=r"failed for good.*load it again"):
                frames_of(animator, avatar)
        with pytest.raises(DeviceLostError):
            animator.prepare(picture(), face_box="full")


def test_closing_during_a_run_ends_it(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")

        def close(progress: Progress) -> None:
            if progress.clip == 1:
                animator.close()

        with pytest.raises(ClosedError):
            frames_of(animator, avatar, clips=9, progress=close)
        with pytest.raises(ClosedError):
            frames_of(animator, avatar)


def test_all_memory_comes_back(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, _):
        empty = animator.memory_stats()
        avatar = animator.prepare(picture(), face_box="full")
        frames_of(animator, avatar, clips=2)
        with suppress(ZeroDivisionError):
            frames_of(animator, avatar, clips=2, guidance=1.0, progress=lambda _: 1 / 0)
        avatar.close()
        stats = animator.memory_stats()
        assert (stats["avatars"], stats["runs"]) == (0, 0)
        tables = stats["device_used"] - stats["kept"]
        assert tables < stats["kept"]
        assert empty["device_used"] == 0
        for pool in animator._pools():
            pool.close()
        for tables in animator._model._tables.values():
            tables._made.clear()
        assert animator.memory_stats()["device_used"] == 0


def test_a_loop_that_was_not_prepared_is_refused(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, _):
        model = animator._model
        avatar = animator.prepare(picture(), face_box="full")
        one, other = (model.step_table(AnimateOptions(steps=steps))[0] for steps in (2, 3))
        with closing(Worker(model, one, avatar.features)) as worker:
            final = worker.denoiser.finals[0]
            with pytest.raises(CaptureError, match="not prepared"):
                list(worker.denoiser.slices(other, np.zeros(final.shape, np.float32), 1.0, final))


# Trace


def test_a_trace_shows_each_stage_of_each_clip(tiny_bundle: Bundle) -> None:
    trace = Trace()
    with on_stand_in(tiny_bundle) as (animator, _):
        frames_of(animator, animator.prepare(picture(), face_box="full"), clips=3, trace=trace)
    events = trace.to_dict()["traceEvents"]
    streams = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [(event["name"], streams[event["tid"]]) for event in events if event["ph"] == "X"]
    for span in (("clip", "denoise"), ("step", "denoise"), ("decode", "decode")):
        assert spans.count(span) == 3
    assert ("audio", "audio") in spans
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events if event["ph"] == "X")
