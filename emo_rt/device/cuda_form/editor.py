"""An ONNX graph whose nodes can be looked up and replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class Editor:
    """Looks things up in a graph without subgraphs, and replaces nodes. :meth:`finish` puts the changes in."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self._nodes = list(graph.node)
        self._position = {id(node): index for index, node in enumerate(self._nodes)}
        self._producer = {name: node for node in self._nodes for name in node.output}
        self._users: dict[str, list[NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._types = {value.name: value.type.tensor_type for value in _values(graph)}
        self._new: dict[int, list[NodeProto]] = {}
        self._gone: set[int] = set()
        self.put_in: Counter[str] = Counter()
        """Operators that were put in: ONNX Runtime's own, and ``LayerNormalization``."""

    def nodes(self, operator: str) -> list[NodeProto]:
        """Nodes of one of ONNX's operators that are still there."""
        return [n for n in self._nodes if (n.op_type, n.domain) == (operator, "") and id(n) not in self._gone]

    def producer(self, name: str) -> NodeProto | None:
        """The node that gives a value; ``None`` for inputs, constants, and what was replaced."""
        node = self._producer.get(name)
        return None if node is None or id(node) in self._gone else node

    def users(self, name: str) -> list[NodeProto]:
        """Nodes that read a value; none where it is an output of the graph, which must stay."""
        return [] if name in self._outputs else self._users.get(name, [])

    def only_user(self, name: str, operator: str) -> NodeProto | None:
        """The node of that operator, if it is the only one that reads a value."""
        users = self.users(name)
        return users[0] if len(users) == 1 and users[0].op_type == operator and id(users[0]) not in self._gone else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Sizes of a value; ``None`` where they are unknown or dynamic."""
        if name in self._constants:
            return tuple(self._constants[name].dims)
        sizes = self._types[name].shape.dim if name in self._types else []
        return tuple(size.dim_value for size in sizes) if sizes and all(s.dim_value > 0 for s in sizes) else None

    def is_output(self, name: str) -> bool:
        """Whether a value is one of the graph's results."""
        return name in self._outputs

    def note(self, name: str, like: str, shape: Sequence[int]) -> str:
        """Write down type and sizes of a new value, for the rewrites and the reckoning that come after; gives its
        name."""
        kind = self._constants[like].data_type if like in self._constants else self._types[like].elem_type
        for value in [one for one in self.model.graph.value_info if one.name == name]:
            self.model.graph.value_info.remove(value)
        self.model.graph.value_info.append(helper.make_tensor_value_info(name, kind, list(shape)))
        self._types[name] = self.model.graph.value_info[-1].type.tensor_type
        return name

    def is_half(self, name: str) -> bool:
        """Whether a value is float16."""
        if name in self._constants:
            return bool(self._constants[name].data_type == TensorProto.FLOAT16)
        return name in self._types and self._types[name].elem_type == TensorProto.FLOAT16

    def is_constant(self, name: str) -> bool:
        """Whether a value is stored in the graph or beside it."""
        return name in self._constants

    def replace(self, old: Sequence[NodeProto], new: Sequence[NodeProto], at: NodeProto | None = None) -> None:
        """Put ``new`` in the place of ``at``, the last of ``old`` if not given. What ``old`` gives and ``new`` does
        not, nobody else reads."""
        place = at or max(old, key=lambda node: self._position[id(node)])
        self._new[id(place)] = list(new)
        self._gone |= {id(node) for node in old}
        self.put_in.update(n.op_type for n in new if n.domain == MICROSOFT or n.op_type == "LayerNormalization")

    def sizes(self, name: str, values: Sequence[int]) -> str:
        """A constant list of sizes; gives its name."""
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def filled(self, name: str, value: float, shape: Sequence[int], half: bool) -> str:
        """A constant of one number in the type of the network; gives its name."""
        values = np.full(shape, value, np.float16 if half else np.float32)
        self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def finish(self) -> onnx.ModelProto:
        """The changed model."""
        kept = [self._new.get(id(n), [] if id(n) in self._gone else [n]) for n in self._nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(node for nodes in kept for node in nodes)
        if all(entry.domain != MICROSOFT for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return self.model


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute; lists as tuples."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return tuple(value) if entry.type == onnx.AttributeProto.INTS else value
    return default


def transpose(source: str, target: str, order: Sequence[int]) -> NodeProto:
    """A ``Transpose`` node."""
    return helper.make_node("Transpose", [source], [target], f"{target}/transpose", perm=list(order))


def reshape(source: str, sizes: str, target: str) -> NodeProto:
    """A ``Reshape`` node."""
    return helper.make_node("Reshape", [source, sizes], [target], f"{target}/reshape")


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.value_info, *graph.input, *graph.output]
