"""Kinds of values that options have: which are in range, and how they look as text, in JSON and in a JSON Schema.

One object says all that there is to say of a value's range, so that checks, messages, the command line and JSON agree.
"""

from __future__ import annotations

import itertools
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number as AnyNumber
from numbers import Real
from typing import Any, ClassVar

COUNTS = {2: "two", 3: "three", 4: "four"}
"""Numbers in words, for messages."""
INFINITY = "inf"
"""Infinity as text, and in JSON, which has no number for it."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, as a part of a type: ``Annotated[int, Range(1, 1000)]``."""

    low: float
    """Least value."""
    high: float
    """Largest value; infinity is a value, too."""
    words: str = ""
    """The range in words, where the numbers themselves are hard to read."""
    is_open: bool = False
    """Whether ``low`` itself is left out."""

    def has(self, value: object) -> bool:
        """Whether ``value`` is a number in the range; NaN and booleans are not."""
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number = float(value)
        return self.low < number <= self.high if self.is_open else self.low <= number <= self.high

    def __str__(self) -> str:
        if self.words:
            return self.words
        low, high = _shown(self.low), _shown(self.high)
        if self.high == math.inf:
            return f"more than {low}" if self.is_open else f"{low} or more"
        return f"{low} … {high}"


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


ANY = Range(-math.inf, math.inf, "a number")
"""Of a ``float`` whose type says nothing of a range."""
COUNT = Range(0, math.inf)
"""Of such an ``int``."""


class Kind(ABC):
    """Values of one option."""

    placeholder: str | None = None
    """How a usage line calls the value."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is expected, for messages: ``an integer from 1 to 1000``."""

    @property
    def range_words(self) -> str:
        """The range alone, for a text that has the type already; empty where there is none."""
        return ""

    @abstractmethod
    def has(self, value: object) -> bool:
        """Whether it is one of these values."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """The value in a text. Raises :class:`ValueError` for a text that is none; the range is not looked at."""

    def load(self, plain: Any) -> Any:
        """The value of a JSON value, unchecked."""
        return plain

    def dump(self, value: Any) -> Any:
        """The JSON value of a value. Raises :class:`ValueError` where there is none."""
        return value

    @property
    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON Schema of :meth:`dump`."""


@dataclass(frozen=True)
class Whole(Kind):
    """An integer."""

    range: Range
    placeholder = "N"

    @property
    def words(self) -> str:
        if self.range.words or self.range.high == math.inf:
            return f"an integer, {self.range}"
        return f"an integer from {self.range.low} to {self.range.high}"

    @property
    def range_words(self) -> str:
        return "" if self.range == COUNT else str(self.range)

    def has(self, value: object) -> bool:
        return type(value) is int and self.range.low <= value <= self.range.high

    def read(self, text: str) -> int:
        return int(text)

    @property
    def schema(self) -> dict[str, Any]:
        least = {"type": "integer", "minimum": self.range.low}
        return least if self.range.high == math.inf else {**least, "maximum": self.range.high}


@dataclass(frozen=True)
class Decimal(Kind):
    """A number."""

    range: Range
    placeholder = "X"

    @property
    def words(self) -> str:
        return str(self.range)

    @property
    def range_words(self) -> str:
        return "" if self.range == ANY else str(self.range)

    def has(self, value: object) -> bool:
        return self.range.has(value)

    def read(self, text: str) -> float:
        return float(text)

    def load(self, plain: Any) -> Any:
        return math.inf if plain == INFINITY else plain

    def dump(self, value: Any) -> Any:
        return INFINITY if value == math.inf else float(value)

    @property
    def schema(self) -> dict[str, Any]:
        if self.range == ANY:
            return {"type": "number"}
        least = "exclusiveMinimum" if self.range.is_open else "minimum"
        number: dict[str, Any] = {"type": "number", least: self.range.low}
        if self.range.high < math.inf:
            return {**number, "maximum": self.range.high}
        return {"anyOf": [number, {"const": INFINITY}]}


class Switch(Kind):
    """Yes or no."""

    words = "True or False"
    schema: ClassVar = {"type": "boolean"}

    def has(self, value: object) -> bool:
        return isinstance(value, bool)

    def read(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"


class Text(Kind):
    """A text that is not empty."""

    words = "a text that is not empty"
    schema: ClassVar = {"type": "string", "minLength": 1}
    placeholder = "NAME"

    def has(self, value: object) -> bool:
        return isinstance(value, str) and bool(value)

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words; also a part of a type, where the words are a tuple: ``Annotated[str, Choice(SOLVERS)]``."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def has(self, value: object) -> bool:
        return isinstance(value, str) and value in self.choices

    def read(self, text: str) -> str:
        return text

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@dataclass(frozen=True)
class NamedThing(Kind):
    """One of some words that are known late, like those of installed packages."""

    names: Callable[[], tuple[str, ...]]
    placeholder = "NAME"

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.names())}"

    @property
    def range_words(self) -> str:
        return ", ".join(self.names())

    def has(self, value: object) -> bool:
        return isinstance(value, str) and value in self.names()

    def read(self, text: str) -> str:
        return text

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.names())}


class File(Kind):
    """Name of a file, or in Python also what would be in it."""

    words = "the name of a file"
    schema: ClassVar = {"type": "string", "minLength": 1}
    placeholder = "FILE"

    def has(self, value: object) -> bool:
        return not isinstance(value, bool | AnyNumber | Mapping | None)

    def read(self, text: str) -> str:
        return text

    def load(self, plain: Any) -> Any:
        return plain if isinstance(plain, str) and plain else None

    def dump(self, value: Any) -> str:
        if not isinstance(value, str | os.PathLike):
            raise ValueError(f"a {type(value).__name__}; only the name of a file can be written down")
        return os.fspath(value)


@dataclass(frozen=True)
class Several(Kind):
    """So many values of one kind; also a part of a type: ``Annotated[tuple[float, float], Several(("a", "b"))]``."""

    names: tuple[str, ...]
    """What each of them is."""
    rises: bool = False
    """Whether each is larger than the one before."""
    item: Kind = Decimal(ANY)
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
