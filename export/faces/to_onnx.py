"""A TensorFlow Lite network as an ONNX graph, for the operators that the face networks use.

TensorFlow keeps pictures as (N, H, W, C), ONNX as (N, C, H, W). Each value is kept in the layout in which it was
computed, and turned only where an operator needs the other one: once behind the input, and in front of a reshape.
Weights stay float16 in the file, as Google stores them; runtimes turn them into float32 when they load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from emo_rt.errors import ExportError
from emo_rt.export.faces.flatbuffer import Numbers
from emo_rt.export.faces.tflite import Network, Operator

OPSET = 18
"""ONNX operator set: the first whose reductions take their axes as one kind of input. Old runtimes know it, too."""
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SAME = 0
"""Number of the padding that keeps ceil(side / stride) pixels; 1 is none."""
ACTIVATIONS = {0: None, 1: "Relu"}
"""Activations that are fused into an operator, by number."""


def to_onnx(network: Network, name: str, inputs: Sequence[str], outputs: Mapping[int, str]) -> onnx.ModelProto:
    """The ONNX model. ``inputs``: names for the network's inputs; ``outputs``: names for the outputs that are kept, by
    their place. What only other outputs need is left out. Raises :class:`ExportError`."""
    converter = _Converter(network, dict(zip(network.inputs, inputs, strict=True)))
    kept = {network.outputs[place]: output for place, output in outputs.items()}
    for operator in _needed(network, set(kept)):
        converter.convert(operator)
    for tensor, output in kept.items():
        converter.node("Identity", [converter.value(tensor)], output)
    graph = helper.make_graph(
        converter.nodes,
        name,
        [_info(network, tensor, label) for tensor, label in converter.plain.items() if tensor in network.inputs],
        [_info(network, tensor, label) for tensor, label in kept.items()],
        list(converter.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _info(network: Network, tensor: int, label: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(label, TensorProto.FLOAT, network.tensors[tensor].shape)


def _needed(network: Network, wanted: set[int]) -> list[Operator]:
    """The operators that the wanted tensors depend on, in the order in which they run."""
    kept = []
    for operator in reversed(network.operators):
        if operator.output in wanted:
            kept.append(operator)
            wanted = wanted | set(operator.inputs)
    return kept[::-1]


@dataclass
class _Converter:
    """What has been converted so far."""

    network: Network
    plain: dict[int, str]
    """Names of values that are laid out as TensorFlow has them, by tensor."""
    pictures: dict[int, str] = field(default_factory=dict)
    """Names of values that are laid out channels first, by tensor."""
    weights: dict[int, Numbers] = field(default_factory=dict)
    """Constants, float16 where the file has them so, by tensor."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def convert(self, operator: Operator) -> None:
        """Add the nodes of one operator."""
        if operator.kind == "DEQUANTIZE":
            self.weights[operator.output] = self.constant(operator.inputs[0])
            return
        _CONVERSIONS[operator.kind](self, operator)

    def node(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: object) -> str:
        """Add a node; the name of its output."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, tensor: int) -> Numbers:
        """The values of a constant tensor. Raises :class:`ExportError` for one that is computed."""
        found = self.network.tensors[tensor].constant if tensor not in self.weights else self.weights[tensor]
        if found is None:
            raise ExportError(f"tensor {self.network.tensors[tensor].name} is computed; expected a constant")
        return found

    def stored(self, values: Numbers) -> str:
        """The name of a constant in the file; float16 values come out as float32."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return self.node("Cast", [name], to=TensorProto.FLOAT) if values.dtype == np.float16 else name

    def is_picture(self, tensor: int) -> bool:
        """Whether the value is laid out channels first."""
        return tensor in self.pictures

    def value(self, tensor: int) -> str:
        """The name of a tensor as TensorFlow lays it out."""
        if tensor not in self.plain and self.is_picture(tensor):
            self.plain[tensor] = self.node("Transpose", [self.pictures[tensor]], perm=TO_CHANNELS_LAST)
        if tensor not in self.plain:
            self.plain[tensor] = self.stored(self.constant(tensor))
        return self.plain[tensor]

    def picture(self, tensor: int) -> str:
        """The name of a tensor with the channels first; constants (…, C) become (C, 1, 1)."""
        if tensor in self.weights:
            self.pictures[tensor] = self.stored(self.weights[tensor].reshape(-1, 1, 1))
        elif tensor not in self.pictures:
            self.pictures[tensor] = self.node("Transpose", [self.plain[tensor]], perm=TO_CHANNELS_FIRST)
        return self.pictures[tensor]

    def finish(self, operator: Operator, name: str, *, picture: bool, activation: int = 0) -> None:
        """Note the operator's result, after its fused activation."""
        kind = ACTIVATIONS.get(activation, "")
        if kind == "":
            raise ExportError(f"{operator.kind} has fused activation number {activation}; expected none or ReLU")
        name = name if kind is None else self.node(kind, [name])
        (self.pictures if picture else self.plain)[operator.output] = name

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self.network.tensors[tensor].shape


def _convolution(converter: _Converter, operator: Operator) -> None:
    data, kernel, bias = operator.inputs
    weights = converter.constant(kernel)
    if weights.shape[1:3] == (1, 1) and not converter.is_picture(data) and converter.shape(data)[1] == 1:
        _linear(converter, operator)
        return
    strides = (operator.option(2), operator.option(1))
    name = converter.node(
        "Conv",
        [converter.picture(data), *map(converter.stored, (weights.transpose(0, 3, 1, 2), converter.constant(bias)))],
        strides=strides,
        pads=_pads(converter.shape(data), weights.shape[1:3], strides, operator),
    )
    converter.finish(operator, name, picture=True, activation=operator.option(3, bits=8))


def _linear(converter: _Converter, operator: Operator) -> None:
    """A 1x1 convolution of a row of tokens (N, 1, T, C): a product with its matrix."""
    data, kernel, bias = operator.inputs
    matrix = converter.constant(kernel)[:, 0, 0, :].T
    product = converter.node("MatMul", [converter.value(data), converter.stored(matrix)])
    name = converter.node("Add", [product, converter.value(bias)])
    converter.finish(operator, name, picture=False, activation=operator.option(3, bits=8))


def _depthwise(converter: _Converter, operator: Operator) -> None:
    data, kernel, bias = operator.inputs
    weights, strides = converter.constant(kernel), (operator.option(2), operator.option(1))
    if operator.option(3) != 1:
        raise ExportError(f"a depthwise convolution has multiplier {operator.option(3)}; expected 1")
    name = converter.node(
        "Conv",
        [converter.picture(data), *map(converter.stored, (weights.transpose(3, 0, 1, 2), converter.constant(bias)))],
        strides=strides,
        pads=_pads(converter.shape(data), weights.shape[1:3], strides, operator),
        group=weights.shape[3],
    )
    converter.finish(operator, name, picture=True, activation=operator.option(4, bits=8))


def _pads(shape: Sequence[int], kernel: Sequence[int], strides: Sequence[int], operator: Operator) -> list[int]:
    """ONNX's (top, left, bottom, right). An odd pixel goes to the bottom and to the right."""
    if operator.option(0, bits=8) != SAME:
        return [0, 0, 0, 0]
    sides = zip(shape[1:3], kernel, strides, strict=True)
    totals = [max((-(-side // stride) - 1) * stride + reach - side, 0) for side, reach, stride in sides]
    before = [total // 2 for total in totals]
    return [*before, *(total - first for total, first in zip(totals, before, strict=True))]


def _max_pool(converter: _Converter, operator: Operator) -> None:
    (data,) = operator.inputs
    strides, kernel = (operator.option(2), operator.option(1)), (operator.option(4), operator.option(3))
    pads = _pads(converter.shape(data), kernel, strides, operator)
    name = converter.node("MaxPool", [converter.picture(data)], kernel_shape=kernel, strides=strides, pads=pads)
    converter.finish(operator, name, picture=True, activation=operator.option(5, bits=8))


def _pad(converter: _Converter, operator: Operator) -> None:
    data, amounts = operator.inputs
    sides = converter.constant(amounts)
    picture = converter.is_picture(data)
    sides = sides[list(TO_CHANNELS_FIRST)] if picture else sides
    before_and_after = converter.stored(sides.T.reshape(-1).astype(np.int64))
    source = converter.picture(data) if picture else converter.value(data)
    converter.finish(operator, converter.node("Pad", [source, before_and_after]), picture=picture)


def _elementwise(*kinds: str) -> Callable[[_Converter, Operator], None]:
    """The first kind takes all inputs, each further one the result of the one before it."""

    def convert(converter: _Converter, operator: Operator) -> None:
        picture = converter.is_picture(operator.inputs[0])
        name = converter.node(kinds[0], list(map(converter.picture if picture else converter.value, operator.inputs)))
        for kind in kinds[1:]:
            name = converter.node(kind, [name])
        activation = operator.option(0, bits=8) if operator.kind in ("ADD", "SUB", "MUL", "DIV") else 0
        converter.finish(operator, name, picture=picture, activation=activation)

    return convert


def _prelu(converter: _Converter, operator: Operator) -> None:
    """slope · x + (1 − slope) · relu(x), as depthwise 1x1 convolutions: ONNX Runtime's blocked layout holds through
    them, and its own PRelu takes six times as long as all convolutions of the network."""
    data, slope = operator.inputs
    slopes = converter.constant(slope).reshape(-1, 1, 1, 1)
    source = converter.picture(data)
    whole = converter.node("Conv", [source, converter.stored(slopes)], group=len(slopes))
    rest = converter.stored(1 - slopes.astype(np.float32))
    positive = converter.node("Conv", [converter.node("Relu", [source]), rest], group=len(slopes))
    converter.finish(operator, converter.node("Add", [whole, positive]), picture=True)


def _squared_difference(converter: _Converter, operator: Operator) -> None:
    difference = converter.node("Sub", [converter.value(tensor) for tensor in operator.inputs])
    converter.finish(operator, converter.node("Mul", [difference, difference]), picture=False)


def _reduction(kind: str) -> Callable[[_Converter, Operator], None]:
    def convert(converter: _Converter, operator: Operator) -> None:
        data, axes = operator.inputs
        wanted = converter.stored(converter.constant(axes).reshape(-1).astype(np.int64))
        kept = operator.option(0, bits=8)
        converter.finish(operator, converter.node(kind, [converter.value(data), wanted], keepdims=kept), picture=False)

    return convert


def _reshape(converter: _Converter, operator: Operator) -> None:
    shape = converter.stored(np.array(converter.shape(operator.output), np.int64))
    name = converter.node("Reshape", [converter.value(operator.inputs[0]), shape])
    converter.finish(operator, name, picture=False)


def _transpose(converter: _Converter, operator: Operator) -> None:
    data, order = operator.inputs
    name = converter.node("Transpose", [converter.value(data)], perm=converter.constant(order).tolist())
    converter.finish(operator, name, picture=False)


def _concatenation(converter: _Converter, operator: Operator) -> None:
    parts = [converter.value(tensor) for tensor in operator.inputs]
    name = converter.node("Concat", parts, axis=operator.option(0))
    converter.finish(operator, name, picture=False, activation=operator.option(1, bits=8))


def _strided_slice(converter: _Converter, operator: Operator) -> None:
    """With masks: bit n frees the start or the end of axis n, or drops the axis."""
    data, *limits = operator.inputs
    starts, ends, steps = (converter.constant(tensor).astype(np.int64) for tensor in limits)
    axes = np.arange(len(starts))
    free_start, free_end, dropped = (operator.option(mask) >> axes & 1 for mask in (0, 1, 4))
    if operator.option(2) or operator.option(3) or (steps <= 0).any():
        raise ExportError("a strided slice has an ellipsis, a new axis or a step below 1; expected none")
    starts = np.where(free_start, 0, starts)
    ends = np.where(free_end, np.iinfo(np.int64).max, ends)
    ends = np.where(dropped, starts + 1, ends)
    name = converter.node(
        "Slice", [converter.value(data), *map(converter.stored, (starts, ends, axes.astype(np.int64), steps))]
    )
    if dropped.any():
        name = converter.node("Squeeze", [name, converter.stored(np.flatnonzero(dropped).astype(np.int64))])
    converter.finish(operator, name, picture=False)


_CONVERSIONS: dict[str, Callable[[_Converter, Operator], None]] = {
    "ADD": _elementwise("Add"),
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DIV": _elementwise("Div"),
    "LOGISTIC": _elementwise("Sigmoid"),
    "MAX_POOL_2D": _max_pool,
    "MEAN": _reduction("ReduceMean"),
    "MUL": _elementwise("Mul"),
    "NEG": _elementwise("Neg"),
    "PAD": _pad,
    "PRELU": _prelu,
    "RELU": _elementwise("Relu"),
    "RESHAPE": _reshape,
    "RSQRT": _elementwise("Sqrt", "Reciprocal"),
    "SQRT": _elementwise("Sqrt"),
    "SQUARED_DIFFERENCE": _squared_difference,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _elementwise("Sub"),
    "SUM": _reduction("ReduceSum"),
    "TRANSPOSE": _transpose,
}
"""How each operator becomes nodes."""
