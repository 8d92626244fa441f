"""ONNX Runtime's GPU backend on the stand-in: whole animations, its CUDA graphs, and no silent fall-back to the CPU."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
from cuda_stand_in import ByAddress, StandInDevice

from emo_rt import Animator, BackendError, BackendUnavailableError, Bundle, DeviceLostError
from emo_rt.device import onnxruntime_cuda as ort_cuda
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
from emo_rt.device.onnxruntime_cuda_graph import ATTEMPTS, FIRST_PAUSE
from emo_rt.device.onnxruntime_gpu import PROBE, PROVIDER, import_onnxruntime
from emo_rt.model.contract import Array
from emo_rt.runtime.loaded_model import LoadedModel

pytestmark = pytest.mark.usefixtures("opened_once")
RATE, CLIP = 16_000, 4 * 640


class StandInBinding:
    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def bind_input(self, name: str, device: str, index: int, dtype: Any, shape: tuple[int, ...], pointer: int) -> None:
        assert (device, index) == ("cuda", 0)
        self.addresses[name], self.shapes[name] = pointer, shape

    bind_output = bind_input


class StandInInference:
    """``InferenceSession`` on the CUDA provider."""

    def __init__(
        self, ort: StandInOrt, source: Any, options: Any = None, providers: Any = (), enable_fallback: int = 1
    ) -> None:
        assert not enable_fallback, "it would print an error and take the CPU"
        self.ort, self.settings, self.options = ort, providers[0][1], options
        self.threads: set[int] = set()
        self.runs: list[dict[str, str]] = []
        if source == PROBE:
            return
        ort.opening(self.settings)
        name = ort.name_of(source)
        self._inner = ort.cpu.open(ort.bundle, name)
        self.work = ByAddress(ort.device, self._inner)
        ort.sessions.setdefault(name, []).append(self)

    def get_providers(self) -> list[str]:
        return [self.ort.opens_on, "CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        return self._inner.inner.get_inputs()  # type: ignore[attr-defined]

    def get_outputs(self) -> Any:
        return self._inner.inner.get_outputs()  # type: ignore[attr-defined]

    def run(self, names: Any, values: dict[str, Array]) -> None:
        """Only the probe is run so."""
        self.ort.probe()

    def release_captured_graph(self, number: int) -> None:
        self.ort.released.append(number)

    def io_binding(self) -> StandInBinding:
        return StandInBinding()

    def run_with_iobinding(self, binding: StandInBinding, options: Any) -> None:
        self.threads.add(threading.get_ident())
        self.runs.append(dict(options.entries))
        self.ort.trouble(self)
        self.work.enqueue(int(self.settings["user_compute_stream"]), binding.addresses, binding.shapes)


class StandInOrt:
    """What :mod:`emo_rt.device.onnxruntime_cuda` uses of the package ``onnxruntime``."""

    SessionOptions = staticmethod(onnxruntime.SessionOptions)

    def __init__(self, device: StandInDevice, bundle: Bundle) -> None:
        self.device, self.bundle, self.cpu = device, bundle, OrtBackend(threads=1)
        self.opens_on = PROVIDER
        self.sessions: dict[str, list[StandInInference]] = {}
        self.trouble: Any = lambda session: None
        self.opening: Any = lambda settings: None
        self.probe: Any = lambda: None
        self.released: list[int] = []

    def name_of(self, source: str | bytes) -> str:
        """The graph that was opened: a file, or its rewritten form, which has the graph's own outputs."""
        if isinstance(source, str):
            return source.rpartition("/")[2].removesuffix(".onnx")
        model = onnx.load_from_string(source)
        given = {value.name for value in (*model.graph.input, *model.graph.output)}
        specs = self.bundle.graphs.items()
        return next(name for name, spec in specs if {t.name for t in (*spec.inputs, *spec.outputs)} == given)

    def InferenceSession(self, *args: Any, **more: Any) -> StandInInference:
        return StandInInference(self, *args, **more)

    def RunOptions(self) -> Any:
        entries: dict[str, str] = {}
        return SimpleNamespace(entries=entries, add_run_config_entry=entries.__setitem__)


@pytest.fixture
def ort(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> StandInOrt:
    made = StandInOrt(StandInDevice(1), tiny_bundle)
    monkeypatch.setattr(ort_cuda, "import_onnxruntime", lambda: made)
    return made


def opened(ort: StandInOrt, **options: Any) -> Animator:
    backend = OrtCudaBackend(ort.device, **options)  # type: ignore[arg-type]
    backend.slice_s = float("inf")  # the load of this machine must not decide how long a slice is
    return Animator(LoadedModel(ort.bundle, backend))


def frames(animator: Animator, **options: Any) -> Array:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    sound = 0.1 * np.random.default_rng(1).standard_normal(4 * CLIP, np.float32)
    avatar = animator.prepare(picture, face_box="full")
    return animator.animate(avatar, sound, sample_rate=RATE, steps=3, **options).numpy()


@pytest.fixture
def expected(tiny_bundle: Bundle) -> Array:
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        return frames(animator)


@pytest.mark.parametrize("own_graphs", [True, False])
def test_an_animation_is_that_of_the_cpu(ort: StandInOrt, expected: Array, own_graphs: bool) -> None:
    with opened(ort, own_graphs=own_graphs) as animator:
        found = frames(animator)
        assert (animator.device, animator.backend) == ("cuda", "onnxruntime")
    np.testing.assert_array_equal(found, expected)
    assert ort.device.broken == []


def test_steps_are_graphs_of_onnx_runtime_of_two_numbers_in_one_thread(ort: StandInOrt) -> None:
    with opened(ort) as animator:
        frames(animator)
        frames(animator)
    (step,), (clip,) = ort.sessions["step"], ort.sessions["clip"]
    assert (step.settings["enable_cuda_graph"], clip.settings["enable_cuda_graph"]) == ("1", "0")
    assert {run["gpu_graph_id"] for run in step.runs} == {"1", "2"}
    assert [run["gpu_graph_id"] for run in step.runs[:6]] == ["1"] * 3 + ["2"] * 3  # until it replays its own graph
    assert not any("gpu_graph_id" in run for run in clip.runs)
    assert len(step.threads) == 1
    for session in (step, clip):
        assert all(run["disable_synchronize_execution_providers"] == "1" for run in session.runs)


def test_graphs_of_one_lane_share_a_stream_and_others_do_not(ort: StandInOrt) -> None:
    with opened(ort) as animator:
        frames(animator)
    streams = {name: sessions[0].settings["user_compute_stream"] for name, sessions in ort.sessions.items()}
    assert streams["clip"] == streams["step"]
    assert len({streams["step"], streams["vae_decoder"], streams["audio_encoder"]}) == 3


@pytest.mark.parametrize(("dtype", "tf32"), [("float32", "0"), ("float16", "1")])
def test_convolutions_in_half_precision_keep_their_tensor_cores(
    ort: StandInOrt, dtype: str, tf32: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emo_rt.runtime.loaded_model.check_agreement", lambda bundle: None)  # its tensors stay fp32
    ort.bundle = replace(ort.bundle, dtype=dtype)
    with opened(ort):
        assert {session.settings["use_tf32"] for made in ort.sessions.values() for session in made} == {tf32}


def test_no_memory_is_planned_by_pattern(ort: StandInOrt) -> None:
    with opened(ort):
        assert not any(session.options.enable_mem_pattern for made in ort.sessions.values() for session in made)


def test_a_loop_that_is_captured_from_outside_is_one_launch(ort: StandInOrt, expected: Array) -> None:
    """Not with today's ONNX Runtime; ready for one that allows it."""
    with opened(ort, external_capture=True) as animator:
        np.testing.assert_array_equal(frames(animator), expected)
    assert ort.device.launches == [9] * 4
    assert ort.device.broken == []


def refusing(times: int) -> Any:
    """Let the first captures fail."""
    left = [times]

    def refuse(session: StandInInference) -> None:
        if session.runs[-1].get("gpu_graph_id", "-1") != "-1" and left[0]:
            left[0] -= 1
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    return refuse


def test_a_capture_that_fails_is_tried_again_at_once(
    ort: StandInOrt, expected: Array, caplog: pytest.LogCaptureFixture
) -> None:
    ort.trouble = refusing(ATTEMPTS - 1)
    with opened(ort) as animator:
        np.testing.assert_array_equal(frames(animator), expected)
        np.testing.assert_array_equal(frames(animator), expected)
    (step,) = ort.sessions["step"]
    assert [run["gpu_graph_id"] for run in step.runs[:8]] == ["1"] * 5 + ["2"] * 3
    assert "uncaptured" not in caplog.text


def test_a_capture_that_keeps_failing_is_done_without_in_the_same_session_and_tried_later(
    ort: StandInOrt, expected: Array, caplog: pytest.LogCaptureFixture
) -> None:
    """A second session beside the first would take the memory of both."""
    ort.trouble = refusing(2 * ATTEMPTS)  # of even and of odd steps
    with opened(ort) as animator:
        np.testing.assert_array_equal(frames(animator), expected)
        avatar = animator.prepare(np.zeros((40, 40, 3), np.uint8), face_box="full")
        video = animator.animate(avatar, np.zeros(CLIP, np.float32), sample_rate=RATE, steps=2 * FIRST_PAUSE)
        video.numpy()
        assert video.stats is not None
        assert "it replays a CUDA graph of its own" in video.stats.loop
    (step,) = ort.sessions["step"]
    ids = [run["gpu_graph_id"] for run in step.runs]
    assert ids[:6] == ["1"] * ATTEMPTS + ["-1"] * 3  # three warm runs, the first after the attempts
    assert ids[6:9] == ["2"] * ATTEMPTS
    assert ids[-2:] == ["1", "2"]
    assert ids.count("-1") == 2 * (FIRST_PAUSE + 1)
    assert "launched uncaptured" in caplog.text


def test_a_graph_that_may_not_be_captured_is_opened_without(
    ort: StandInOrt, expected: Array, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(settings: dict[str, str]) -> None:
        if settings.get("enable_cuda_graph") == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    ort.opening = refuse
    with opened(ort) as animator:
        np.testing.assert_array_equal(frames(animator), expected)
    (step,) = ort.sessions["step"]
    assert step.settings["enable_cuda_graph"] == "0"
    assert not any("gpu_graph_id" in run for run in step.runs)
    assert "graph step is launched uncaptured" in caplog.text


def test_captured_graphs_are_given_back_with_their_worker(ort: StandInOrt) -> None:
    with opened(ort) as animator:
        frames(animator)
        for pool in animator._pools():
            pool.close()
        assert sorted(ort.released) == [1, 2]


def test_a_machine_whose_libraries_do_not_run_is_found_when_the_backend_opens(ort: StandInOrt) -> None:
    def fail() -> None:
        raise RuntimeError("cuDNN is not there")

    ort.probe = fail
    with pytest.raises(BackendUnavailableError, match=r"convolution and a matrix product on GPU 0: cuDNN is not there"):
        opened(ort)


def test_a_failure_later_is_an_error(ort: StandInOrt) -> None:
    with opened(ort) as animator:
        frames(animator)

        def fail(session: StandInInference) -> None:
            raise RuntimeError("no")

        ort.trouble = fail
        with pytest.raises(BackendError, match="cannot run graph"):
            frames(animator)


def test_a_lost_device_is_final(ort: StandInOrt) -> None:
    with opened(ort) as animator:

        def fail(session: StandInInference) -> None:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")

        ort.trouble = fail
        for _ in range(2):
            with pytest.raises(DeviceLostError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
                frames(animator)


def test_a_silent_fall_back_to_the_cpu_is_refused(ort: StandInOrt) -> None:
    ort.opens_on = "CPUExecutionProvider"
    with pytest.raises(BackendUnavailableError, match="on CPUExecutionProvider, not on CUDAExecutionProvider"):
        opened(ort)


def test_a_package_without_cuda_is_refused() -> None:
    if PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(BackendUnavailableError, match=r"has no CUDAExecutionProvider; .* install emo_rt\[gpu\]"):
        import_onnxruntime()


def test_the_probe_is_a_model() -> None:
    session = onnxruntime.InferenceSession(PROBE, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([[[[1, 2], [3, 4]]]], np.float32)})
    np.testing.assert_array_equal(found, [[[[28, 40], [60, 88]]]])
    assert b"Conv" in PROBE
    assert b"MatMul" in PROBE
