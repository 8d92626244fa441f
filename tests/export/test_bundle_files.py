"""What the exporter writes: files, weights and graphs of a bundle."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto
from small_models import relative_error

from emo_rt import Bundle
from emo_rt.errors import ConfigError, ExportError, MissingDependencyError, OutputError
from emo_rt.export import onnx_export
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.export.presets import preset
from emo_rt.export.weights import INLINE_BYTES, PAGE, WeightStore
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.contract import GraphSpec, TensorSpec
from tests.conftest import ROOT, ExportTiny, hallo_tiny
from tests.make_bundles import bundle_model
from tests.small_bundles import lean


@pytest.fixture(scope="module")
def half_bundle(export_tiny: ExportTiny) -> Bundle:
    """fp32 arithmetic, weights stored as fp16."""
    return export_tiny(lean(), half_storage=True)


@pytest.fixture(scope="module")
def fp16_bundle(export_tiny: ExportTiny) -> Bundle:
    """fp16 arithmetic, without guidance."""
    return export_tiny(lean(), dtype="float16", guidance=(False,))


@pytest.fixture(params=["tiny_bundle", "hallo_bundle", "half_bundle", "fp16_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Every kind of bundle."""
    found: Bundle = request.getfixturevalue(request.param)
    return found


def onnx_model(bundle: Bundle, graph: str) -> onnx.ModelProto:
    return onnx.load(bundle.graph_path(graph), load_external_data=False)


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor in a model: initializers and attributes, subgraphs and functions too."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from [attribute.t] if attribute.HasField("t") else attribute.tensors
            graphs += [attribute.g] if attribute.HasField("g") else attribute.graphs


def external(tensor: TensorProto) -> tuple[str, int, int]:
    """File, offset and length of a tensor outside the graph."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries["offset"]), int(entries["length"])


def stored_tensors(bundle: Bundle) -> dict[str, list[tuple[str, int, int]]]:
    """Where the tensors of each graph are stored."""
    return {
        graph: [external(t) for t in tensors(onnx_model(bundle, graph)) if t.data_location == TensorProto.EXTERNAL]
        for graph in bundle.graphs
    }


def stored_bytes(places: list[tuple[str, int, int]]) -> int:
    """Bytes on disk; a tensor with several users counts once."""
    return sum(length for _, _, length in set(places))


def run(bundle: Bundle, graph: str, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Outputs of a graph in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle.graph_path(graph)), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return outputs


class TestGraphs:
    """The ONNX files of a bundle."""

    def test_are_valid(self, bundle: Bundle) -> None:
        for graph in bundle.graphs:
            onnx.checker.check_model(str(bundle.graph_path(graph)), full_check=True)

    def test_hold_no_large_tensor_inline(self, bundle: Bundle) -> None:
        """So that no protobuf comes near its limit of 2 GB, whatever the size of the model."""
        for graph in bundle.graphs:
            inline = [t for t in tensors(onnx_model(bundle, graph)) if t.data_location != TensorProto.EXTERNAL]
            assert [t.name for t in inline if t.ByteSize() > INLINE_BYTES + 200] == []

    def test_weights_start_at_pages_where_they_are_large_and_do_not_overlap(self, bundle: Bundle) -> None:
        places = sorted({place for graph in stored_tensors(bundle).values() for place in graph})
        assert any(length >= PAGE for _, _, length in places)
        for location, offset, length in places:
            assert offset % (PAGE if length >= PAGE else 64) == 0
            assert offset + length <= (bundle.path / "graphs" / location).stat().st_size
        for (location, offset, length), (following, start, _) in pairwise(places):
            assert location != following or offset + length <= start

    def test_no_two_stored_tensors_are_equal(self, bundle: Bundle) -> None:
        places = {place for graph in stored_tensors(bundle).values() for place in graph}
        digests = set()
        for location, offset, length in places:
            data = (bundle.path / "graphs" / location).read_bytes()[offset : offset + length]
            digests.add(hashlib.sha256(data).digest())
        assert len(digests) == len(places)

    def test_interface_is_the_specification(self, bundle: Bundle) -> None:
        for graph, spec in bundle.graphs.items():
            model = onnx_model(bundle, graph).graph
            assert [value.name for value in model.input] == [tensor.name for tensor in spec.inputs]
            assert [value.name for value in model.output] == [tensor.name for tensor in spec.outputs]

    def test_attention_is_one_operator(self, tiny_bundle: Bundle) -> None:
        """Runtimes fuse it; spread over MatMul and Softmax it is slow."""
        operators = [node.op_type for node in onnx_model(tiny_bundle, "step").graph.node]
        assert "Attention" in operators
        assert "Softmax" not in operators

    def test_decoder_has_no_attention_operator(self, tiny_bundle: Bundle) -> None:
        """DESIGN.md: TensorRT does not fuse a head of 512 channels."""
        operators = [node.op_type for node in onnx_model(tiny_bundle, "vae_decoder").graph.node]
        assert "Attention" not in operators
        assert "Softmax" in operators


class TestStorage:
    """Bytes on disk."""

    def test_graphs_share_the_weights_of_a_network(self, tiny_bundle: Bundle) -> None:
        """Backbone: ``step`` and ``step_unguided``. ReferenceNet: ``reference`` and ``clip``."""
        places = stored_tensors(tiny_bundle)
        assert set(places["step_unguided"]) <= set(places["step"]) | set(places["clip"])
        assert {location for location, _, _ in places["clip"]} > {location for location, _, _ in places["reference"]}
        assert set(places["step_unguided"]) == set(places["step"])

    def test_weight_files_are_hardly_larger_than_the_parameters(self, tiny_bundle: Bundle) -> None:
        model = bundle_model(tiny_bundle.config)
        parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
        places = [place for graph in stored_tensors(tiny_bundle).values() for place in graph]
        assert stored_bytes(places) < 1.05 * parameters

    def test_graph_without_weights_of_its_own_has_no_file(self, tmp_path: Path) -> None:
        store = WeightStore(tmp_path, half=False)
        for name in ("first", "second"):
            store.move_out(_model_of({"weights": np.ones(5000)}), name)
        assert [path.name for path in tmp_path.iterdir()] == ["first.bin"]

    def test_half_storage_halves_the_weights(self, tiny_bundle: Bundle, half_bundle: Bundle) -> None:
        full, half = stored_tensors(tiny_bundle), stored_tensors(half_bundle)
        for graph in ("reference", "step", "vae_decoder"):
            assert stored_bytes(half[graph]) < 0.55 * stored_bytes(full[graph])
        assert (half_bundle.weights, half_bundle.dtype) == ("float16", "float32")

    def test_half_storage_computes_what_the_rounded_weights_compute(self, half_bundle: Bundle) -> None:
        """In fp32: no tensor that was computed from weights (a null feature, a folded norm) is rounded again."""
        model = bundle_model(half_bundle.config).half().float()
        for module in graph_modules(model):
            examples = example_inputs(module.spec, model.config, seed=4)
            with torch.no_grad():
                expected = module(*(examples[tensor.name] for tensor in module.spec.inputs))
            for ours, theirs in zip(run(half_bundle, module.spec.name, examples), expected, strict=True):
                assert relative_error(torch.from_numpy(ours).double(), theirs.double()) < 3e-6, module.spec.name

    def test_half_storage_keeps_what_fp16_cannot_hold(self, tmp_path: Path) -> None:
        exact, small, large = np.full(600, 0.5), np.full(600, 1 + 2**-20), np.full(600, 1e5)
        model = _model_of({"exact": exact, "small": small, "large": large})
        WeightStore(tmp_path, half=True).move_out(model, "g")
        stored = {name: value.const_value.dtype for name, value in model.graph.initializers.items()}
        assert stored == {
            "exact_fp16": ir.DataType.FLOAT16,
            "small": ir.DataType.FLOAT,
            "large": ir.DataType.FLOAT,
        }


class TestPrivacy:
    """A bundle says nothing about the machine that it was made on."""

    def test_no_path_of_the_exporting_machine_in_any_file(self, bundle: Bundle) -> None:
        places = {str(ROOT), str(Path.home()), sys.prefix, sys.base_prefix, tempfile.gettempdir(), "site-packages"}
        for path in bundle.path.rglob("*.*"):
            data = path.read_bytes()
            assert [place for place in places if f"{place}/".encode() in data] == [], path.name

    def test_no_stack_trace_in_any_graph(self, bundle: Bundle) -> None:
        for graph in bundle.graphs:
            data = bundle.graph_path(graph).read_bytes()
            assert [word for word in (b'File "', b".py", b"Traceback", b"pkg.torch") if word in data] == [], graph

    def test_command_line_keeps_no_folder(
        self, no_graphs: EmoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ["--hallo", "/home/sam/weights/hallo2/", "--out=/srv/secret/out", "--preset", "tiny", "-o", "a/b"]
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/emo-rt", "export", *words])
        bundle = export_bundle(no_graphs, tmp_path / "bundle")
        assert bundle.provenance["command"] == "emo-rt export --hallo hallo2 --out=out --preset tiny -o a/b"


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> EmoModel:
    """A model of which no graph is exported."""
    monkeypatch.setattr(onnx_export, "graph_modules", lambda model, guidance: [])
    return build_model(preset("tiny"))


@pytest.fixture
def one_graph(monkeypatch: pytest.MonkeyPatch) -> EmoModel:
    """A model of which one graph is exported, without the seconds that tracing takes."""
    model = build_model(preset("tiny"))
    module = next(module for module in graph_modules(model) if module.spec.name == "timestep")
    monkeypatch.setattr(onnx_export, "graph_modules", lambda model, guidance: [module])
    monkeypatch.setattr(onnx_export, "trace", lambda module: _model_of({"weights": np.ones(5000)}))
    return model


class TestTarget:
    """The folder that a bundle is written to."""

    def test_a_package_without_metadata_is_found_before_the_first_graph(
        self, one_graph: EmoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def version(name: str) -> str:
            raise PackageNotFoundError(name)

        monkeypatch.setattr(onnx_export.metadata, "version", version)
        lines: list[str] = []
        with pytest.raises(MissingDependencyError, match="emo_rt is not installed as a package"):
            export_bundle(one_graph, tmp_path / "bundle", report=lines.append)
        assert lines == []
        assert not (tmp_path / "bundle").exists()

    def test_config_says_what_steps_may_keep(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        bundle = export_bundle(no_graphs, tmp_path / "bundle", ExportOptions(deep_cache=1))
        assert bundle.config == replace(preset("tiny"), deep_cache=1)

    def test_holds_a_bundle_that_opens(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        bundle = export_bundle(no_graphs, tmp_path / "new" / "bundle")
        assert bundle.config == no_graphs.config
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["bundle"]

    def test_may_be_an_empty_folder(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        export_bundle(no_graphs, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"graphs", "emo_rt.json"}

    def test_may_not_hold_anything(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep me")
        with pytest.raises(OutputError, match="not an empty folder"):
            export_bundle(no_graphs, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_may_not_be_a_file(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("keep me")
        with pytest.raises(OutputError, match="not an empty folder"):
            export_bundle(no_graphs, tmp_path / "file")

    def test_whose_parent_is_a_file_is_refused(self, no_graphs: EmoModel, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("keep me")
        with pytest.raises(OutputError, match="cannot write"):
            export_bundle(no_graphs, tmp_path / "file" / "bundle")

    @pytest.mark.parametrize("error", [ExportError("differs"), KeyboardInterrupt(), MemoryError()])
    @pytest.mark.parametrize("exists", [True, False])
    def test_is_left_as_it_was_when_a_check_fails(
        self,
        one_graph: EmoModel,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
        exists: bool,
    ) -> None:
        written: list[str] = []

        def failing(module: GraphModule, path: Path) -> Any:
            written.extend(sorted(file.name for file in path.parent.iterdir()))
            raise error

        monkeypatch.setattr(onnx_export, "check_graph", failing)
        target = tmp_path / "bundle"
        if exists:
            target.mkdir()
        with pytest.raises(type(error)):
            export_bundle(one_graph, target)
        assert written == ["timestep.bin", "timestep.onnx"]
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["bundle"] * exists

    def test_is_not_made_when_the_disk_is_full(
        self, one_graph: EmoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(onnx_export.ir, "save", full)
        with pytest.raises(OutputError, match="No space left"):
            export_bundle(one_graph, tmp_path / "bundle")
        assert list(tmp_path.iterdir()) == []


class TestOptions:
    """Settings out of range."""

    @pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"guidance": ()}, {"guidance": (True, True)}], ids=str)
    def test_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(options))):
            ExportOptions(**options)


class TestManifest:
    """What the bundle says of itself."""

    def test_lists_every_file_with_its_hash(self, bundle: Bundle) -> None:
        found = {str(path.relative_to(bundle.path)) for path in bundle.path.rglob("*") if path.is_file()}
        assert found == {*bundle.files, "emo_rt.json"}
        for name, entry in bundle.files.items():
            data = (bundle.path / name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])

    def test_has_the_provenance(self, bundle: Bundle) -> None:
        assert set(bundle.provenance) == {"source", "licence", "command", "versions"}
        assert bundle.provenance["versions"]["torch"] == torch.__version__
        assert bundle.provenance["licence"] == "Apache-2.0"

    def test_is_strict_json(self, bundle: Bundle) -> None:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        json.loads((bundle.path / "emo_rt.json").read_text(encoding="utf-8"), parse_constant=refuse)

    def test_has_a_parity_row_for_every_kind_of_output(self, bundle: Bundle) -> None:
        kinds = {(graph, t.name.split(".")[0]) for graph, spec in bundle.graphs.items() for t in spec.outputs}
        assert {(row["graph"], row["tensor"].split(".")[0]) for row in bundle.parity} == kinds

    @pytest.mark.parametrize(
        ("fixture", "steps"),
        [
            ("tiny_bundle", {"step", "step_unguided"}),
            ("half_bundle", {"step"}),
            ("fp16_bundle", {"step_unguided"}),
        ],
    )
    def test_has_the_step_graphs_that_were_asked_for(
        self, fixture: str, steps: set[str], request: pytest.FixtureRequest
    ) -> None:
        bundle: Bundle = request.getfixturevalue(fixture)
        assert {name for name in bundle.graphs if name.startswith("step")} == steps


class TestDynamicAudio:
    """The audio encoder takes any length."""

    @pytest.mark.parametrize("samples", [720, 6400, 6401, 16_000, 40_123])
    @pytest.mark.parametrize("fixture", ["tiny_bundle", "hallo_bundle"])
    def test_equals_torch(self, fixture: str, samples: int, request: pytest.FixtureRequest) -> None:
        bundle: Bundle = request.getfixturevalue(fixture)
        encoder = bundle_model(bundle.config).audio_encoder
        waveform = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
        (ours,) = run(bundle, "audio_encoder", {"waveform": waveform})
        assert len(ours) == -(-samples * bundle.config.fps // AUDIO_SAMPLE_RATE)
        assert relative_error(torch.from_numpy(ours), encoder(waveform)) <= 1e-4


class TestInterfaceCheck:
    """Tracing gives exactly the tensors of the GraphSpec, or fails."""

    a, b, c = (TensorSpec(name, "float32", (3,)) for name in "abc")

    def test_input_that_is_not_read(self) -> None:
        with pytest.raises(ExportError, match=r"does not read its inputs \['b'\]"):
            self._trace((self.a, self.b), (self.c,), lambda tensors: {"c": 2 * tensors["a"]})

    def test_output_that_depends_on_nothing(self) -> None:
        with pytest.raises(ExportError, match=r"its outputs \['c'\] depend on nothing"):
            self._trace((self.a,), (self.b, self.c), lambda tensors: {"b": 2 * tensors["a"], "c": torch.ones(3)})

    def test_output_of_another_shape(self) -> None:
        with pytest.raises(ExportError, match="tensors of its spec"):
            self._trace((self.a,), (self.b,), lambda tensors: {"b": 2 * tensors["a"][:2]})

    def test_output_that_is_an_input_or_another_output_gets_memory_of_its_own(self) -> None:
        """Runtimes bind each name to a buffer."""
        model = self._trace((self.a,), (self.b, self.c), lambda tensors: {"b": tensors["a"], "c": tensors["a"]})
        assert [value.producer() is not None for value in model.graph.outputs] == [True, True]
        assert len({value.name for value in [*model.graph.inputs, *model.graph.outputs]}) == 3

    def test_graph_that_cannot_be_traced(self) -> None:
        def by_value(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"b": tensors["a"] if tensors["a"].sum() > 0 else -tensors["a"]}

        with pytest.raises(ExportError, match="graph g cannot be exported"):
            self._trace((self.a,), (self.b,), by_value)

    def _trace(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], compute: Any) -> ir.Model:
        no_networks: Any = torch.nn.Module()
        no_networks.config = preset("tiny")
        module = GraphModule(no_networks, GraphSpec("g", inputs, outputs))
        module.compute = compute
        return onnx_export.trace(module)


def _model_of(initializers: dict[str, np.ndarray]) -> ir.Model:
    """A graph that adds up its fp32 initializers."""
    values = [
        ir.Value(name=name, const_value=ir.tensor(array.astype(np.float32), name=name))
        for name, array in initializers.items()
    ]
    node = ir.node("Sum", values)
    node.outputs[0].name = "total"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=values, opset_imports={"": 23}, name="sum")
    return ir.Model(graph, ir_version=10)


def test_hallo_without_guidance_needs_no_unconditional_motion() -> None:
    """``guidance=(False,)``: the clip graph does not compute what no step takes."""
    modules = {module.spec.name: module for module in graph_modules(build_model(hallo_tiny()), (False,))}
    names = [tensor.name for tensor in modules["clip"].spec.outputs]
    assert not any(name.startswith("motion_unconditional") for name in names)
    assert "step" not in modules
