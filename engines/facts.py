"""What TensorRT says of an engine: layers, tensors, memory. From the builder's log, or from the engine where it loads.

An engine for a GPU that is not here cannot be loaded, but with detailed verbosity the builder writes the engine's
layers and tensors into its log, in the same words as the engine's inspector.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emo_rt.device.tensorrt.package import DTYPE_NAMES, LogLine
from emo_rt.model.interface import FoundTensor

LAYERS = "Layers:"
"""How the log line begins that has the engine's layers and tensors."""
TYPE_NAMES = {"Float": "float32", "Half": "float16", "UInt8": "uint8", "Int32": "int32", "Int64": "int64"}
"""Names of types in the log → ours."""

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: .*?, Outputs: \[(?P<outputs>.*?)\](?:, TacticName|$)"
    r"(?:.*?Metadata: (?P<nodes>.*))?",
)
_TENSOR = re.compile(r"^\s*Name: (.*?), IOMode: (\w+), DataType: (\w+), Dimensions: \[([-\d,]*)\]")
_TYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_NUMBERS = {
    "engines": re.compile(r"^Adding (\d+) engine\(s\) to plan file"),
    "scratch_bytes": re.compile(r"^Max Scratch Memory: (\d+) bytes"),
    "activation_bytes": re.compile(r"^Total Activation Memory: (\d+) bytes"),
    "weight_bytes": re.compile(r"^Total Weights Memory: (\d+) bytes"),
}


@dataclass(frozen=True)
class Layer:
    """One layer of an engine."""

    name: str
    """TensorRT's name."""
    kind: str
    """``gemm``, ``correlation`` (a convolution), ``kgen`` (a kernel made for this place), …"""
    types: frozenset[str]
    """Types of its outputs: ``float16``."""
    nodes: tuple[str, ...]
    """ONNX nodes that it computes."""

    @property
    def is_fused_attention(self) -> bool:
        """Whether it is a multi-head attention in one kernel."""
        return "mha" in self.name.lower() or "mha" in self.kind.lower()


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine. ``None`` and empty: TensorRT did not say."""

    source: str
    """``engine``, ``build log`` or ``network``: who said it."""
    layers: tuple[Layer, ...] = ()
    """In the order of execution."""
    tensors: tuple[FoundTensor, ...] = ()
    """Inputs and outputs."""
    numbers: Mapping[str, int] | None = None
    """``engines`` in the plan, ``scratch_bytes``, ``activation_bytes``, ``weight_bytes``."""


def wanted(line: LogLine) -> bool:
    """Whether :func:`from_log` reads this line, or a person would."""
    if line.severity != "VERBOSE":
        return True
    return line.text.startswith(LAYERS) or any(pattern.match(line.text) for pattern in _NUMBERS.values())


def from_log(lines: Iterable[LogLine]) -> EngineFacts:
    """Facts from the builder's log."""
    numbers: dict[str, int] = {}
    layers: list[Layer] = []
    tensors: list[FoundTensor] = []
    for line in lines:
        for name, pattern in _NUMBERS.items():
            found = pattern.match(line.text)
            if found:
                numbers[name] = max(int(found[1]), numbers.get(name, 0))
        if line.text.startswith(LAYERS):
            rows = line.text.splitlines()[1:]
            layers += [layer for layer in map(_read_layer, rows) if layer]
            tensors += [tensor for tensor in map(_read_tensor, rows) if tensor]
    return EngineFacts("build log", tuple(layers), tuple(tensors), numbers)


def from_engine(module: Any, engine: Any, numbers: Mapping[str, int] | None) -> EngineFacts:
    """Facts from a loaded engine and its inspector; ``numbers`` come from the log."""
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    rows = json.loads(text).get("Layers", [])
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    tensors = tuple(
        _tensor(
            name,
            engine.get_tensor_mode(name) == module.TensorIOMode.INPUT,
            engine.get_tensor_dtype(name),
            engine.get_tensor_shape(name),
        )
        for name in names
    )
    return EngineFacts("engine", tuple(map(_layer_of_inspector, rows)), tensors, numbers)


def from_network(definition: Any) -> tuple[FoundTensor, ...]:
    """Tensors of a parsed network: what an engine gets, where nothing says what it has."""
    inputs = [definition.get_input(index) for index in range(definition.num_inputs)]
    outputs = [definition.get_output(index) for index in range(definition.num_outputs)]
    pairs = [(tensor, True) for tensor in inputs] + [(tensor, False) for tensor in outputs]
    return tuple(_tensor(tensor.name, is_input, tensor.dtype, tensor.shape) for tensor, is_input in pairs)


def _tensor(name: str, is_input: bool, data_type: Any, shape: Sequence[int]) -> FoundTensor:
    dtype = DTYPE_NAMES.get(data_type.name, str(data_type.name))
    return FoundTensor(str(name), is_input, dtype, tuple(int(size) for size in shape))


def _read_layer(row: str) -> Layer | None:
    found = _LAYER.match(row)
    if not found:
        return None
    types = frozenset(TYPE_NAMES.get(name, name) for name in _TYPE.findall(found["outputs"]))
    return Layer(found["name"], found["kind"], types, tuple(_NODE.findall(found["nodes"] or "")))


def _read_tensor(row: str) -> FoundTensor | None:
    found = _TENSOR.match(row)
    if not found:
        return None
    name, mode, dtype, sizes = found.groups()
    shape = tuple(int(size) for size in sizes.split(",") if size)
    return FoundTensor(name, mode == "Input", TYPE_NAMES.get(dtype, dtype), shape)


def _layer_of_inspector(row: Any) -> Layer:
    """10.x says ``Format/Datatype: Row major linear FP16 format``, 11 and RTX ``Datatype: Half``; without detailed
    verbosity a layer is only its name."""
    if not isinstance(row, dict):
        return Layer(str(row), "", frozenset(), ())
    types = set()
    for output in row.get("Outputs", []):
        words = " ".join(str(value) for key, value in output.items() if "datatype" in key.lower())
        spellings = {**TYPE_NAMES, "FP32": "float32", "FP16": "float16", "UINT8": "uint8"}
        types |= {ours for theirs, ours in spellings.items() if theirs in words}
    nodes = tuple(_NODE.findall(str(row.get("Metadata", ""))))
    return Layer(str(row.get("Name", "")), str(row.get("LayerType", "")), frozenset(types), nodes)
