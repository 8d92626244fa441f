"""Convolutions, pooling and linear layers as ONNX, with the weights of a state dict; batch norms are folded in.

The graph is written node by node, so that no copy of the network in torch is needed, and any kernel's size is the one
of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emo_rt.errors import CheckpointError
from emo_rt.model.metric_networks import KIND, free_inputs

Weights = Mapping[str, NDArray[np.float32]]
OPSET = 18
"""ONNX operator set, as for the face networks."""


@dataclass
class Layers:
    """A graph that grows. ``x`` and what is returned are names of values."""

    weights: Weights
    """State dict of the public file."""
    epsilon: float = 1e-5
    """Of all batch norms."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add any node."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor. Raises :class:`CheckpointError` where the file has none of that name."""
        if name not in self.weights:
            raise CheckpointError(f"the weights do not fit the network: {name} is missing")
        return np.asarray(self.weights[name], np.float32)

    def conv(
        self,
        x: str,
        name: str,
        norm: str | None = None,
        *,
        strides: int | Sequence[int] = 1,
        pads: str | int | Sequence[int] = "same",
        relu: bool = True,
    ) -> str:
        """Convolution, batch norm, ReLU. ``pads``: ``same`` as TensorFlow has it, or pixels on either side."""
        kernel, bias = self._folded(name, norm)
        sides = kernel.ndim - 2
        names = [self._stored(kernel), self._stored(bias)]
        x = self.node("Conv", [x, *names], strides=_each(strides, sides), **_padding(pads, sides))
        return self.node("Relu", [x]) if relu else x

    def linear(self, x: str, name: str, norm: str | None = None, *, relu: bool = False) -> str:
        """Fully connected layer, batch norm, ReLU."""
        matrix, bias = self._folded(name, norm)
        x = self.node("Gemm", [x, self._stored(matrix), self._stored(bias)], transB=1)
        return self.node("Relu", [x]) if relu else x

    def pool(
        self, x: str, kind: str, kernel: Sequence[int], strides: Sequence[int], pads: str | int | Sequence[int] = 0
    ) -> str:
        """``MaxPool`` or ``AveragePool``; padding never counts in a mean."""
        return self.node(kind, [x], kernel_shape=kernel, strides=strides, **_padding(pads, len(kernel)))

    def model(
        self, network: str, outputs: Mapping[str, str], metadata: Mapping[str, str] | None = None
    ) -> onnx.ModelProto:
        """The whole, as ``network``. ``outputs``: name → value; ``metadata``: beside what says which network it is.

        Raises :class:`CheckpointError` where shapes do not fit.
        """
        for name, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        ends = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()]
            for group in (free_inputs(network), dict.fromkeys(outputs))
        ]
        graph = helper.make_graph(self.nodes, network, ends[0], ends[1], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        helper.set_model_props(model, {KIND: network, **(metadata or {})})
        try:
            model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as exc:
            raise CheckpointError(f"the weights do not fit the network: {str(exc).splitlines()[0]}") from exc
        _check_channels(model.graph)
        return model

    def _folded(self, name: str, norm: str | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel and bias, the batch norm inside: y = γ (w·x + b − μ) / √(σ² + ε) + β."""
        kernel = self.weight(f"{name}.weight").astype(np.float64)
        given = f"{name}.bias" in self.weights
        bias = self.weight(f"{name}.bias").astype(np.float64) if given else np.zeros(len(kernel))
        if norm is not None:
            scale = self.weight(f"{norm}.weight") / np.sqrt(
                self.weight(f"{norm}.running_var").astype(np.float64) + self.epsilon
            )
            kernel = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
            bias = (bias - self.weight(f"{norm}.running_mean")) * scale + self.weight(f"{norm}.bias")
        return kernel.astype(np.float32), bias.astype(np.float32)

    def _stored(self, values: NDArray[np.float32]) -> str:
        name = f"weight_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _check_channels(graph: onnx.GraphProto) -> None:
    """Whether each kernel takes what the layer before it gives: shape inference does not ask."""
    shapes = {one.name: one.type.tensor_type.shape.dim for one in (*graph.input, *graph.value_info)}
    kernels = {one.name: one.dims for one in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        given, wanted = shapes[node.input[0]][1].dim_value, kernels[node.input[1]][1]
        if given != wanted:
            raise CheckpointError(
                f"the weights do not fit the network: a kernel takes {wanted} channels; the layer before has {given}"
            )


def _each(value: int | Sequence[int], sides: int) -> list[int]:
    return [value] * sides if isinstance(value, int) else list(value)


def _padding(pads: str | int | Sequence[int], sides: int) -> dict[str, object]:
    if isinstance(pads, str):
        return {"auto_pad": "SAME_UPPER"}
    return {"pads": 2 * _each(pads, sides)}
