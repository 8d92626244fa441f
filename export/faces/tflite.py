"""A TensorFlow Lite network as it is in the file: tensors, constants and operators in the order in which they run.

Numbers of fields, operators and types are those of TensorFlow's ``schema.fbs``, version 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from emo_rt.errors import ExportError
from emo_rt.export.faces.flatbuffer import Numbers, Table

OPERATORS = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 14: "LOGISTIC",
    17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 22: "RESHAPE", 34: "PAD", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB",
    42: "DIV", 45: "STRIDED_SLICE", 54: "PRELU", 59: "NEG", 74: "SUM", 75: "SQRT", 76: "RSQRT",
    99: "SQUARED_DIFFERENCE",
}  # fmt: skip
"""Built-in operators of the three face networks, by number."""
TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}
"""Tensor types of the three face networks, by number."""
IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class Tensor:
    """One tensor of the network."""

    name: str
    """As the training framework called it."""
    shape: tuple[int, ...]
    """Static; pictures are (N, H, W, C)."""
    constant: Numbers | None
    """Its values, in that shape, float32, float16 or int32; ``None`` if it is computed."""


@dataclass(frozen=True)
class Operator:
    """One step of the network."""

    kind: str
    """One of :data:`OPERATORS`."""
    inputs: tuple[int, ...]
    """Indices of tensors."""
    output: int
    """Index of the tensor."""
    options: Table | None
    """The operator's own table of the schema, where it has one."""

    def option(self, field: int, bits: int = 32, default: int = 0) -> int:
        """A number of the operator's own table."""
        return default if self.options is None else self.options.integer(field, bits, default)


@dataclass(frozen=True)
class Network:
    """A network with one graph."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_network(data: bytes) -> Network:
    """Read a ``.tflite`` file. Raises :class:`ExportError` for one with more than the face networks need."""
    if data[4:8] != IDENTIFIER:
        raise ExportError(f"no TensorFlow Lite file: it begins with {data[:8]!r}, expected {IDENTIFIER!r} at byte 4")
    model = Table.root(data)
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise ExportError(f"the TensorFlow Lite file has {len(graphs)} graphs; expected 1")
    graph, buffers = graphs[0], model.tables(4)
    tensors = tuple(_tensor(table, buffers) for table in graph.tables(0))
    kinds = [_kind(code) for code in model.tables(1)]
    operators = tuple(_operator(table, kinds) for table in graph.tables(3))
    return Network(tensors, operators, _indices(graph, 1), _indices(graph, 2))


def _indices(table: Table, field: int) -> tuple[int, ...]:
    return tuple(int(index) for index in table.numbers(field, "<i4"))


def _tensor(table: Table, buffers: list[Table]) -> Tensor:
    name, shape = table.text(3), _indices(table, 0)
    kind = table.integer(1, bits=8)
    if kind not in TYPES:
        raise ExportError(f"tensor {name} has type number {kind}; expected float32, float16 or int32")
    content = buffers[table.integer(2)].numbers(0, "u1")
    return Tensor(name, shape, content.view(TYPES[kind]).reshape(shape) if len(content) else None)


def _kind(code: Table) -> str:
    number = max(code.integer(0, bits=8), code.integer(3))  # old files have the first, new ones both
    if number not in OPERATORS:
        raise ExportError(f"operator number {number} is not known; expected {', '.join(OPERATORS.values())}")
    return OPERATORS[number]


def _operator(table: Table, kinds: list[str]) -> Operator:
    outputs = _indices(table, 2)
    kind = kinds[table.integer(0)]
    if len(outputs) != 1:
        raise ExportError(f"an operator {kind} has {len(outputs)} outputs; expected 1")
    return Operator(kind, _indices(table, 1), outputs[0], table.table(4))
