"""The one switch between backends, and ONNX Runtime bound to buffers in place."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from emo_rt import Animator, Bundle
from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers, host_buffer
from emo_rt.device.openvino import OvBackend
from emo_rt.device.processor import BFLOAT16, bfloat16_problem, features
from emo_rt.device.registry import open_backend
from emo_rt.errors import BackendError, BackendUnavailableError, ClosedError, ConfigError, DeviceLostError
from emo_rt.model.bundle import write_manifest
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import GraphSpec, TensorSpec
from emo_rt.model.schema1 import standard_offers

X = TensorSpec("x", "float32", (2, 3))
Y = TensorSpec("y", "float32", (2, 3))
DOUBLE = GraphSpec("double", (X,), (Y,))


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with open_backend(request.param, "cpu", threads=1) as opened:
        yield opened


@pytest.fixture
def double_bundle(tmp_path: Path) -> Bundle:
    """A bundle of one graph, y = x + x, whose manifest can be told otherwise with :func:`described`."""
    (tmp_path / "graphs").mkdir()
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "graphs/double.onnx")
    return described(tmp_path, DOUBLE)


def described(folder: Path, spec: GraphSpec) -> Bundle:
    content: dict[str, Any] = {"config": ModelConfig().to_dict(), "dtype": "float32", "weights": "float32"}
    content |= standard_offers()
    write_manifest(folder, {**content, "graphs": {"double": spec.to_dict()}, "provenance": {}, "parity": []})
    return Bundle.open(folder)


@pytest.fixture
def graph(backend: Backend, double_bundle: Bundle) -> Graph:
    return backend.open(double_bundle, "double")


@pytest.fixture
def buffers(backend: Backend) -> Buffers:
    return Buffers(backend, [X, Y])


@pytest.mark.parametrize("options", [{"backend": "torch"}, {"device": "tpu"}])
def test_an_unknown_name_is_refused_with_the_known_ones(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"expected one of auto, "):
        open_backend(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, "2"])
def test_threads_out_of_range_are_refused(threads: Any) -> None:
    with pytest.raises(ConfigError, match="an integer from 1 to 1024, or None"):
        open_backend(threads=threads)


@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"backend": "tensorrt"}, {"device": "cuda", "backend": "onnxruntime"}]
)
def test_what_cannot_be_had_is_refused_and_not_replaced(options: dict[str, str], no_gpu: None) -> None:
    with pytest.raises(
        BackendUnavailableError, match=r"cannot be had: there is no GPU here; use device 'cpu'"
    ) as error:
        open_backend(**options)  # type: ignore[arg-type]
    assert all(repr(name) in str(error.value) for name in options.values())


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(index: int) -> None:
        raise BackendUnavailableError("there is no GPU here")

    monkeypatch.setattr("emo_rt.device.tensorrt.gpus.current_gpu", refuse)


def test_tensorrt_on_the_cpu_is_refused(no_gpu: None) -> None:
    with pytest.raises(BackendUnavailableError, match="backend 'tensorrt' does not run on device 'cpu'"):
        open_backend("tensorrt", "cpu")


def test_without_onnx_runtime_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"install emo_rt\[cpu\]"):
        open_backend("onnxruntime", "cpu")


def test_without_openvino_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match=r"install emo_rt\[openvino\]"):
        open_backend("openvino")


def test_an_openvino_that_computes_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvino.__version__", "2026.2.0-21903-52ddc073857-releases/2026/2")
    with pytest.raises(BackendUnavailableError, match=r"2026\.2\.0.* wrong pictures; install openvino>=2026\.3;"):
        open_backend("openvino")
    with open_backend("fastest", "cpu") as opened:
        assert opened.name == "onnxruntime"


def test_opening_openvino_reports_to_nobody() -> None:
    code = (
        "import sys; from emo_rt.device.registry import open_backend; open_backend('openvino').close();"
        "print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["True", "False"]


def test_bfloat16_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr("openvino.Core", Core)
    with pytest.raises(BackendUnavailableError, match="does not compute in bfloat16; use backend 'openvino'"):
        open_backend("openvino-bf16")


@pytest.mark.parametrize(("backend", "bound"), [("openvino", 1e-4), ("openvino-bf16", 0.05)])
def test_openvino_computes_a_step_as_onnx_runtime_does(tiny_bundle: Bundle, backend: str, bound: float) -> None:
    """The parity bound of graphs in fp32; bfloat16 has 8 bits, and a step is made of some 30 products in a row."""
    if backend.endswith("bf16") and not _computes_in_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    spec, generator = tiny_bundle.graphs["step"], np.random.default_rng(0)
    values = {tensor.name: generator.standard_normal(tensor.shape) * 0.5 for tensor in spec.inputs}
    results = []
    for name in ("onnxruntime", backend):
        with open_backend(name, "cpu", threads=1) as opened:
            buffers = Buffers(opened, [*spec.inputs, *spec.outputs])
            for key, value in values.items():
                buffers[key].write(value)
            opened.open(tiny_bundle, "step").bind(buffers).run()
            results.append({tensor.name: buffers[tensor.name].read().copy() for tensor in spec.outputs})
    for key, expected in results[0].items():
        error = np.linalg.norm(results[1][key] - expected) / np.linalg.norm(expected)
        assert error < bound, key


def _computes_in_bfloat16() -> bool:
    try:
        open_backend("openvino-bf16").close()
    except BackendUnavailableError:
        return False
    return True


def test_auto_says_what_it_chose_and_why(caplog: pytest.LogCaptureFixture, no_gpu: None) -> None:
    with caplog.at_level(logging.INFO, logger="emo_rt"), open_backend():
        messages = [record.getMessage() for record in caplog.records]
    assert messages == ["running on cpu (onnxruntime), because there is no GPU here"]


@pytest.mark.parametrize("exact", [False, True])
def test_the_fastest_opens_slowly(exact: bool, no_gpu: None) -> None:
    """In fp32: here ``EMO_RT_EXACT`` is set, and ``exact`` says the same."""
    with open_backend("fastest", exact=exact) as opened:
        assert opened.name == "openvino"
    with Animator.load("demo", backend="fastest", threads=1, verify=False) as animator:
        assert animator.backend == "openvino"


class TestBfloat16ByItself:
    """On a processor that has instructions for it, so it seems; its products are of fp32 here."""

    @pytest.fixture(autouse=True)
    def processor(self, monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
        def open_it(threads: int | None, *, bf16: bool) -> OvBackend:
            backend = OvBackend(threads)
            backend.name = "openvino-bf16" if bf16 else backend.name
            return backend

        monkeypatch.delenv("EMO_RT_EXACT", raising=False)
        monkeypatch.setattr("emo_rt.device.processor.features", lambda: frozenset({"avx2", "avx512_bf16"}))
        monkeypatch.setattr("emo_rt.device.openvino.OvBackend", open_it)

    def test_auto_takes_it_and_says_how_to_be_exact(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="emo_rt"), open_backend(device="cpu") as opened:
            assert opened.name == "openvino-bf16"
        (message,) = [record.getMessage() for record in caplog.records]
        assert message == (
            "running on cpu (openvino-bf16); it rounds products to bfloat16, with exact=True, --exact or "
            "EMO_RT_EXACT=1 none does"
        )

    def test_exactly_is_with_onnx_runtime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_backend(exact=True) as opened:
            assert opened.name == "onnxruntime"
        with Animator.load("demo", device="cpu", threads=1, verify=False, exact=True) as animator:
            assert animator.backend == "onnxruntime"
        monkeypatch.setenv("EMO_RT_EXACT", "1")
        with open_backend() as opened:
            assert opened.name == "onnxruntime"

    def test_who_names_it_gets_it(self) -> None:
        with open_backend("openvino-bf16", exact=True) as opened:
            assert opened.name == "openvino-bf16"

    def test_without_openvino_it_is_not_missed(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert bfloat16_problem() == "OpenVINO is not installed"
        with caplog.at_level(logging.INFO, logger="emo_rt"), open_backend(device="cpu") as opened:
            assert opened.name == "onnxruntime"
        assert [record.getMessage() for record in caplog.records] == ["running on cpu (onnxruntime)"]

    def test_another_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("emo_rt.device.processor.features", lambda: frozenset({"avx2"}))
        assert bfloat16_problem() == "this processor is not known to compute in bfloat16"
        with open_backend(device="cpu") as opened:
            assert opened.name == "onnxruntime"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_the_processor_has_is_read_from_linux() -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "sse2" in line or "asimd" in line)
    assert features() <= set(flags.split())
    assert bool(features() & BFLOAT16) == _computes_in_bfloat16()


def test_a_named_backend_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="emo_rt"), open_backend("onnxruntime", "cpu"):
        assert not caplog.records


def test_importing_the_package_loads_no_backend_and_no_torch() -> None:
    heavy = "{'torch', 'tensorrt', 'tensorrt_rtx', 'onnxruntime', 'openvino', 'onnx', 'cv2', 'cuda'}"
    code = f"import emo_rt, sys; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


def test_a_graph_reads_and_writes_the_bound_memory(graph: Graph, buffers: Buffers) -> None:
    bound = graph.bind(buffers)
    buffers["x"].read()[:] = 1.5  # written into the memory itself: nothing is handed over at the run
    bound.run()
    np.testing.assert_array_equal(buffers["y"].read(), np.full((2, 3), 3, np.float32))
    buffers["x"].read()[:] = 2
    bound.run()
    np.testing.assert_array_equal(buffers["y"].read(), np.full((2, 3), 4, np.float32))


def test_rebinding_moves_one_tensor(graph: Graph, buffers: Buffers, backend: Backend) -> None:
    other = backend.allocate(Y)
    bound = graph.bind(buffers)
    buffers["x"].write(np.ones((2, 3)))
    bound.rebind("y", other)
    bound.run()
    assert (other.read() == 2).all()
    assert not buffers["y"].read().any()


def test_a_view_can_be_bound(graph: Graph, backend: Backend) -> None:
    rows = backend.allocate(TensorSpec("rows", "float32", (3, 2, 3)))
    rows.write(np.arange(18, dtype=np.float32).reshape(3, 2, 3))
    graph.bind({"x": rows.row(1), "y": rows.row(2)}).run()
    np.testing.assert_array_equal(rows.read()[2], rows.read()[1] * 2)


def test_a_bound_graph_keeps_its_buffers_alive(graph: Graph, backend: Backend) -> None:
    result = backend.allocate(Y)
    source = backend.allocate(X)
    source.write(np.ones((2, 3)))
    bound = graph.bind({"x": source, "y": result})
    del source
    garbage = [np.full((2, 3), 9, np.float32) for _ in range(1000)]
    bound.run()
    assert (result.read() == 2).all(), len(garbage)


def test_buffers_that_the_graph_does_not_need_may_be_there(graph: Graph, buffers: Buffers, backend: Backend) -> None:
    graph.bind({**buffers, "z": backend.allocate(TensorSpec("z", "uint8", (1,)))}).run()


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_missing_buffer_is_named(graph: Graph, buffers: Buffers, missing: str) -> None:
    there = {name: buffer for name, buffer in buffers.items() if name != missing}
    with pytest.raises(BackendError, match=rf"graph double: no buffer is bound to {missing}"):
        graph.bind(there)


@pytest.mark.parametrize(
    "wrong",
    [TensorSpec("w", "float32", (3, 2)), TensorSpec("w", "float32", (6,)), TensorSpec("w", "float16", (2, 3))],
    ids=["shape", "rank", "type"],
)
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_buffer_that_does_not_fit_is_refused(graph: Graph, buffers: Buffers, name: str, wrong: TensorSpec) -> None:
    with pytest.raises(BackendError, match=rf"graph double: tensor {name} is .*, expected float32\[2, 3\]"):
        graph.bind({**buffers, name: host_buffer(wrong)})
    with pytest.raises(BackendError, match=rf"tensor {name} is"):
        graph.bind(buffers).rebind(name, host_buffer(wrong))


def test_a_graph_with_other_tensors_than_the_manifest_says_is_refused(double_bundle: Bundle, backend: Backend) -> None:
    wrong = described(double_bundle.path, GraphSpec("double", (TensorSpec("w", "float32", (2, 3)),), (Y,)))
    with pytest.raises(BackendError, match=r"graph double .* no such tensor, expected input w float32"):
        backend.open(wrong, "double")


@pytest.mark.parametrize("spec", [TensorSpec("y", "float32", (1, 3)), TensorSpec("y", "float16", (2, 3))])
def test_a_manifest_that_lies_about_an_output_cannot_write_beside_it(
    double_bundle: Bundle, backend: Backend, spec: TensorSpec
) -> None:
    opened = backend.open(described(double_bundle.path, GraphSpec("double", (X,), (spec,))), "double")
    with pytest.raises(BackendError, match="graph double"):
        opened.bind(Buffers(backend, [X, spec])).run()


@pytest.mark.parametrize("spec", [TensorSpec("x", "float32", (1, 3)), TensorSpec("x", "float16", (2, 3))])
def test_a_manifest_that_lies_about_an_input_is_refused_at_the_run(
    double_bundle: Bundle, backend: Backend, spec: TensorSpec
) -> None:
    opened = backend.open(described(double_bundle.path, GraphSpec("double", (spec,), (Y,))), "double")
    with pytest.raises(BackendError, match="graph double"):
        opened.bind(Buffers(backend, [spec, Y])).run()


def test_an_error_of_ours_keeps_its_type(graph: Graph, buffers: Buffers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost device is never taken for a clip that failed."""

    def lose(_: object) -> None:
        raise DeviceLostError("gone")

    bound = graph.bind(buffers)
    monkeypatch.setattr(bound, "_run", lose)
    with pytest.raises(DeviceLostError, match="gone"):
        bound.run()


def test_a_file_that_the_runtime_refuses_is_named(double_bundle: Bundle, backend: Backend) -> None:
    double_bundle.graph_path("double").write_bytes(b"")
    with pytest.raises(BackendError, match=r"(ONNX Runtime|OpenVINO) cannot load graph double") as error:
        backend.open(double_bundle, "double")
    assert error.value.__cause__ is not None


def test_a_closed_graph_runs_and_binds_no_more(graph: Graph, buffers: Buffers) -> None:
    bound = graph.bind(buffers)
    graph.close()
    graph.close()
    with pytest.raises(ClosedError, match="graph double was closed"):
        bound.run()
    with pytest.raises(ClosedError, match="graph double was closed"):
        graph.bind(buffers)


def test_closing_the_backend_closes_its_graphs(double_bundle: Bundle, buffers: Buffers) -> None:
    with open_backend("onnxruntime", "cpu") as opened:
        bound = opened.open(double_bundle, "double").bind(buffers)
    opened.close()
    with pytest.raises(ClosedError):
        bound.run()


def test_two_bindings_of_one_graph_are_independent(graph: Graph, backend: Backend) -> None:
    sets = [Buffers(backend, [X, Y]) for _ in range(2)]
    all_bound = [graph.bind(buffers) for buffers in sets]
    for value, buffers in enumerate(sets, 1):
        buffers["x"].write(np.full((2, 3), value))
    for bound in all_bound:
        bound.run()
    assert [float(buffers["y"].read()[0, 0]) for buffers in sets] == [2, 4]


def test_idle_threads_leave_the_cores_to_other_graphs(double_bundle: Bundle) -> None:
    with open_backend("onnxruntime", "cpu") as opened:
        options = opened.open(double_bundle, "double").inner.get_session_options()  # type: ignore[attr-defined]
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert int(options.get_session_config_entry("session.intra_op.spin_duration_us")) <= 1000


def test_the_tiny_model_runs_on_bound_buffers(tiny_bundle: Bundle, backend: Backend) -> None:
    opened = backend.open(tiny_bundle, "timestep")
    bound: dict[str, Buffer] = {**Buffers(backend, [*opened.spec.inputs, *opened.spec.outputs])}
    bound["timestep"].write(np.array([500], np.float32))
    opened.bind(bound).run()
    assert np.abs(bound["time_embedding"].read()).max() > 0
