"""Kinds of values that are made of others: several of one kind, lists, and classes of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emo_rt.schema.kinds import FILE, NUMBER, Decimal, File, Kind

COUNTS = {2: "two", 3: "three", 4: "four"}
"""Numbers in words, for messages."""


@dataclass(frozen=True)
class Several(Kind):
    """So many values of one kind; also a part of a type: ``Annotated[tuple[float, float], Several(("a", "b"))]``."""

    names: tuple[str, ...]
    """What each of them is."""
    rises: bool = False
    """Whether each is larger than the one before."""
    item: Kind = NUMBER
    """Kind of each; taken from the type, where this is a part of one."""

    @property
    def words(self) -> str:
        count, names = COUNTS[len(self.names)], ",".join(self.names)
        if not isinstance(self.item, Decimal):
            return f"{count} names of files: {names}"
        low, high = self.item.range.low, self.item.range.high
        if self.rises:
            return f"{count} numbers, {self.range_words}"
        return f"{count} numbers from {low:g} to {high:g}: {names}"

    @property
    def range_words(self) -> str:
        if not isinstance(self.item, Decimal):
            return ""
        low, high = self.item.range.low, self.item.range.high
        return f"{low:g} ≤ {' < '.join(self.names)} ≤ {high:g}" if self.rises else f"each {low:g} … {high:g}"

    @property
    def placeholder(self) -> str:  # type: ignore[override]
        """As the command line writes it: ``FIRST,LAST``."""
        return ",".join(self.names).upper()

    def has(self, value: object) -> bool:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(self.names):
            return False
        if not all(self.item.has(one) for one in value):
            return False
        return not self.rises or all(one < other for one, other in itertools.pairwise(value))

    def read(self, text: str) -> tuple[Any, ...]:
        parts = text.split(",")
        if len(parts) != len(self.names):
            raise ValueError(text)
        return tuple(map(self.item.read, parts))

    def load(self, plain: Any) -> Any:
        return tuple(map(self.item.load, plain)) if isinstance(plain, list | tuple) else plain

    def dump(self, value: Any) -> list[Any]:
        return [self.item.dump(one) for one in value]

    @property
    def schema(self) -> dict[str, Any]:
        count = len(self.names)
        return {"type": "array", "items": self.item.schema, "minItems": count, "maxItems": count}


@dataclass(frozen=True)
class Listing(Kind):
    """Any number of words; also a part of a type, ``Annotated[tuple[str, ...], Listing(NAMES)]``."""

    choices: tuple[str, ...] = ()
    """Words that there are; none = any."""
    placeholder = "NAME,…"

    @property
    def words(self) -> str:
        return self.range_words or "a list of names"

    @property
    def range_words(self) -> str:
        return f"some of {', '.join(self.choices)}" if self.choices else ""

    def has(self, value: object) -> bool:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        return all(isinstance(one, str) and (not self.choices or one in self.choices) for one in value)

    def read(self, text: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in text.split(",") if name.strip())

    def load(self, plain: Any) -> Any:
        return tuple(plain) if isinstance(plain, list | tuple) else plain

    def dump(self, value: Any) -> list[str]:
        return list(value)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"enum": list(self.choices)} if self.choices else {"type": "string"}}


@dataclass(frozen=True)
class Files(Kind):
    """Any number of files or folders, which the command line takes one after another; a part of a type."""

    item: File = FILE
    """Kind of each."""
    words = "a list of names of files"
    placeholder = "FILE"

    def has(self, value: object) -> bool:
        return not isinstance(value, str) and isinstance(value, Sequence) and all(map(self.item.has, value))

    def read(self, text: str) -> tuple[Any, ...]:
        return (self.item.read(text),)

    def load(self, plain: Any) -> Any:
        return tuple(map(self.item.load, plain)) if isinstance(plain, list | tuple) else plain

    def dump(self, value: Any) -> list[str]:
        return [self.item.dump(one) for one in value]

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema}


@dataclass(frozen=True)
class Coded(Kind):
    """Values of a class of their own; a part of a type."""

    expected: str
    """What is expected, for messages."""
    belongs: Callable[[object], bool]
    """See :meth:`Kind.has`."""
    parse: Callable[[str], Any]
    """Text → value. May raise an error of ours."""
    write: Callable[[Any], Any]
    """Value → JSON value."""
    written: Mapping[str, Any]
    """JSON Schema."""
    placeholder: str | None = None

    @property
    def words(self) -> str:
        return self.expected

    def has(self, value: object) -> bool:
        return self.belongs(value)

    def read(self, text: str) -> Any:
        return self.parse(text)

    def load(self, plain: Any) -> Any:
        if isinstance(plain, list | tuple):
            plain = ",".join(map(str, plain))
        return self.parse(plain) if isinstance(plain, str) else plain

    def dump(self, value: Any) -> Any:
        return self.write(value)

    @property
    def schema(self) -> dict[str, Any]:
        return dict(self.written)


@dataclass(frozen=True)
class Part(Kind):
    """Options of another dataclass inside this one: only Python sees them as one value."""

    type: type

    @property
    def words(self) -> str:
        return f"a {self.type.__name__}"

    def has(self, value: object) -> bool:
        return isinstance(value, self.type)

    def read(self, text: str) -> Any:
        raise ValueError(text)

    @property
    def schema(self) -> dict[str, Any]:
        raise NotImplementedError("its options stand for themselves")
