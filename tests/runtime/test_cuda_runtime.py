"""The GPU's code path on the stand-in: the same frames as the CPU backend bit for bit, and no rule broken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import StandInBackend, StandInDevice

from emo_rt import (
    AnimateOptions,
    Animator,
    Avatar,
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
from emo_rt.device.cuda_stream import CudaTimer
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.contract import Array
from emo_rt.model.options import SOLVERS
from emo_rt.runtime.avatar import make_avatar
from emo_rt.runtime.fixed_loop import FixedLoop
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.worker import Worker

RATE, FRAME = 16_000, 640
CLIP = 4 * FRAME
SEEDS = range(4)


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def voice(samples: int, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


@contextmanager
def on_stand_in(
    bundle: Bundle, seed: int = 0, obstacle: str | None = None
) -> Iterator[tuple[Animator, StandInBackend]]:
    """An animator on the stand-in. At the end no rule may have been broken, and all memory must be back."""
    device = StandInDevice(seed)
    backend = StandInBackend(device, obstacle)
    with Animator(LoadedModel(bundle, backend)) as animator:
        yield animator, backend
    assert device.broken == []


def frames_of(animator: Animator, avatar: Avatar, clips: int = 5, **options: Any) -> Array:
    return animator.animate(avatar, voice(clips * CLIP - FRAME), sample_rate=RATE, **{"steps": 3, **options}).numpy()


@pytest.fixture(scope="module")
def expected(tiny_animator: Animator) -> Callable[..., Array]:
    """What the CPU backend makes."""

    @cache
    def make(who: int = 0, **options: Any) -> Array:
        return frames_of(tiny_animator, tiny_animator.prepare(picture(who), face_box="full"), **options)

    return make


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("obstacle", [None, "it is in the way"], ids=["one launch", "step by step"])
def test_frames_are_those_of_the_cpu(
    tiny_bundle: Bundle, expected: Callable[..., Array], seed: int, obstacle: str | None
) -> None:
    with on_stand_in(tiny_bundle, seed, obstacle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        found = frames_of(animator, avatar)
        launches: list[int] = backend.cuda.launches  # type: ignore[assignment]
    np.testing.assert_array_equal(found, expected())
    assert launches == ([] if obstacle else [9] * 5)  # three steps of two copies and one graph; one launch a clip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_solver_and_parity_of_steps(
    tiny_bundle: Bundle, expected: Callable[..., Array], solver: str, steps: int
) -> None:
    options: dict[str, Any] = {"clips": 2, "solver": solver, "steps": steps, "seed": 9, "guidance": 2.0}
    with on_stand_in(tiny_bundle) as (animator, _):
        found = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
    np.testing.assert_array_equal(found, expected(**options))


def test_guidance_in_a_part_of_the_steps_is_one_launch(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    options: dict[str, Any] = {"clips": 2, "steps": 5, "guidance": 2.0, "guidance_interval": (0.3, 0.8)}
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        found = frames_of(animator, avatar, **options)
        plain = frames_of(animator, avatar, clips=2)  # the same buffers: they have both graphs
        assert backend.cuda.launches == [15, 15, 9, 9]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found, expected(**options))
    np.testing.assert_array_equal(plain, expected(clips=2))


@pytest.mark.parametrize(("size", "launches", "graphs"), [(1, [3] * 5, 2), (2, [6, 6, 3], 2), (4, [12, 3], 2)])
def test_a_loop_in_slices(
    tiny_bundle: Bundle,
    expected: Callable[..., Array],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    launches: list[int],
    graphs: int,
) -> None:
    """Five steps: one captured graph serves all slices of one kind, of every table, and progress is told in between."""
    monkeypatch.setattr(FixedLoop, "_measured", lambda loop: size)
    seen: list[int] = []
    with on_stand_in(tiny_bundle, seed=2) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        video = animator.animate(
            avatar, voice(2 * CLIP), sample_rate=RATE, steps=5, progress=lambda at: seen.append(at.step)
        )
        found = video.numpy()
        assert backend.cuda.launches == launches * 2  # type: ignore[attr-defined]
        assert animator.memory_stats()["captured_loops"] == graphs
        frames_of(animator, avatar, clips=1, steps=4, solver="unipc")
        assert animator.memory_stats()["captured_loops"] == graphs
        assert video.stats is not None
        assert video.stats.loop == f"{len(launches)} launches per clip, up to {size} steps"
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        there = animator.prepare(picture(), face_box="full")
        wanted = animator.animate(there, voice(2 * CLIP), sample_rate=RATE, steps=5).numpy()
    np.testing.assert_array_equal(found, wanted)
    ends = [min(first + size, 5) for first in range(0, 5, size)]
    assert seen == ends * 2


@pytest.mark.parametrize(("slice_s", "seconds", "steps"), [(0.05, 0.02, 2), (0.05, 0.011, 4), (0.05, 0.08, 1)])
def test_a_slice_is_as_many_steps_as_fit(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, slice_s: float, seconds: float, steps: int
) -> None:
    monkeypatch.setattr(CudaTimer, "read", lambda timer: (0.0, seconds))
    with on_stand_in(tiny_bundle) as (animator, backend):
        backend.slice_s = slice_s
        frames_of(animator, animator.prepare(picture(), face_box="full"), clips=1, steps=8)
        assert backend.cuda.launches == [3 * steps] * (8 // steps)  # type: ignore[attr-defined]


def test_a_higher_priority_comes_between_two_slices(
    tiny_bundle: Bundle, expected: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a worker of its own, and waits for no more than the two slices that are enqueued."""
    monkeypatch.setattr(FixedLoop, "_measured", lambda loop: 1)
    seen: list[str] = []
    with on_stand_in(tiny_bundle, seed=4) as (animator, _):
        avatars = [animator.prepare(picture(who), face_box="full") for who in range(2)]
        urgent = animator.open_session(avatars[1], priority=1, steps=3, progress=lambda _: seen.append("urgent"))

        def progress(at: Progress) -> None:
            seen.append("long")
            if at.clip == 1 and at.step == 2:
                urgent.push(voice(5 * CLIP - FRAME))
                urgent.end()

        long = animator.open_session(avatars[0], steps=3, progress=progress)
        with urgent, long:
            long.push(voice(5 * CLIP - FRAME))
            long.end()
            frames = [np.concatenate([chunk.frames for chunk in session]) for session in (long, urgent)]
    for who, found in enumerate(frames):
        np.testing.assert_array_equal(found, expected(who))
    pushed = 3 + 2
    assert seen.index("urgent") <= pushed + 2


def test_cached_steps_are_one_launch(cached_bundle: Bundle) -> None:
    options: dict[str, Any] = {"clips": 2, "steps": 5, "guidance_interval": (0, 0.7), "deep_cache": 2}
    with on_stand_in(cached_bundle) as (animator, backend):
        found = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
        assert backend.cuda.launches == [15, 15]  # type: ignore[attr-defined]
    with Animator.load(cached_bundle.path, device="cpu", threads=1) as animator:
        expected = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
    np.testing.assert_array_equal(found, expected)


def test_what_was_captured_serves_other_avatars_options_and_tables(
    tiny_bundle: Bundle, expected: Callable[..., Array]
) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatars = [animator.prepare(picture(seed), face_box="full") for seed in range(2)]
        for who, options in [(0, {}), (1, {"speed": 2.0}), (0, {"steps": 2}), (1, {}), (0, {"guidance": 1.0})]:
            before = len(backend.cuda.allocated)  # type: ignore[attr-defined]
            found = frames_of(animator, avatars[who], clips=2, **options)
            np.testing.assert_array_equal(found, expected(who, clips=2, **options))
            if (who, options) in [(1, {"speed": 2.0}), (1, {})]:
                assert len(backend.cuda.allocated) == before, "a later run allocates nothing"  # type: ignore[attr-defined]


def test_after_the_start_of_a_run_nothing_is_allocated(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        counts: list[int] = []
        frames_of(animator, avatar, progress=lambda _: counts.append(len(backend.cuda.allocated)))  # type: ignore[attr-defined]
        assert len(set(counts)) == 1


def test_a_stream_gives_the_frames_of_the_whole(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    with on_stand_in(tiny_bundle, seed=5) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")
        pieces = np.split(voice(5 * CLIP - FRAME), [7, 900, 4000, 4001, 9000])
        chunks = [chunk.frames for chunk in animator.stream(avatar, pieces, steps=3)]
    np.testing.assert_array_equal(np.concatenate(chunks), expected())


def hallo_frames(animator: Animator) -> Array:
    random = np.random.default_rng(6)
    masks = [tensor for tensor in animator._model.bundle.graphs["step"].inputs if tensor.name.startswith("audio_mask.")]
    inputs = {mask.name: random.random([int(size) for size in mask.shape], np.float32) for mask in masks}
    inputs["face_embedding"] = random.standard_normal((1, 8), np.float32)
    portrait = prepare_portrait(picture(), animator.config.size, face_box="full")
    return frames_of(animator, make_avatar(animator._model, portrait, inputs))


@pytest.fixture(scope="module")
def hallo_expected(hallo_bundle: Bundle) -> Array:
    with Animator.load(hallo_bundle.path, device="cpu", threads=1) as animator:
        return hallo_frames(animator)


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_frames_that_are_decoded_and_encoded_again(
    hallo_bundle: Bundle, hallo_expected: Array, seed: int
) -> None:
    with on_stand_in(hallo_bundle, seed) as (animator, _):
        np.testing.assert_array_equal(hallo_frames(animator), hallo_expected)


def test_runs_side_by_side_share_the_device(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    found: dict[int, Array] = {}
    with on_stand_in(tiny_bundle, seed=3) as (animator, _):
        avatars = [animator.prepare(picture(seed), face_box="full") for seed in range(3)]

        def work(who: int) -> None:
            found[who] = frames_of(animator, avatars[who], clips=3, seed=who)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for who in range(3):
        np.testing.assert_array_equal(found[who], expected(who, clips=3, seed=who))


def test_decoding_overlaps_the_next_clip(tiny_bundle: Bundle) -> None:
    """Some order that the device may choose runs a clip's decoder behind the start of the next clip."""

    def order(seed: int) -> list[str]:
        with on_stand_in(tiny_bundle, seed) as (animator, backend):
            frames_of(animator, animator.prepare(picture(), face_box="full"))
            return [name for _, name in backend.cuda.ran if name in ("clip", "vae_decoder")]  # type: ignore[attr-defined]

    plain = ["clip", "vae_decoder", "vae_decoder"] * 5
    assert any(order(seed) != plain for seed in range(12))


def test_no_more_than_two_clips_wait_on_the_device(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        enqueued, most = [0], [0]

        def count(graph: str, capturing: bool) -> None:
            enqueued[0] += graph == "clip"
            ran = sum(name == "clip" for _, name in backend.cuda.ran)  # type: ignore[attr-defined]
            most[0] = max(most[0], enqueued[0] - ran)

        avatar = animator.prepare(picture(), face_box="full")
        animator.warmup(AnimateOptions(steps=3))
        backend.trouble = count
        backend.cuda.ran.clear()  # type: ignore[attr-defined]
        frames_of(animator, avatar, clips=8)
    assert 1 <= most[0] <= 2


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
