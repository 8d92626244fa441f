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
from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers, HostBuffer
from emo_rt.device.registry import open_backend
from emo_rt.device.stream import HostStream
from emo_rt.errors import ConfigError
from emo_rt.export.presets import preset
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.contract import Array, GraphSpec, TensorSpec
from emo_rt.model.families.registry import graph_specs
from emo_rt.model.options import SOLVERS
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.avatar import Avatar, make_avatar
from emo_rt.runtime.denoiser import Denoiser
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.session import Session
from emo_rt.runtime.stages import Control
from emo_rt.runtime.step_tables import KEPT_TABLES, StepTable, StepTables

SECOND = 16_000


class RecordingBoundGraph(BoundGraph):
    """Notes which memory every run used, then lets the real one do it."""

    def __init__(self, inner: BoundGraph, graph: RecordingGraph, buffers: Mapping[str, Buffer]) -> None:
        names = [tensor.name for tensor in (*graph.spec.inputs, *graph.spec.outputs)]
        self._inner, self._graph = inner, graph
        self._pointers = {name: buffers[name].pointer for name in names}

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._inner.rebind(name, buffer)
        self._pointers[name] = buffer.pointer

    def run(self) -> None:
        self._graph.log.append((self._graph.spec.name, dict(self._pointers)))
        self._inner.run()


class RecordingGraph(Graph):
    def __init__(self, inner: Graph, log: list[tuple[str, dict[str, int]]]) -> None:
        self.spec, self._inner, self.log = inner.spec, inner, log

    def bind(self, buffers: Mapping[str, Buffer]) -> RecordingBoundGraph:
        return RecordingBoundGraph(self._inner.bind(buffers), self, buffers)

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

    def open(self, bundle: Bundle, graph: str) -> Graph:
        return RecordingGraph(self._inner.open(bundle, graph), self.runs)

    def close(self) -> None:
        self._inner.close()

    def runs_of(self, graph: str) -> list[dict[str, int]]:
        return [pointers for name, pointers in self.runs if name == graph]


@pytest.fixture(scope="module")
def backend() -> Iterator[RecordingBackend]:
    with RecordingBackend() as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tiny_bundle: Bundle, backend: RecordingBackend) -> LoadedModel:
    return LoadedModel(tiny_bundle, backend)


@pytest.fixture(scope="module")
def avatar(model: LoadedModel) -> Avatar:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    return make_avatar(model, prepare_portrait(picture, model.config.size, face_box="full"))


def made(model: LoadedModel, avatar: Avatar, seconds: float, **options: Any) -> list[Array]:
    sound = 0.1 * np.random.default_rng(1).standard_normal(round(seconds * SECOND), np.float32)
    with Runtime() as runtime, Session(runtime, avatar, AnimateOptions(**options), Control()) as session:
        session.push(sound)
        session.end()
        return [chunk.frames for chunk in session]


def run_all(denoiser: Denoiser, table: StepTable, guidance: float, final: Buffer, noise: Array | None = None) -> None:
    for _ in denoiser.slices(table, NOISE if noise is None else noise, guidance, final):
        pass


# The formula


def denoised(model: LoadedModel, inputs: Buffers, solver: str, steps: int, guidance: float) -> Array:
    """One clip by the code under test."""
    graph = model.graph("step")
    table = tabulated(model, solver, steps)
    denoiser = Denoiser(model.backend, [graph.spec])
    final = denoiser.finals[1]
    denoiser.bind({"step": graph}, inputs, table)
    run_all(denoiser, table, guidance, final)
    return final.read().copy()


def by_the_formula(
    model: LoadedModel, inputs: Buffers, solver: str, steps: int, guidance: float | tuple[float, ...]
) -> Array:
    """One clip in numpy: only the network's prediction comes from the graph, through fresh memory at each step."""
    graph, timestep = model.graph("step"), model.graph("timestep")
    table = solver_table(model.config.schedule, solver, steps)
    x, history = NOISE.astype(np.float64), [np.zeros_like(NOISE, np.float64)] * 2
    scales = guidance if isinstance(guidance, tuple) else (guidance,) * steps
    rows = table.coefficients.astype(np.float64)
    for time, (p, q, a, b, c, d), scale in zip(table.timesteps, rows, scales, strict=True):
        embedding = Buffers(model.backend, [*timestep.spec.inputs, *timestep.spec.outputs])
        embedding["timestep"].write(np.array([time]))
        timestep.bind(embedding).run()
        fresh = Buffers(model.backend, [t for t in (*graph.spec.inputs, *graph.spec.outputs) if t.name not in inputs])
        fresh["latents"].write(x)
        step = {**inputs, **fresh, **embedding}
        graph.bind(step).run()
        without, with_condition = step["prediction"].read().astype(np.float64)
        prediction = without + scale * (with_condition - without)
        x0 = p * x + q * prediction
        x, history = a * x + b * x0 + c * history[0] + d * history[1], [x0, history[0]]
    return x


def tabulated(model: LoadedModel, solver: str, steps: int) -> StepTable:
    return model.step_table(AnimateOptions(solver=solver, steps=steps))[0]


NOISE = np.random.default_rng(5).standard_normal((4, 4, 8, 8), np.float32)


@pytest.fixture(scope="module")
def features(model: LoadedModel, avatar: Avatar) -> Buffers:
    """Random features of the size that ``step`` takes."""
    random = np.random.default_rng(2)
    state = {"latents", "x0_history", "time_embedding", "coefficients", "guidance_scale"}
    buffers = Buffers(model.backend, [t for t in model.graph("step").spec.inputs if t.name not in state])
    for name, buffer in buffers.items():
        known = avatar.features.get(name)
        buffer.write(random.standard_normal(buffer.shape) if known is None else known.read())
    return buffers


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_clip_is_the_table_applied_to_the_predictions(model: LoadedModel, features: Buffers, solver: str) -> None:
    expected = by_the_formula(model, features, solver, 4, 2.5)
    found = denoised(model, features, solver, 4, 2.5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_guidance_is_computed_in_its_interval_only(
    model: LoadedModel, backend: RecordingBackend, features: Buffers
) -> None:
    """Without guidance is scale 1 in the formula; the graph without it computes one half of the rows."""
    options = AnimateOptions(steps=5, guidance=2.5, guidance_interval=(0.2, 0.6))
    assert model.resolve(options).guided_steps() == (False, True, True, False, False)
    table, guidance = model.step_table(options)
    denoiser = Denoiser(backend, [model.graph(name).spec for name in ("step", "step_unguided")])
    denoiser.bind({name: model.graph(name) for name in ("step", "step_unguided")}, features, table)
    backend.runs.clear()
    run_all(denoiser, table, guidance, denoiser.finals[0])
    assert [len(backend.runs_of(name)) for name in ("step", "step_unguided")] == [2, 3]
    expected = by_the_formula(model, features, "ddim", 5, (1, 2.5, 2.5, 1, 1))
    assert np.abs(denoiser.finals[0].read() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (-0.1, 1), (0, 1.1), (0,), "01", (0, None)])
def test_an_interval_that_is_none_is_refused(interval: Any) -> None:
    with pytest.raises(ConfigError, match="guidance_interval"):
        AnimateOptions(guidance_interval=interval)


def test_cached_steps_take_the_inner_blocks_result_from_the_last_full_one(
    cached_bundle: Bundle, features: Buffers
) -> None:
    """Without guidance in the middle: what one kind of step leaves is not taken by the other."""
    with RecordingBackend() as backend, LoadedModel(cached_bundle, backend) as model:
        options = AnimateOptions(steps=8, guidance=2.5, guidance_interval=(0.0, 0.6), deep_cache=3)
        table, guidance = model.step_table(options)
        expected = ["step", "step_cached", "step_cached", "step", "step_cached"]
        expected += ["step_unguided", "step_cached_unguided", "step_cached_unguided"]
        assert list(table.graphs) == expected
        graphs = {name: model.graph(name) for name in set(table.graphs)}
        denoiser = Denoiser(backend, [graph.spec for graph in graphs.values()])
        denoiser.bind(graphs, features, table)
        run_all(denoiser, table, guidance, denoiser.finals[0])
        found, rows = denoiser.finals[0].read(), solver_table(model.config.schedule, "ddim", 8)
        x, deep = NOISE, dict[str, Array]()
        for step, name in enumerate(table.graphs):
            graph = graphs[name]
            fresh = Buffers(backend, [t for t in (*graph.spec.inputs, *graph.spec.outputs) if t.name not in features])
            row = {
                "time_embedding": table.time_embeddings.row(step).read(),
                "coefficients": rows.coefficients[step],
            }
            given = {**deep, **row, "latents": x, "guidance_scale": np.array([guidance], np.float32)}
            for taken in set(given) & {tensor.name for tensor in graph.spec.inputs}:
                fresh[taken].write(given[taken])
            graph.bind({**features, **fresh}).run()
            x = fresh["next_latents"].read().copy()
            deep |= {name: fresh[name].read().copy() for name in fresh if name.startswith("deep_features")}
        np.testing.assert_allclose(found, x, atol=1e-5 * np.abs(x).max())


def test_a_bundle_without_cached_steps_refuses_them(model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match=r"deep_cache is 2; this bundle has no graphs for it"):
        model.step_table(AnimateOptions(deep_cache=2))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_any_number_of_steps_ends_in_the_given_buffer(model: LoadedModel, features: Buffers, steps: int) -> None:
    expected = by_the_formula(model, features, "ddim", steps, 2.5)
    found = denoised(model, features, "ddim", steps, 2.5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_clip_starts_without_the_history_of_the_one_before(model: LoadedModel, features: Buffers) -> None:
    graph, table = model.graph("step"), tabulated(model, "unipc", 3)
    denoiser = Denoiser(model.backend, [graph.spec])
    denoiser.bind({"step": graph}, features, table)
    for final in denoiser.finals[:2]:
        run_all(denoiser, table, 2.5, final)
    np.testing.assert_array_equal(denoiser.finals[0].read(), denoiser.finals[1].read())
    assert not denoiser.finals[2].read().any()


def test_each_step_is_reported_once_it_is_done(model: LoadedModel, features: Buffers) -> None:
    graph, table = model.graph("step"), tabulated(model, "ddim", 3)
    denoiser = Denoiser(model.backend, [graph.spec])
    denoiser.bind({"step": graph}, features, table)
    reported, latents = list[int](), list[Array]()
    for steps in denoiser.slices(table, NOISE, 1.0, denoiser.finals[0]):
        reported.append(steps)
        latents.append(denoiser.latents.read().copy())
    assert reported == [1, 2, 3]
    np.testing.assert_array_equal(latents[-1], denoiser.finals[0].read())
    assert not np.array_equal(latents[0], latents[1])


# The hot path


def test_the_loop_makes_no_buffer_and_copies_only_noise_and_start_values(
    model: LoadedModel, backend: RecordingBackend, features: Buffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, table = model.graph("step"), tabulated(model, "ddim", 5)
    denoiser = Denoiser(backend, [graph.spec])
    denoiser.bind({"step": graph}, features, table)
    written: list[int] = []
    write = HostBuffer.write
    monkeypatch.setattr(HostBuffer, "write", lambda self, values: (written.append(self.pointer), write(self, values)))
    monkeypatch.setattr(HostBuffer, "read", lambda self: pytest.fail("the loop read a tensor"))
    backend.allocated.clear()
    copies_by_step = [len(written) for _ in denoiser.slices(table, NOISE, 1.5, denoiser.finals[0])]
    assert backend.allocated == []
    assert copies_by_step == [3] * 5  # guidance scale, noise, empty history: before the first step


def test_the_loop_allocates_no_memory_of_the_size_of_a_tensor(backend: RecordingBackend) -> None:
    """Full-size state (786 kB of latents) around a graph that does nothing."""

    class Nothing(BoundGraph):
        def rebind(self, name: str, buffer: Buffer) -> None:
            pass

        def run(self) -> None:
            pass

    class Still(Graph):
        def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
            return Nothing()

        def close(self) -> None:
            pass

    spec = Still.spec = next(spec for spec in graph_specs(preset("emo")) if spec.name == "step")
    denoiser = Denoiser(backend, [spec])
    rows = [TensorSpec("coefficients", "float32", (40, 6)), TensorSpec("embeddings", "float32", (40, 1, 20_000))]
    tables = Buffers(backend, rows)
    table = StepTable(tables["coefficients"], tables["embeddings"], ("step",) * 40)
    denoiser.bind({"step": Still()}, {}, table)
    noise = np.zeros(denoiser.finals[0].shape, np.float32)
    tracemalloc.start()
    try:
        run_all(denoiser, table, 3.5, denoiser.finals[0], noise)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_no_tensor_is_copied_between_graphs(model: LoadedModel, backend: RecordingBackend, avatar: Avatar) -> None:
    """What a graph wrote is read at the same address by the next, through a whole run of three clips."""
    backend.runs.clear()
    made(model, avatar, 0.48, steps=3)
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
        half = model.config.decode_frames * 4 * 8 * 8 * 4
        decoded = [decode["frame_latents"] for decode in decodes[2 * index : 2 * index + 2]]
        assert decoded == [last["next_latents"], last["next_latents"] + half]
    kept = {clip["motion_latents"] for clip in clips}
    assert len(kept) == 1, "the motion frames are the session's, and stay where they are"


def test_finished_latents_rotate_so_that_none_is_overwritten_while_it_is_decoded(
    model: LoadedModel, backend: RecordingBackend, avatar: Avatar
) -> None:
    backend.runs.clear()
    made(model, avatar, 0.64, steps=1)
    written = [step["next_latents"] for step in backend.runs_of("step")]
    assert len(set(written[:3])) == 3
    assert written[3] == written[0]


def test_after_the_first_clip_no_buffer_is_made(model: LoadedModel, backend: RecordingBackend, avatar: Avatar) -> None:
    with Runtime() as runtime, Session(runtime, avatar, AnimateOptions(steps=2), Control()) as session:
        session.push(np.zeros(SECOND, np.float32))
        next(session)
        backend.allocated.clear()
        session.end()
        assert len(list(session)) == 6
    assert backend.allocated == []


def test_motion_frames_are_all_that_is_copied_between_two_clips(
    model: LoadedModel, avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[int, ...]] = []
    copy = HostStream.copy

    def note(stream: HostStream, source: Buffer, target: Buffer) -> None:
        copied.append(source.shape)
        copy(stream, source, target)

    tabulated(model, "ddim", 3)
    monkeypatch.setattr(HostStream, "copy", note)
    made(model, avatar, 0.48, steps=3)
    assert copied == [(2, 4, 8, 8)] * 3


# Schedules


def test_a_step_table_holds_the_coefficients_and_the_embedding_of_each_step(model: LoadedModel) -> None:
    table = tabulated(model, "dpmpp_2m", 5)
    rows = solver_table(model.config.schedule, "dpmpp_2m", 5)
    np.testing.assert_array_equal(table.coefficients.read(), rows.coefficients)
    graph = model.graph("timestep")
    for step, time in enumerate(rows.timesteps):
        one = Buffers(model.backend, [*graph.spec.inputs, *graph.spec.outputs])
        one["timestep"].write(np.array([time]))
        graph.bind(one).run()
        np.testing.assert_array_equal(table.time_embeddings.row(step).read(), one["time_embedding"].read())


def test_a_step_table_is_made_once(model: LoadedModel) -> None:
    assert tabulated(model, "ddim", 6) is tabulated(model, "ddim", 6)


def test_a_step_table_that_does_not_exist_is_refused(model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="steps"):
        tabulated(model, "ddim", 1001)


class CountingGraph(Graph):
    """A ``timestep`` graph that does nothing and counts, and lets other threads in meanwhile."""

    def __init__(self) -> None:
        tensors = TensorSpec("timestep", "float32", (1,)), TensorSpec("time_embedding", "float32", (1, 4))
        self.spec = GraphSpec("timestep", tensors[:1], tensors[1:])
        self.runs = 0
        self._pause = threading.Event()

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        graph = self

        class Count(BoundGraph):
            def rebind(self, name: str, buffer: Buffer) -> None:
                raise NotImplementedError

            def run(self) -> None:
                graph.runs += 1
                graph._pause.wait(0.001)

        return Count()

    def close(self) -> None:
        pass


def test_threads_that_ask_at_once_share_one_step_table(backend: RecordingBackend) -> None:
    graph = CountingGraph()
    tables = StepTables(backend, graph, preset("tiny"))
    got: list[StepTable] = []
    threads = [threading.Thread(target=lambda: got.append(tables.step_table("ddim", ("step",) * 10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert graph.runs == 10


def test_only_the_latest_step_tables_are_kept(backend: RecordingBackend) -> None:
    graph = CountingGraph()
    tables = StepTables(backend, graph, preset("tiny"))
    kept = tables.step_table("ddim", ("step",) * 1)
    for steps in range(2, KEPT_TABLES + 1):
        tables.step_table("ddim", ("step",) * steps)
    assert tables.step_table("ddim", ("step",) * 1) is kept  # and it is now the latest
    first = tables.step_table("ddim", ("step",) * 2)
    for steps in range(20, 20 + KEPT_TABLES):
        tables.step_table("ddim", ("step",) * steps)
    assert tables.step_table("ddim", ("step",) * 2) is not first
