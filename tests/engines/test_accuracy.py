"""Overflows are planted in a graph in float16: the tool finds each, and the exporter keeps what it names in float32."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from emo_rt import BackendUnavailableError, Bundle, ConfigError, ExportError
from emo_rt.device.tensorrt.gpus import Gpu, current_gpu
from emo_rt.engines.accuracy import BOUND, example_feed, main
from emo_rt.engines.against import against_engine, layers_text
from emo_rt.engines.builder import build_engines
from emo_rt.engines.facts import EngineFacts
from emo_rt.engines.facts import Layer as facts_layer
from emo_rt.engines.options import BuildRequest
from emo_rt.export.keep_fp32 import check_graphs, keep_in_fp32, read_keep_fp32
from emo_rt.export.onnx_export import ExportOptions, _provenance
from emo_rt.model.contract import Array
from tests import small_bundles

pytest.importorskip("polygraphy", reason="needs emo_rt[engines]")
from emo_rt.engines.layers import Layer, compare_layers, first_lost, nodes_to_keep
from emo_rt.engines.wide import widened

GRAPH = "vae_decoder"


@pytest.fixture(scope="module")
def lean(bundle_cache: Path) -> Bundle:
    """A small bundle in float16."""
    return Bundle.open(small_bundles.unpack("lean-fp16", bundle_cache))


@pytest.fixture(scope="module")
def feed(lean: Bundle) -> dict[str, Array]:
    return example_feed(lean.graphs[GRAPH], lean.config)


def planted(lean: Bundle, folder: Path, place: float) -> tuple[Path, str]:
    """The decoder with one convolution whose sums do not fit into float16, and that node's name.

    ``place``: where among the convolutions, 0 … 1.
    """
    model = onnx.load(lean.graph_path(GRAPH))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    node = convolutions[round(place * (len(convolutions) - 1))]
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(weights).astype(np.float32)
    weights.CopyFrom(
        numpy_helper.from_array((values * (60_000 / np.abs(values).max())).astype(np.float16), weights.name)
    )
    path = folder / "planted.onnx"
    onnx.save(model, path)
    return path, node.name


def run(model: onnx.ModelProto, feed: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, feed)
    return np.asarray(output, np.float64)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_a_planted_overflow_is_found_and_kept(
    lean: Bundle, feed: dict[str, Array], tmp_path: Path, place: float
) -> None:
    path, node = planted(lean, tmp_path, place)
    layers = compare_layers(path, feed)
    lost = first_lost(layers, BOUND)
    assert lost is not None
    assert (lost.node, lost.operator) == (node, "Conv")
    assert lost.share > 1
    assert lost.error == np.inf
    names = nodes_to_keep(path, layers)
    assert node in names
    kept = ir.load(path)
    keep_in_fp32(kept, GRAPH, names)
    fixed, exact = ir.to_proto(kept), run(widened(onnx.load(path)), {n: v.astype(np.float32) for n, v in feed.items()})
    onnx.checker.check_model(fixed)
    # Bytes of a picture. Behind the last convolution all are 0 or 255, and a value near 0 may fall to either side.
    assert (np.abs(run(fixed, feed) - exact) > 2).mean() < 0.01
    onnx.save(fixed, tmp_path / "fixed.onnx")
    again = compare_layers(tmp_path / "fixed.onnx", feed)
    assert {layer.operator for layer in again if layer.error == np.inf} <= {"Cast"}  # what nobody reads


def test_a_sound_graph_loses_nothing(lean: Bundle, feed: dict[str, Array]) -> None:
    layers = compare_layers(lean.graph_path(GRAPH), feed)
    assert len(layers) > 100
    assert first_lost(layers, BOUND) is None
    assert nodes_to_keep(lean.graph_path(GRAPH), layers) == []
    assert max(layer.error for layer in layers) < 0.01
    lost = first_lost(layers, 1e-4)
    assert lost == next(layer for layer in layers if layer.error > 1e-4)


def test_not_a_number_is_past_every_bound() -> None:
    assert Layer("x", "n", "Conv", 1.0, float("nan")).is_lost(1e9)


def test_parts_give_the_same(lean: Bundle, feed: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compare_layers(lean.graph_path(GRAPH), feed)
    monkeypatch.setattr("emo_rt.engines.layers.PART_BYTES", sum(1 for _ in whole) * 20_000)
    parts = compare_layers(lean.graph_path(GRAPH), feed)
    assert [one.tensor for one in parts] == [one.tensor for one in whole]
    assert [one.largest for one in parts] == pytest.approx([one.largest for one in whole], rel=1e-4)


def test_the_command(lean: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = tmp_path / "keep.txt"
    assert main([str(lean.path), GRAPH, "--keep", str(keep)]) == 0
    assert "no layer is past its bound" in capsys.readouterr().out
    assert read_keep_fp32(keep) == {}
    assert main([str(lean.path), GRAPH, "--bound", "1e-5"]) == 1
    assert main([str(lean.path), "decoder"]) == 2
    assert "expected one of" in capsys.readouterr().err
    (tmp_path / "x.npz").write_bytes(b"no")
    assert main([str(lean.path), GRAPH, "--inputs", str(tmp_path / "x.npz")]) == 1
    assert "is no .npz file" in capsys.readouterr().err


def test_inputs_of_a_real_run(lean: Bundle, feed: dict[str, Array], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **feed)  # type: ignore[arg-type]
    assert main([str(lean.path), GRAPH, "--inputs", str(tmp_path / "x.npz")]) == 0


@pytest.fixture(scope="module")
def engine(lean: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was really built, for a kind of GPU that is not here."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("engines")
    request = BuildRequest(package="tensorrt_rtx", target="sm89", cache=folder, graphs=("timestep",))
    (built,) = build_engines(lean, request)
    return built.plan.path


def refused(capsys: pytest.CaptureFixture[str], lean: Bundle, file: Path, graph: str = "timestep") -> str:
    """What the command says, in one line, with exit code 1."""
    assert main([str(lean.path), graph, "--against", str(file)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def computes_nothing(*args: object) -> None:
    raise AssertionError("the graph was run in float32 before the engine was judged")


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo_rt.engines.layers._run", computes_nothing)
    monkeypatch.setattr("emo_rt.engines.accuracy.example_feed", lambda *args: {})


@pytest.mark.usefixtures("nothing_runs")
def test_a_sound_engine_without_a_gpu_is_told_apart_from_a_broken_one(
    lean: Bundle, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emo_rt.device.tensorrt.gpus.DRIVER", "libcuda-of-no-machine.so")
    said = refused(capsys, lean, engine)
    assert re.search(
        r"is an engine of graph timestep, \d+ layers \(\w+ \d+.*\), for sm89; .* only where there is such", said
    )
    assert "there is no NVIDIA driver on this machine" in said
    with pytest.raises(BackendUnavailableError):
        against_engine(lean, "timestep", {}, engine)


@pytest.mark.usefixtures("nothing_runs")
def test_what_is_no_engine_of_the_graph_is_refused(
    lean: Bundle, tiny_bundle: Bundle, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no engine" in refused(capsys, lean, tmp_path / "none.plan")
    assert "there is no engine" in refused(capsys, lean, tmp_path)
    (tmp_path / "some.plan").write_bytes(b"no engine")
    assert "no JSON file beside it vouches for it" in refused(capsys, lean, tmp_path / "some.plan")
    said = refused(capsys, lean, engine, GRAPH)
    assert f"cannot be compared with graph {GRAPH}: it is of graph timestep, wanted is {GRAPH}" in said
    assert "the graph or its weights changed since" in refused(capsys, tiny_bundle, engine)


@pytest.mark.usefixtures("nothing_runs")
def test_a_changed_engine_is_not_loaded(
    lean: Bundle, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(engine.parent, tmp_path / "engines"))
    with (folder / engine.name).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    assert "it was changed or damaged, and is not loaded" in refused(capsys, lean, folder / engine.name)


@pytest.mark.usefixtures("nothing_runs")
def test_another_gpu_and_a_refusal_of_tensorrt_are_errors(
    lean: Bundle, engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT itself is asked; without a driver it refuses every engine."""
    monkeypatch.setattr("emo_rt.engines.against.current_gpu", lambda: Gpu("a card", "sm120"))
    assert "it was built for sm89, wanted is a card (sm120)" in refused(capsys, lean, engine)
    if has_gpu():
        pytest.skip("TensorRT finds a GPU here")
    monkeypatch.setattr("emo_rt.engines.against.current_gpu", lambda: Gpu("a card", "sm89"))
    assert "tensorrt_rtx 1." in (said := refused(capsys, lean, engine))
    assert "refuses" in said


def has_gpu() -> bool:
    try:
        current_gpu()
    except BackendUnavailableError:
        return False
    return True


def test_layers_of_an_engine_are_counted_by_kind() -> None:
    rows = [("a", "gemm"), ("b", "kgen"), ("c", "gemm")]
    facts = EngineFacts("engine", tuple(facts_layer(name, kind, frozenset(), ()) for name, kind in rows))
    assert layers_text(facts) == "3 layers (gemm 2, kgen 1)"


def test_the_list_of_nodes_is_checked(lean: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "keep.txt"
    file.write_text("# why\n\nstep node_add\nstep node_mul\nclip node_add\n", encoding="utf-8")
    keep = read_keep_fp32(file)
    assert keep == {"step": ("node_add", "node_mul"), "clip": ("node_add",)}
    with pytest.raises(ConfigError, match="keep_fp32 names the graphs clip; this model has step"):
        check_graphs(keep, ["step"])
    file.write_text("step a b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 of"):
        read_keep_fp32(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keep_fp32(tmp_path / "none")
    with pytest.raises(ExportError, match="no node node_none"):
        keep_in_fp32(ir.load(lean.graph_path(GRAPH)), GRAPH, ["node_none"])


def test_the_manifest_says_what_was_kept() -> None:
    options = ExportOptions("float16", keep_fp32={"step": ("node_add",)})
    assert _provenance(options, {})["keep_fp32"] == {"step": ["node_add"]}
    assert "keep_fp32" not in _provenance(ExportOptions("float16"), {})
    with pytest.raises(ConfigError, match="keep_fp32"):
        ExportOptions("float32", keep_fp32={"step": ("node_add",)})
