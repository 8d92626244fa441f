"""Which external data files an ONNX file refers to, and how they get other names, without the ``onnx`` package.

ONNX Runtime opens those files by itself, so their names are checked before it gets the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from emo_rt.errors import BundleIntegrityError
from emo_rt.files import read_bounded

Schema = dict[int, "Schema"]

MAX_BYTES = 2**31 - 1
"""Of an ONNX file: protobuf takes no more."""
LOCATION = b"location"
"""Key of an entry that names a file."""
MAX_DEPTH = 100
"""Messages inside messages; protobuf itself refuses deeper nesting."""

_ENTRY: Schema = {}
_TENSOR: Schema = {13: _ENTRY}
_SPARSE: Schema = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE: Schema = {5: _TENSOR, 10: _TENSOR, 22: _SPARSE, 23: _SPARSE}
_NODE: Schema = {5: _ATTRIBUTE}
_GRAPH: Schema = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE.update({6: _GRAPH, 11: _GRAPH})
_FUNCTION: Schema = {7: _NODE, 11: _ATTRIBUTE}
_MODEL: Schema = {7: _GRAPH, 20: {1: _GRAPH, 2: _GRAPH}, 25: _FUNCTION}


def external_locations(path: Path) -> set[str]:
    """Every ``location`` of external data anywhere in the model: graphs, subgraphs, functions, attributes.

    Raises :class:`BundleIntegrityError` when the file is no protobuf.
    """
    try:
        return set(_locations(memoryview(read_bounded(path, MAX_BYTES)), _MODEL, MAX_DEPTH))
    except (OSError, ValueError) as exc:
        raise BundleIntegrityError(f"{path} is not a readable ONNX file: {exc}; export the bundle again") from exc


def renamed_locations(path: Path, names: Mapping[str, str]) -> bytes:
    """The ONNX file with other names of its external data files: old → new; what is not in ``names`` stays.

    Nothing else changes. Raises :class:`BundleIntegrityError` when the file is no protobuf.
    """
    try:
        return _renamed(memoryview(read_bounded(path, MAX_BYTES)), _MODEL, names, MAX_DEPTH)
    except (OSError, ValueError) as exc:
        raise BundleIntegrityError(f"{path} is not a readable ONNX file: {exc}; export the bundle again") from exc


def _locations(message: memoryview, schema: Schema, depth: int) -> Iterator[str]:
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} messages lie inside each other")
    if schema is _ENTRY:
        entry = _entry(message)
        if entry.get(1) == LOCATION.decode():
            yield entry.get(2, "")
        return
    for number, value, _ in _fields(message):
        if value is None or number not in schema:
            continue
        if schema[number] is _NODE and LOCATION not in bytes(value):  # nearly all nodes: not worth their parsing
            continue
        yield from _locations(value, schema[number], depth - 1)


def _renamed(message: memoryview, schema: Schema, names: Mapping[str, str], depth: int) -> bytes:
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} messages lie inside each other")
    if schema is _ENTRY:
        entry = _entry(message)
        if entry.get(1) != LOCATION.decode() or entry.get(2) not in names:
            return bytes(message)
        return _field(1, LOCATION) + _field(2, names[entry[2]].encode())
    parts = []
    for number, value, whole in _fields(message):
        if value is None or number not in schema:
            parts.append(bytes(whole))
        else:
            parts.append(_field(number, _renamed(value, schema[number], names, depth - 1)))
    return b"".join(parts)


def _entry(message: memoryview) -> dict[int, str]:
    """A key (1) and its value (2)."""
    return {number: bytes(value).decode() for number, value, _ in _fields(message) if value is not None}


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None, memoryview]]:
    """Number, content and the whole of each field of one protobuf message; scalars have no content."""
    position = 0
    while position < len(message):
        start, value = position, None
        key, position = _varint(message, position)
        if key >= 2**32:  # protobuf drops the upper bits, and would see another field than this reader
            raise ValueError("a field number is too large")
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, position = _varint(message, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire}")
        if position > len(message):
            raise ValueError("a field ends behind the file")
        yield number, value, message[start:position]


def _field(number: int, content: bytes) -> bytes:
    """A field with content, as protobuf writes it."""
    return _written_varint(number << 3 | 2) + _written_varint(len(content)) + content


def _written_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")
