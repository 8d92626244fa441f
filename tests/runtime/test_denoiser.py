"""The solver loop: it computes what the formula says, in place, and allocates and copies nothing."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from emo_rt import AnimateOptions, Bundle
from emo_rt.device.base import Backend, Launch, Session
from emo_rt.device.buffers import Arena, Buffer, HostBuffer
from emo_rt.device.registry import open_backend
from emo_rt.errors import ConfigError
from emo_rt.export.presets import preset
from emo_rt.media.portrait import prepare_portrait
from emo_rt.model.contract import Array, GraphSpec, TensorSpec, graph_specs
from emo_rt.model.options import SOLVERS
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.avatar import Avatar, make_avatar
from emo_rt.runtime.denoiser import Denoiser
from emo_rt.runtime.loaded_model import Engine
from emo_rt.runtime.run import Control, Run
from emo_rt.runtime.step_tables import KEPT_SCHEDULES, Schedule, Scheduler

SECOND = 16_000


class RecordingLaunch(Launch):
    """Notes which memory every run used, then lets the real launch do it."""

    def __init__(self, inner: Launch, session: RecordingSession, buffers: Mapping[str, Buffer]) -> None:
        names = [tensor.name for tensor in (*session.spec.inputs, *session.spec.outputs)]
        self._inner, self._session = inner, session
        self._pointers = {name: buffers[name].pointer for name in names}

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._inner.rebind(name, buffer)
        self._pointers[name] = buffer.pointer

    def run(self) -> None:
        self._session.log.append((self._session.spec.name, dict(self._pointers)))
        self._inner.run()


class RecordingSession(Session):
    def __init__(self, inner: Session, log: list[tuple[str, dict[str, int]]]) -> None:
        self.spec, self._inner, self.log = inner.spec, inner, log

    def bind(self, buffers: Mapping[str, Buffer]) -> RecordingLaunch:
        return RecordingLaunch(self._inner.bind(buffers), self, buffers)

    def close(self) -> None:
        self._inner.close()


class RecordingBackend(Backend):
    """The real backend, with a list of the buffers that were made and the memory that every run used."""

    name, device = "onnxruntime", "cpu"

    def __init__(self) -> None:
        self._inner = open_backend("onnxruntime", "cpu", threads=1)
        self.allocated: list[str] = []
        self.runs: list[tuple[str, dict[str, int]]] = []

    def allocate(self, spec: TensorSpec) -> Buffer:
        self.allocated.append(spec.name)
        return self._inner.allocate(spec)

    def open(self, bundle: Bundle, graph: str) -> Session:
        return RecordingSession(self._inner.open(bundle, graph), self.runs)

    def close(self) -> None:
        self._inner.close()

    def runs_of(self, graph: str) -> list[dict[str, int]]:
        return [pointers for name, pointers in self.runs if name == graph]


@pytest.fixture(scope="module")
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as opened:
        yield opened


@pytest.fixture(scope="module")
def engine(tiny_bundle: Bundle, backend: RecordingBackend) -> Engine:
    return Engine(tiny_bundle, backend)


@pytest.fixture(scope="module")
def avatar(engine: Engine) -> Avatar:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    return make_avatar(engine, prepare_portrait(picture, engine.config.size, face_box="full"))


def made(engine: Engine, avatar: Avatar, seconds: float, **options: Any) -> list[Array]:
    run = Run(engine, avatar, AnimateOptions(**options), Control(), None)
    sound = 0.1 * np.random.default_rng(1).standard_normal(round(seconds * SECOND), np.float32)
    with run.chunks([sound]) as chunks:
        return [chunk.frames for chunk in chunks]


# The formula


def denoised(engine: Engine, inputs: Arena, solver: str, steps: int, guidance: float) -> Array:
    """One clip by the code under test."""
    session = engine.session("step")
    schedule = scheduled(engine, solver, steps)
    denoiser = Denoiser(engine.backend, [session.spec])
    final = denoiser.finals[1]
    denoiser.bind({"step": session}, inputs, schedule)
    denoiser.run(schedule, NOISE, guidance, final, lambda step: None)
    return final.read().copy()


def by_the_formula(
    engine: Engine, inputs: Arena, solver: str, steps: int, guidance: float | tuple[float, ...]
) -> Array:
    """One clip in numpy: only the network's prediction comes from the graph, through fresh memory at each step."""
    session, timestep = engine.session("step"), engine.session("timestep")
    table = solver_table(engine.config.schedule, solver, steps)
    x, history = NOISE.astype(np.float64), [np.zeros_like(NOISE, np.float64)] * 2
    scales = guidance if isinstance(guidance, tuple) else (guidance,) * steps
    rows = table.coefficients.astype(np.float64)
    for time, (p, q, a, b, c, d), scale in zip(table.timesteps, rows, scales, strict=True):
        embedding = Arena(engine.backend, [*timestep.spec.inputs, *timestep.spec.outputs])
        embedding["timestep"].write(np.array([time]))
        timestep.bind(embedding).run()
        fresh = Arena(
            engine.backend, [t for t in (*session.spec.inputs, *session.spec.outputs) if t.name not in inputs]
        )
        fresh["latents"].write(x)
        step = {**inputs, **fresh, **embedding}
        session.bind(step).run()
        without, with_condition = step["prediction"].read().astype(np.float64)
        prediction = without + scale * (with_condition - without)
        x0 = p * x + q * prediction
        x, history = a * x + b * x0 + c * history[0] + d * history[1], [x0, history[0]]
    return x


def scheduled(engine: Engine, solver: str, steps: int) -> Schedule:
    return engine.schedule(AnimateOptions(solver=solver, steps=steps))[0]


NOISE = np.random.default_rng(5).standard_normal((4, 4, 8, 8), np.float32)


@pytest.fixture(scope="module")
def features(engine: Engine, avatar: Avatar) -> Arena:
    """Random features of the size that ``step`` takes."""
    random = np.random.default_rng(2)
    state = {"latents", "x0_history", "time_embedding", "coefficients", "guidance_scale"}
    arena = Arena(engine.backend, [t for t in engine.session("step").spec.inputs if t.name not in state])
    for name, buffer in arena.items():
        known = avatar.features.get(name)
        buffer.write(random.standard_normal(buffer.shape) if known is None else known.read())
    return arena


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_clip_is_the_table_applied_to_the_predictions(engine: Engine, features: Arena, solver: str) -> None:
    expected = by_the_formula(engine, features, solver, 4, 2.5)
    found = denoised(engine, features, solver, 4, 2.5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_guidance_is_computed_in_its_interval_only(engine: Engine, backend: RecordingBackend, features: Arena) -> None:
    """Without guidance is scale 1 in the formula; the graph without it computes one half of the rows."""
    options = AnimateOptions(steps=5, guidance=2.5, guidance_interval=(0.2, 0.6))
    assert options.guided_steps() == (False, True, True, False, False)
    schedule, guidance = engine.schedule(options)
    denoiser = Denoiser(backend, [engine.session(name).spec for name in ("step", "step_unguided")])
    denoiser.bind({name: engine.session(name) for name in ("step", "step_unguided")}, features, schedule)
    backend.runs.clear()
    denoiser.run(schedule, NOISE, guidance, denoiser.finals[0], lambda step: None)
    assert [len(backend.runs_of(name)) for name in ("step", "step_unguided")] == [2, 3]
    expected = by_the_formula(engine, features, "ddim", 5, (1, 2.5, 2.5, 1, 1))
    assert np.abs(denoiser.finals[0].read() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1), (0, 1.1), (0,), "01", (0, None)])
def test_an_interval_that_is_none_is_refused(interval: Any) -> None:
    with pytest.raises(ConfigError, match="guidance_interval"):
        AnimateOptions(guidance_interval=interval)


def test_cached_steps_take_the_inner_blocks_result_from_the_last_full_one(
    cached_bundle: Bundle, features: Arena
) -> None:
    """Without guidance in the middle: what one kind of step leaves is not taken by the other."""
    with RecordingBackend() as backend, Engine(cached_bundle, backend) as engine:
        options = AnimateOptions(steps=8, guidance=2.5, guidance_interval=(0.0, 0.6), deep_cache=3)
        schedule, guidance = engine.schedule(options)
        expected = ["step", "step_cached", "step_cached", "step", "step_cached"]
        expected += ["step_unguided", "step_cached_unguided", "step_cached_unguided"]
        assert list(schedule.graphs) == expected
        sessions = {name: engine.session(name) for name in set(schedule.graphs)}
        denoiser = Denoiser(backend, [session.spec for session in sessions.values()])
        denoiser.bind(sessions, features, schedule)
        denoiser.run(schedule, NOISE, guidance, denoiser.finals[0], lambda step: None)
        found, table = denoiser.finals[0].read(), solver_table(engine.config.schedule, "ddim", 8)
        x, deep = NOISE, dict[str, Array]()
        for step, graph in enumerate(schedule.graphs):
            session = sessions[graph]
            fresh = Arena(backend, [t for t in (*session.spec.inputs, *session.spec.outputs) if t.name not in features])
            row = {
                "time_embedding": schedule.time_embeddings.row(step).read(),
                "coefficients": table.coefficients[step],
            }
            given = {**deep, **row, "latents": x, "guidance_scale": np.array([guidance], np.float32)}
            for name in set(given) & {tensor.name for tensor in session.spec.inputs}:
                fresh[name].write(given[name])
            session.bind({**features, **fresh}).run()
            x = fresh["next_latents"].read().copy()
            deep |= {name: fresh[name].read().copy() for name in fresh if name.startswith("deep_features")}
        np.testing.assert_allclose(found, x, atol=1e-5 * np.abs(x).max())


def test_a_bundle_without_cached_steps_refuses_them(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"deep_cache is 2; this bundle has no graphs for it"):
        engine.schedule(AnimateOptions(deep_cache=2))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_any_number_of_steps_ends_in_the_given_buffer(engine: Engine, features: Arena, steps: int) -> None:
    expected = by_the_formula(engine, features, "ddim", steps, 2.5)
    found = denoised(engine, features, "ddim", steps, 2.5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_clip_starts_without_the_history_of_the_one_before(engine: Engine, features: Arena) -> None:
    session, schedule = engine.session("step"), scheduled(engine, "unipc", 3)
    denoiser = Denoiser(engine.backend, [session.spec])
    denoiser.bind({"step": session}, features, schedule)
    for final in denoiser.finals[:2]:
        denoiser.run(schedule, NOISE, 2.5, final, lambda step: None)
    np.testing.assert_array_equal(denoiser.finals[0].read(), denoiser.finals[1].read())
    assert not denoiser.finals[2].read().any()


def test_each_step_is_reported_once_it_is_done(engine: Engine, features: Arena) -> None:
    session, schedule = engine.session("step"), scheduled(engine, "ddim", 3)
    denoiser = Denoiser(engine.backend, [session.spec])
    denoiser.bind({"step": session}, features, schedule)
    reported: list[int] = []
    denoiser.run(schedule, NOISE, 1.0, denoiser.finals[0], reported.append)
    assert reported == [0, 1, 2]


# The hot path


def test_the_loop_makes_no_buffer_and_copies_only_noise_and_start_values(
    engine: Engine, backend: RecordingBackend, features: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, schedule = engine.session("step"), scheduled(engine, "ddim", 5)
    denoiser = Denoiser(backend, [session.spec])
    denoiser.bind({"step": session}, features, schedule)
    written: list[int] = []
    write = HostBuffer.write
    monkeypatch.setattr(HostBuffer, "write", lambda self, values: (written.append(self.pointer), write(self, values)))
    monkeypatch.setattr(HostBuffer, "read", lambda self: pytest.fail("the loop read a tensor"))
    backend.allocated.clear()
    copies_by_step: list[int] = []
    denoiser.run(schedule, NOISE, 1.5, denoiser.finals[0], lambda step: copies_by_step.append(len(written)))
    assert backend.allocated == []
    assert copies_by_step == [3] * 5  # guidance scale, noise, empty history: before the first step


def test_the_loop_allocates_no_memory_of_the_size_of_a_tensor(backend: RecordingBackend) -> None:
    """Full-size state (786 kB of latents) around a launch that does nothing."""

    class Nothing(Launch):
        def rebind(self, name: str, buffer: Buffer) -> None:
            pass

        def run(self) -> None:
            pass

    class Still(Session):
        def bind(self, buffers: Mapping[str, Buffer]) -> Launch:
            return Nothing()

        def close(self) -> None:
            pass

    spec = next(spec for spec in graph_specs(preset("emo")) if spec.name == "step")
    denoiser = Denoiser(backend, [spec])
    rows = [TensorSpec("coefficients", "float32", (40, 6)), TensorSpec("embeddings", "float32", (40, 1, 20_000))]
    tables = Arena(backend, rows)
    schedule = Schedule(tables["coefficients"], tables["embeddings"], ("step",) * 40)
    denoiser.bind({"step": Still()}, {}, schedule)
    noise = np.zeros(denoiser.finals[0].shape, np.float32)
    tracemalloc.start()
    try:
        denoiser.run(schedule, noise, 3.5, denoiser.finals[0], lambda step: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_no_tensor_is_copied_between_graphs(engine: Engine, backend: RecordingBackend, avatar: Avatar) -> None:
    """What a graph wrote is read at the same address by the next, through a whole run of three clips."""
    backend.runs.clear()
    made(engine, avatar, 0.48, steps=3)
    clips, steps, decodes = backend.runs_of("clip"), backend.runs_of("step"), backend.runs_of("vae_decoder")
    assert (len(clips), len(steps), len(decodes)) == (3, 9, 6)
    for index, clip in enumerate(clips):
        first, _, last = ours = steps[3 * index : 3 * index + 3]
        for step in ours:
            shared = set(step) & set(clip)
            assert len(shared) > 10
            assert {name: step[name] for name in shared} == {name: clip[name] for name in shared}
            portrait = {name: buffer.pointer for name, buffer in avatar.features.items() if name in step}
            assert len(portrait) > 4
            assert portrait == {name: step[name] for name in portrait}
        for before, after in pairwise(ours):
            assert before["next_latents"] == after["latents"]
            assert before["next_x0_history"] == after["x0_history"]
        assert first["latents"] != first["next_latents"]
        half = engine.config.decode_frames * 4 * 8 * 8 * 4
        decoded = [decode["frame_latents"] for decode in decodes[2 * index : 2 * index + 2]]
        assert decoded == [last["next_latents"], last["next_latents"] + half]
        if index + 1 < len(clips):  # the last 2 of 4 frames
            assert clips[index + 1]["motion_latents"] == last["next_latents"] + half


def test_finished_latents_rotate_so_that_none_is_overwritten_while_it_is_decoded(
    engine: Engine, backend: RecordingBackend, avatar: Avatar
) -> None:
    backend.runs.clear()
    made(engine, avatar, 0.64, steps=1)
    written = [step["next_latents"] for step in backend.runs_of("step")]
    assert len(set(written[:3])) == 3
    assert written[3] == written[0]


def test_after_the_start_of_a_run_no_buffer_is_made(engine: Engine, backend: RecordingBackend, avatar: Avatar) -> None:
    run = Run(engine, avatar, AnimateOptions(steps=2), Control(), None)
    backend.allocated.clear()
    with run.chunks([np.zeros(SECOND, np.float32)]) as chunks:
        assert len(list(chunks)) == 7
    assert backend.allocated == []


# Schedules


def test_a_schedule_holds_the_table_and_the_embedding_of_each_step(engine: Engine) -> None:
    schedule = scheduled(engine, "dpmpp_2m", 5)
    table = solver_table(engine.config.schedule, "dpmpp_2m", 5)
    np.testing.assert_array_equal(schedule.coefficients.read(), table.coefficients)
    session = engine.session("timestep")
    for step, time in enumerate(table.timesteps):
        one = Arena(engine.backend, [*session.spec.inputs, *session.spec.outputs])
        one["timestep"].write(np.array([time]))
        session.bind(one).run()
        np.testing.assert_array_equal(schedule.time_embeddings.row(step).read(), one["time_embedding"].read())


def test_a_schedule_is_made_once(engine: Engine) -> None:
    assert scheduled(engine, "ddim", 6) is scheduled(engine, "ddim", 6)


def test_a_schedule_that_does_not_exist_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="steps"):
        scheduled(engine, "ddim", 1001)


class CountingSession(Session):
    """A ``timestep`` graph that does nothing and counts, and lets other threads in meanwhile."""

    def __init__(self) -> None:
        tensors = TensorSpec("timestep", "float32", (1,)), TensorSpec("time_embedding", "float32", (1, 4))
        self.spec = GraphSpec("timestep", tensors[:1], tensors[1:])
        self.runs = 0
        self._pause = threading.Event()

    def bind(self, buffers: Mapping[str, Buffer]) -> Launch:
        session = self

        class Count(Launch):
            def rebind(self, name: str, buffer: Buffer) -> None:
                raise NotImplementedError

            def run(self) -> None:
                session.runs += 1
                session._pause.wait(0.001)

        return Count()

    def close(self) -> None:
        pass


def test_threads_that_ask_at_once_share_one_schedule(backend: RecordingBackend) -> None:
    session = CountingSession()
    scheduler = Scheduler(backend, session, preset("tiny"))
    got: list[Schedule] = []
    threads = [
        threading.Thread(target=lambda: got.append(scheduler.schedule("ddim", ("step",) * 10))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert session.runs == 10


def test_only_the_latest_schedules_are_kept(backend: RecordingBackend) -> None:
    session = CountingSession()
    scheduler = Scheduler(backend, session, preset("tiny"))
    kept = scheduler.schedule("ddim", ("step",) * 1)
    for steps in range(2, KEPT_SCHEDULES + 1):
        scheduler.schedule("ddim", ("step",) * steps)
    assert scheduler.schedule("ddim", ("step",) * 1) is kept  # and it is now the latest
    first = scheduler.schedule("ddim", ("step",) * 2)
    for steps in range(20, 20 + KEPT_SCHEDULES):
        scheduler.schedule("ddim", ("step",) * steps)
    assert scheduler.schedule("ddim", ("step",) * 2) is not first
