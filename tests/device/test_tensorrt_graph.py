"""The TensorRT backend: whole animations through it on the stand-in, its rules, and the real package's CPU side."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import CURRENT, ByAddress, StandInDevice

from emo_rt import Animator, BackendError, Bundle, CaptureError, ClosedError
from emo_rt.device.buffers import Buffers
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.device.tensorrt import graph as trt
from emo_rt.device.tensorrt.graph import TrtBackend, check_engine
from emo_rt.device.tensorrt.package import LogLine
from emo_rt.model.contract import Array, GraphSpec, TensorSpec
from emo_rt.runtime.loaded_model import LoadedModel

RATE, CLIP = 16_000, 4 * 640
DATA_TYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8"}


class StandInContext:
    """An execution context that knows addresses only."""

    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shapes = {t.name: t.shape for t in (*engine.spec.inputs, *engine.spec.outputs)}
        self.memory: tuple[int, int] | None = None
        self.capturable = True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.shapes

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        self.shapes["audio_hidden"] = (-(-shape[1] // 640), *self.shapes["audio_hidden"][1:])
        return len(shape) == 2

    def update_device_memory_size_for_shapes(self) -> int:
        return self.engine.device_memory_size_v2

    def set_device_memory(self, pointer: int, nbytes: int) -> None:
        assert nbytes >= self.engine.device_memory_size_v2
        self.memory = (pointer, nbytes)

    def is_stream_capturable(self, handle: int) -> bool:
        assert not self.engine.work.device.stream_of(handle).is_capturing, "not documented as allowed in a capture"
        return self.engine.capturable

    def execute_async_v3(self, handle: int) -> bool:
        if self.engine.refuses:
            self.engine.lines.append(LogLine("ERROR", self.engine.refuses))
            return False
        assert self.memory is not None, "no scratch memory was given"
        device = self.engine.work.device
        self.engine.work.enqueue(handle, self.addresses, self.shapes, device.at(*self.memory))  # type: ignore[arg-type]
        return True


class StandInEngine:
    """What :mod:`emo_rt.device.tensorrt.graph` asks an ``ICudaEngine``."""

    def __init__(self, work: ByAddress, lines: list[LogLine], scratch: int) -> None:
        self.work, self.spec, self.lines = work, work.spec, lines
        self.device_memory_size_v2 = scratch
        self.capturable, self.refuses = True, ""
        self.contexts: list[StandInContext] = []
        self._tensors = (*self.spec.inputs, *self.spec.outputs)
        self.num_io_tensors = len(self._tensors)

    def create_execution_context(self, strategy: str) -> StandInContext:
        assert strategy == "user managed"
        self.contexts.append(StandInContext(self))
        return self.contexts[-1]

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in {tensor.name for tensor in self.spec.inputs} else "out"

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=DATA_TYPES[self._tensor(name).dtype])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(size, str) else size for size in self._tensor(name).shape)

    def _tensor(self, name: str) -> TensorSpec:
        return next(tensor for tensor in self._tensors if tensor.name == name)


class StandInPackage:
    """What :class:`emo_rt.device.tensorrt.package.TensorRT` offers."""

    name, version = "tensorrt", "stand-in"
    module = SimpleNamespace(
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
    )

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    def runtime(self) -> object:
        return object()

    def dtype_name(self, data_type: Any) -> str:
        return next(name for name, theirs in DATA_TYPES.items() if theirs == data_type.name)

    @contextmanager
    def listen(self) -> Iterator[list[LogLine]]:
        self.lines.clear()
        yield self.lines


class Rig:
    """A TensorRT backend over stand-ins, and its engines by graph."""

    def __init__(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, seed: int = 0, index: int = 0) -> None:
        self.device, self.package, self.cpu = StandInDevice(seed, index), StandInPackage(), OrtBackend(threads=1)
        self.engines: dict[str, StandInEngine] = {}
        plan = SimpleNamespace(path=Path("nowhere.plan"), record=SimpleNamespace(sha256="0" * 64))
        monkeypatch.setattr(trt, "find_plan", lambda bundle, graph, *_: setattr(self, "graph", graph) or plan)
        monkeypatch.setattr(trt, "load_engine", lambda *_: self._engine(bundle))
        self.backend = TrtBackend(self.device, self.package)  # type: ignore[arg-type]
        self.backend.slice_s = float("inf")  # the load of this machine must not decide how long a slice is

    def _engine(self, bundle: Bundle) -> StandInEngine:
        work = ByAddress(self.device, self.cpu.open(bundle, self.graph))
        engine = StandInEngine(work, self.package.lines, 256 * (1 + len(self.engines)))
        self.engines[self.graph] = engine
        return engine

    graph = ""


@pytest.fixture
def rig(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tiny_bundle, monkeypatch)


def frames(animator: Animator, **options: Any) -> Array:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    sound = 0.1 * np.random.default_rng(1).standard_normal(4 * CLIP, np.float32)
    avatar = animator.prepare(picture, face_box="full")
    return animator.animate(avatar, sound, sample_rate=RATE, steps=3, **options).numpy()


@pytest.fixture
def first_gpu_current() -> Iterator[None]:
    """What a test has made current in this thread is forgotten."""
    yield
    CURRENT.__dict__.clear()


def test_the_second_gpu_is_current_wherever_tensorrt_is_called(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, first_gpu_current: None
) -> None:
    """The stand-in refuses work of a library that the first GPU would get."""
    rig = Rig(tiny_bundle, monkeypatch, index=1)
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        assert animator.device == "cuda:1"
        assert frames(animator).any()
    assert rig.device.broken == []


@pytest.mark.parametrize("seed", range(3))
def test_an_animation_is_that_of_the_cpu_in_one_launch_per_clip(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rig = Rig(tiny_bundle, monkeypatch, seed)
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        found = frames(animator)
        assert animator.backend == "tensorrt"
    assert rig.device.broken == []
    assert rig.device.launches == [9] * 4
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        np.testing.assert_array_equal(found, frames(animator))


def test_scratch_memory_is_shared_within_a_lane_only(tiny_bundle: Bundle, rig: Rig) -> None:
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        frames(animator)
        given = {name: {c.memory[0] for c in e.contexts if c.memory} for name, e in rig.engines.items()}
    assert len(given["vae_decoder"]) == 1
    assert not given["vae_decoder"] & (given["step"] | given["clip"])
    assert given["vae_encoder"] | given["reference"] | given["audio_encoder"] | given["timestep"]


def test_scratch_memory_that_two_lanes_shared_would_be_noticed(
    tiny_bundle: Bundle, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig.device.memory(1 << 16)
    monkeypatch.setattr(rig.backend, "scratch", lambda stream, nbytes: one)
    with (
        pytest.raises(BackendError, match="does not wait for it"),
        Animator(LoadedModel(tiny_bundle, rig.backend)) as animator,
    ):
        frames(animator)
    assert rig.device.broken


def test_each_launch_has_a_context_of_its_own(tiny_bundle: Bundle, rig: Rig) -> None:
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        frames(animator)
        before = len(rig.engines["step"].contexts)
        frames(animator)
        assert (before, len(rig.engines["step"].contexts)) == (2, 2)  # for even and odd steps; kept for the next run


def test_an_engine_that_says_that_it_cannot_be_captured_runs_step_by_step(tiny_bundle: Bundle, rig: Rig) -> None:
    model = LoadedModel(tiny_bundle, rig.backend)
    model.graph("step")
    rig.engines["step"].capturable = False
    with Animator(model) as animator:
        seen: list[int] = []
        found = frames(animator, progress=lambda progress: seen.append(progress.step))
    assert seen == [1, 2, 3] * 4
    assert rig.device.launches == []
    assert rig.device.broken == []
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        np.testing.assert_array_equal(found, frames(animator))


def test_a_refused_run_is_an_error_in_tensorrts_words(tiny_bundle: Bundle, rig: Rig) -> None:
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        rig.engines["clip"].refuses = "the moon is in the way"
        with pytest.raises(BackendError, match="cannot run graph clip: the moon is in the way"):
            frames(animator)


def test_a_refused_run_may_tell_of_a_lost_device(tiny_bundle: Bundle, rig: Rig) -> None:
    with Animator(LoadedModel(tiny_bundle, rig.backend)) as animator:
        rig.engines["clip"].refuses = "Cuda Runtime (cudaError 700: an illegal memory access was encountered)"
        for _ in range(2):
            with pytest.raises(BackendError, match="failed for good: CUDA_ERROR_ILLEGAL_ADDRESS"):
                frames(animator)


def test_a_closed_session_and_a_closed_launch_run_no_more(tiny_bundle: Bundle, rig: Rig) -> None:
    graph = rig.backend.open(tiny_bundle, "timestep")
    buffers = Buffers(rig.backend, [*graph.spec.inputs, *graph.spec.outputs])
    one, other = graph.bind(buffers), graph.bind(buffers)
    one.run()
    one.close()
    one.close()
    with pytest.raises(ClosedError):
        one.run()
    graph.close()
    graph.close()
    with pytest.raises(ClosedError):
        other.run()
    rig.backend.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "float16"}, "input timestep float32[1], expected input timestep float16[1]"),
        ({"shape": (2,)}, "expected input timestep float32[2]"),
        ({"name": "time"}, "no such tensor, expected input time float32[1]"),
    ],
)
def test_an_engine_of_another_interface_is_refused(
    tiny_bundle: Bundle, rig: Rig, change: dict[str, Any], words: str
) -> None:
    rig.backend.open(tiny_bundle, "timestep")
    spec = tiny_bundle.graphs["timestep"]
    first = spec.inputs[0]
    values = {"name": first.name, "dtype": first.dtype, "shape": first.shape, **change}
    wrong = GraphSpec("timestep", (TensorSpec(**values),), spec.outputs)
    with pytest.raises(BackendError, match="does not fit the bundle") as error:
        check_engine(rig.engines["timestep"], wrong, rig.package)  # type: ignore[arg-type]
    assert words in str(error.value)
    rig.backend.close()


def test_a_capture_error_keeps_its_words() -> None:
    assert issubclass(CaptureError, BackendError)


# The real package


needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt_rtx")


@needs_rtx
def test_the_real_package_has_what_the_backend_calls() -> None:
    from emo_rt.device.tensorrt.package import load_package

    module = load_package("tensorrt_rtx").module
    wanted = {
        "ICudaEngine": ["create_execution_context", "create_runtime_config", "get_tensor_name", "get_tensor_mode"],
        "IExecutionContext": ["set_tensor_address", "set_input_shape", "set_device_memory", "execute_async_v3"]
        + ["update_device_memory_size_for_shapes", "is_stream_capturable"],
        "IRuntimeConfig": ["create_runtime_cache", "set_runtime_cache", "set_execution_context_allocation_strategy"],
        "IRuntimeCache": ["serialize", "deserialize"],
        "Runtime": ["deserialize_cuda_engine"],
    }
    missing = [
        f"{cls}.{name}" for cls, names in wanted.items() for name in names if not hasattr(getattr(module, cls), name)
    ]
    assert missing == []
    assert hasattr(module.ICudaEngine, "device_memory_size_v2")
    assert module.ExecutionContextAllocationStrategy.USER_MANAGED != module.ExecutionContextAllocationStrategy.STATIC


@needs_rtx
def test_a_real_plan_is_found_verified_and_refused_with_reasons_where_there_is_no_gpu(
    bundle_copy: Path,
) -> None:
    from emo_rt.device.tensorrt.gpus import Gpu, current_gpu
    from emo_rt.device.tensorrt.package import load_package
    from emo_rt.device.tensorrt.plan import find_plan
    from emo_rt.engines.builder import build_engines
    from emo_rt.engines.options import BuildRequest

    bundle = Bundle.open(bundle_copy)
    build_engines(bundle, BuildRequest(package="tensorrt_rtx", target="sm89", graphs=("timestep",)))
    package = load_package("tensorrt_rtx")
    plan = find_plan(bundle, "timestep", package, Gpu("any", "sm89"))
    assert plan.read()
    try:
        current_gpu()
    except BackendError:
        with pytest.raises(BackendError, match=r"refuses .*\.plan: .*build it again"):
            trt.load_engine(package, package.runtime(), plan, bundle)
