"""The few things that a TensorFlow Lite file asks of FlatBuffers: tables, vectors, strings, numbers.

A field is named by its number in the schema; in the file it may be missing, which means its default.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table as Raw
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.generic]


class Table:
    """One table of the file."""

    def __init__(self, data: bytes, place: int) -> None:
        """``place``: its first byte."""
        self._raw = Raw(data, place)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The outermost table of a file."""
        return cls(data, encode.Get(packer.uoffset, data, 0))

    def integer(self, field: int, bits: int = 32, default: int = 0) -> int:
        """A whole number with sign, or a bool or a byte with ``bits=8``."""
        flags = number_types.Int8Flags if bits == 8 else number_types.Int32Flags
        place = self._place(field)
        return int(self._raw.Get(flags, place)) if place else default

    def text(self, field: int) -> str:
        """A string, empty if missing."""
        offset = self._offset(field)
        return self._raw.String(self._raw.Pos + offset).decode() if offset else ""

    def table(self, field: int) -> Table | None:
        """A table inside this one, or one of a union."""
        offset = self._offset(field)
        return Table(self._raw.Bytes, self._raw.Indirect(self._raw.Pos + offset)) if offset else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        offset = self._offset(field)
        if not offset:
            return []
        start = self._raw.Vector(offset)
        places = (start + 4 * index for index in range(self._raw.VectorLen(offset)))
        return [Table(self._raw.Bytes, self._raw.Indirect(place)) for place in places]

    def numbers(self, field: int, dtype: str) -> Numbers:
        """A vector of numbers (n,) of that type, empty if missing."""
        offset = self._offset(field)
        if not offset:
            return np.empty(0, dtype)
        count, start = self._raw.VectorLen(offset), self._raw.Vector(offset)
        return np.frombuffer(self._raw.Bytes, dtype, count, start)

    def _offset(self, field: int) -> int:
        return int(self._raw.Offset(4 + 2 * field))

    def _place(self, field: int) -> int:
        offset = self._offset(field)
        return self._raw.Pos + offset if offset else 0
