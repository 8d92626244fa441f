"""Kinds of values that options have: which are in range, and how they look as text, in JSON and in a JSON Schema.

One object says all that there is to say of a value's range, so that checks, messages, the command line and JSON agree.
"""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Number as AnyNumber
from typing import Any, ClassVar

from emo_rt.checks import check, number_of

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""What no UTF-8 can hold. Python joins pairs, so each that is there is alone."""
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
    unit: str = ""
    """Unit of the numbers, for messages."""

    def has(self, value: object) -> bool:
        """Whether ``value`` is a number in the range; NaN and booleans are not."""
        number = None if isinstance(value, bool) else number_of(value)
        if number is None:
            return False
        return self.low < number <= self.high if self.is_open else self.low <= number <= self.high

    def __str__(self) -> str:
        if self.words:
            return self.words
        low, high = _shown(self.low), _shown(self.high)
        if self.high == math.inf:
            return f"more than {low}" if self.is_open else f"{low} or more"
        return f"{low} … {high} {self.unit}".rstrip()


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

    def check(self, name: str, value: object) -> None:
        """Raise :class:`ConfigError` unless it is one of these values."""
        check(self.has(value), name, value, self.words)

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
        return f"an integer from {self.range.low} to {self.range.high} {self.range.unit}".rstrip()

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


NUMBER = Decimal(ANY)
"""Any number."""


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
    """A text that is not empty, and can be written as UTF-8: half a character of UTF-16, as JSON may have, cannot."""

    words = "a text that is not empty, without lone surrogates"
    schema: ClassVar = {"type": "string", "minLength": 1}
    placeholder = "NAME"

    def has(self, value: object) -> bool:
        return isinstance(value, str) and bool(value) and not LONE_SURROGATE.search(value)

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


@dataclass(frozen=True)
class File(Kind):
    """Name of a file, or in Python also what would be in it."""

    make: Callable[[str], Any] = str
    """What the name becomes: ``Path`` where the type says so."""
    words = "the name of a file"
    schema: ClassVar = {"type": "string", "minLength": 1}
    placeholder = "FILE"

    def has(self, value: object) -> bool:
        return not isinstance(value, bool | AnyNumber | Mapping | None)

    def read(self, text: str) -> Any:
        return self.make(text)

    def load(self, plain: Any) -> Any:
        return self.make(plain) if isinstance(plain, str) and plain else None

    def dump(self, value: Any) -> str:
        if not isinstance(value, str | os.PathLike):
            raise ValueError(f"a {type(value).__name__}; only the name of a file can be written down")
        return os.fspath(value)


FILE = File()
"""Any file, by a name of any type."""
