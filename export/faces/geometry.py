"""Google's standard face: the points that the head pose is read from, out of the geometry module's protocol buffer.

Messages: ``GeometryPipelineMetadata`` (1 mesh, 2 weighted landmarks) and ``Mesh3d`` (3 vertices, five numbers each).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from emo_rt.errors import ExportError

MESH, BASIS, VERTICES = 1, 2, 3
"""Fields of the messages."""
VERTEX = 5
"""Numbers of a vertex: x, y, z in centimetres (y up, z to the camera), and two of a texture."""
VARINT, BYTES, FIXED_32 = 0, 2, 5
"""Wire types that occur."""


def standard_face(metadata: bytes) -> str:
    """``{"points": [{"landmark", "weight", "x", "y", "z"} …]}`` as JSON. Raises :class:`ExportError`."""
    fields = list(_fields(metadata))
    mesh = next(value for field, value in fields if field == MESH)
    numbers = [value for field, value in _fields(mesh) if field == VERTICES]
    points = []
    for landmark, weight in (_values(value) for field, value in fields if field == BASIS):
        x, y, z = (round(number, 6) for number in numbers[landmark * VERTEX : landmark * VERTEX + 3])
        points.append({"landmark": landmark, "weight": round(weight, 8), "x": x, "y": y, "z": z})
    lines = ",\n".join(json.dumps(point) for point in points)
    return f'{{"points": [\n{lines}\n]}}\n'


def _values(message: bytes) -> list[Any]:
    return [value for _, value in _fields(message)]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: a whole number, a float or bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
        elif kind == FIXED_32:
            (value,) = struct.unpack_from("<f", message, place)
            place += 4
        elif kind == BYTES:
            size, start = _varint(message, place)
            value, place = message[start : start + size], start + size
        else:
            raise ExportError(f"the geometry has a field of wire type {kind}; expected 0, 2 or 5")
        yield key >> 3, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and where the next thing begins."""
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
