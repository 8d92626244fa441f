"""What is read from TensorRT's words, and what is made of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.device.tensorrt.package import LogLine, TensorRT
from emo_rt.engines.facts import EngineFacts, Layer, from_engine, from_log, wanted
from emo_rt.engines.interface import check_interface
from emo_rt.engines.monitor import STEPS, BuildProgress
from emo_rt.engines.options import BuilderOptions
from emo_rt.engines.report import attention_text, make_report
from emo_rt.engines.target import Target, resolve_target
from emo_rt.errors import BackendUnavailableError, ConfigError, EngineBuildError
from emo_rt.model.contract import GraphSpec, TensorSpec
from emo_rt.model.interface import FoundTensor

DUMP = """Layers:
Name: __myl_Conv_myl0_0, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [1,4], Datatype: Half }], \
Constants: [], Outputs: [ { Name: a, Dimensions: [1,4], Datatype: Half, Format: (Linear) Row major }], TacticName: t, \
StreamId: 0, Metadata: [ONNX Layer: node_conv2d][ONNX Layer: node_add]
Name: _gemm_mha_v2_myl0_1, LayerType: kgen, Inputs: [ { Name: a, Datatype: Half }], Constants: [], Outputs: \
[ { Name: b, Datatype: Half }], TacticName: _gemm_mha_v2_0x1, StreamId: 0, Metadata: [ONNX Layer: attention_1]
Name: __myl_Norm_myl0_2, LayerType: kgen, Inputs: [ { Name: b, Datatype: Half }], Constants: [], Outputs: \
[ { Name: c, Datatype: Float }], TacticName: n, StreamId: 0, Metadata:\x20
Name: wait_0, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata:\x20

I/O Tensors:
 Name: x, IOMode: Input, DataType: Half, Dimensions: [1,-1], Location: Device, IsShapeInferenceIO: false
 Name: y, IOMode: Output, DataType: UInt8, Dimensions: [], Location: Device, IsShapeInferenceIO: false
"""
LINES = [
    LogLine("VERBOSE", DUMP),
    LogLine("VERBOSE", "Adding 1 engine(s) to plan file."),
    LogLine("VERBOSE", "Adding 1 engine weights(s) to plan file."),
    LogLine("INFO", "Max Scratch Memory: 8192 bytes"),
    LogLine("INFO", "Total Weights Memory: 77 bytes"),
]


class TestLog:
    def test_layers_tensors_and_numbers(self) -> None:
        facts = from_log(LINES)
        assert facts.source == "build log"
        assert facts.layers[0] == Layer(
            "__myl_Conv_myl0_0", "correlation", frozenset({"float16"}), ("node_conv2d", "node_add")
        )
        assert [layer.is_fused_attention for layer in facts.layers] == [False, True, False, False]
        assert facts.tensors == (FoundTensor("x", True, "float16", (1, -1)), FoundTensor("y", False, "uint8", ()))
        assert facts.numbers == {"engines": 1, "scratch_bytes": 8192, "weight_bytes": 77}

    def test_silence(self) -> None:
        assert from_log([]) == EngineFacts("build log", numbers={})

    def test_keeps_only_what_is_read(self) -> None:
        assert all(wanted(line) for line in LINES if "weights(s)" not in line.text)
        assert not wanted(LogLine("VERBOSE", "Parsing node: x"))
        assert wanted(LogLine("ERROR", "anything"))


class DataType(Enum):
    HALF = 1


class Inspected:
    """A loaded engine, as far as it is asked."""

    num_io_tensors = 1

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    def create_engine_inspector(self) -> Any:
        text = json.dumps({"Layers": self.layers})
        return SimpleNamespace(get_engine_information=lambda _: text)

    def get_tensor_name(self, index: int) -> str:
        return "x"

    def get_tensor_mode(self, name: str) -> str:
        return "in"

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, -1)


@pytest.mark.parametrize(
    ("output", "types"),
    [
        ({"Format/Datatype": "Row major linear FP16 format"}, {"float16"}),
        ({"Format": "Row major", "Datatype": "Float"}, {"float32"}),
        ({}, set()),
    ],
)
def test_inspector_of_either_version(output: dict[str, str], types: set[str]) -> None:
    module = SimpleNamespace(LayerInformationFormat=SimpleNamespace(JSON=1), TensorIOMode=SimpleNamespace(INPUT="in"))
    row = {"Name": "fused_mha", "LayerType": "kgen", "Outputs": [output], "Metadata": "[ONNX Layer: attention_1]"}
    facts = from_engine(module, Inspected([row, "only a name"]), {"engines": 1})
    assert facts.source == "engine"
    assert facts.layers[0] == Layer("fused_mha", "kgen", frozenset(types), ("attention_1",))
    assert facts.layers[1].name == "only a name"
    assert facts.tensors == (FoundTensor("x", True, "float16", (1, -1)),)


class TestReport:
    def test_counts(self) -> None:
        report = asdict(make_report(from_log(LINES), "build log", ["attention_1", "attention_2"]))
        assert report["engines"] == 1
        assert report["layers"] == 3
        assert report["kinds"] == {"kgen": 2, "correlation": 1}
        assert report["kernels"] == {"Conv": 1, "gemm_mha_v2": 1, "Norm": 1}
        assert report["attention"] == {"in_graph": 2, "fused": 1, "not_fused": ["attention_2"]}
        assert report["fp32_layers"] == {"count": 1, "names": ["__myl_Norm_myl0_2"]}
        assert attention_text(report) == "1 of 2"

    def test_does_not_claim_what_it_did_not_see(self) -> None:
        report = asdict(make_report(EngineFacts("build log"), "network", ["attention_1"]))
        assert report["engines"] is None
        assert report["layers"] is None
        assert report["attention"] == {"in_graph": 1, "fused": None, "not_fused": None}
        assert report["fp32_layers"]["count"] is None
        assert attention_text(report) == "? of 1"
        assert attention_text(asdict(make_report(EngineFacts("build log"), "network", []))) == "-"


class TestInterface:
    spec = GraphSpec("g", (TensorSpec("x", "float16", (1, "n")),), (TensorSpec("y", "uint8", (2,)),))
    right = (FoundTensor("x", True, "float16", (1, -1)), FoundTensor("y", False, "uint8", (2,)))

    def test_order_does_not_matter(self) -> None:
        check_interface(self.spec, self.right)
        check_interface(self.spec, self.right[::-1])

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            (right[:1], "no such tensor, expected output y uint8[2]"),
            ((*right, FoundTensor("z", True, "int32", ())), "input z int32[], expected no such tensor"),
            ((right[0], FoundTensor("y", False, "uint8", (3,))), "output y uint8[3], expected output y uint8[2]"),
            ((right[0], FoundTensor("y", False, "float32", (2,))), "float32[2], expected output y uint8[2]"),
            ((right[0], FoundTensor("y", True, "uint8", (2,))), "input y uint8[2], expected output y"),
            (
                (FoundTensor("x", True, "float16", (1, 9)), right[1]),
                "x float16[1, 9], expected input x float16[1, -1]",
            ),
        ],
    )
    def test_differences(self, tensors: tuple[FoundTensor, ...], words: str) -> None:
        with pytest.raises(EngineBuildError) as caught:
            check_interface(self.spec, tensors)
        assert words in str(caught.value)


class TestProgress:
    def test_rises_through_nested_phases(self) -> None:
        told: list[int] = []
        progress = BuildProgress(lambda done, total: told.append(done))
        progress.start("build", 2)
        progress.start("parse", 4)
        for index in range(4):
            progress.step("parse", index)
        progress.finish("parse")
        progress.step("build", 0)
        progress.start("compile", 0)  # TensorRT may give none
        progress.step("compile", 0)
        progress.finish("compile")
        progress.step("build", 1)
        progress.finish("build")
        progress.step("unknown", 7)
        assert told == sorted(set(told))
        assert told[0] == STEPS // 8
        assert told[-1] == STEPS


class Capability(Enum):
    NONE, SM120, SM86, CURRENT, SM89 = range(5)


RTX = TensorRT("tensorrt_rtx", "1.7.1", SimpleNamespace(ComputeCapability=Capability), SimpleNamespace())  # type: ignore[arg-type]
BIG = TensorRT("tensorrt", "11.4.0", SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
H100, ADA = Gpu("NVIDIA H100", "sm90"), Gpu("NVIDIA GeForce RTX 4090", "sm89")


def no_gpu() -> Gpu:
    raise BackendUnavailableError("there is no NVIDIA driver")


class TestTarget:
    def test_other_gpus(self) -> None:
        assert resolve_target("sm89", RTX, no_gpu) == Target(("sm89",), None)
        assert resolve_target("SM120, sm86,sm86", RTX, no_gpu) == Target(("sm86", "sm120"), None)

    def test_the_gpu_here(self) -> None:
        assert resolve_target("current", RTX, lambda: ADA) == Target(("sm89",), None)
        assert resolve_target("current", BIG, lambda: H100) == Target(("sm90",), "NVIDIA H100")

    def test_package_that_does_not_serve_it(self) -> None:
        with pytest.raises(BackendUnavailableError, match=r"does not serve NVIDIA H100 .*--package tensorrt"):
            resolve_target("current", RTX, lambda: H100)

    def test_no_gpu(self) -> None:
        with pytest.raises(BackendUnavailableError, match="--target and of sm86, sm89, sm120"):
            resolve_target("current", RTX, no_gpu)
        with pytest.raises(BackendUnavailableError, match=r"driver$"):
            resolve_target("current", BIG, no_gpu)

    @pytest.mark.parametrize("text", ["sm90", "", "sm86,", "ampere", "sm86,current"])
    def test_unknown(self, text: str) -> None:
        with pytest.raises(ConfigError, match="of sm86, sm89, sm120 one or several"):
            resolve_target(text, RTX, no_gpu)

    def test_package_that_measures(self) -> None:
        with pytest.raises(ConfigError, match="tensorrt measures kernels on the GPU"):
            resolve_target("sm90", BIG, lambda: H100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimization_level": 6}, "from 0 to 5"),
        ({"optimization_level": -1}, "from 0 to 5"),
        ({"optimization_level": 2.5}, "an integer"),
        ({"workspace_mib": 0}, "from 1 to"),
        ({"workspace_mib": 1.5}, "an integer"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BuilderOptions(**options)
