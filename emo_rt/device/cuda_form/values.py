"""Sizes of all values of a graph, those that a rewrite has put in, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from emo_rt.device.cuda_form.editor import attribute

SHORT = 64
"""Numbers of a constant that can be a list of sizes."""


@dataclass(frozen=True)
class Value:
    """Shape and type of a value."""

    sizes: tuple[int, ...]
    """0 where a size is not known before a run."""
    kind: int
    """``TensorProto.DataType``."""

    @property
    def nbytes(self) -> int:
        """Its memory."""
        return math.prod(self.sizes) * helper.tensor_dtype_to_np_dtype(self.kind).itemsize


class Values:
    """Looks up values by name. Constant ones are what ONNX Runtime computes when the graph opens."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._known = {
            one.name: Value(tuple(size.dim_value for size in one.type.tensor_type.shape.dim), _kind(one))
            for one in [*graph.value_info, *graph.input, *graph.output]
        }
        self._known |= {one.name: Value(tuple(one.dims), one.data_type) for one in graph.initializer}
        self._lists = {
            one.name: numpy_helper.to_array(one).reshape(-1).tolist()
            for one in graph.initializer
            if one.data_type == TensorProto.INT64 and not one.external_data and math.prod(one.dims) <= SHORT
        }
        self.constants = {one.name for one in graph.initializer}
        """Names of constants."""
        self.computed: list[NodeProto] = []
        """Nodes that a run computes."""
        for node in graph.node:
            self._add(node)

    def __getitem__(self, name: str) -> Value:
        """Shape and type of a value."""
        return self._known[name]

    def _add(self, node: NodeProto) -> None:
        if all(name in self.constants for name in node.input if name):
            self.constants.update(node.output)
        else:
            self.computed.append(node)
        for name in filter(None, node.output):
            if name not in self._known:
                self._known[name] = self._result(node)

    def _result(self, node: NodeProto) -> Value:
        """What a node gives that the exporter knew nothing of."""
        source = self._known.get(node.input[0]) if node.input else None
        if source is None:
            return Value((0,), TensorProto.FLOAT)
        if node.op_type == "Transpose":
            return Value(tuple(source.sizes[axis] for axis in attribute(node, "perm")), source.kind)
        if node.op_type == "Reshape" and node.input[1] in self._lists:
            return Value(_reshaped(source.sizes, self._lists[node.input[1]]), source.kind)
        if node.op_type == "Cast":
            return Value(source.sizes, attribute(node, "to"))
        return source


def _reshaped(sizes: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    known = math.prod(size for size in wanted if size > 0)
    return tuple(math.prod(sizes) // known if size < 0 else int(size) for size in wanted)


def _kind(info: onnx.ValueInfoProto) -> int:
    return int(info.type.tensor_type.elem_type)
