"""What an options dataclass says of itself: name, type, range, default and meaning of each of its options.

An option is written once, as a field::

    steps: Annotated[int | None, Range(1, 1000)] = None
    \"\"\"Solver steps per clip. ``None`` = the model's own.\"\"\"

Its own check, the command line, JSON and the JSON Schema read that. The first paragraph of the docstring is the text
for users; ``None`` = … in it says what happens without the option.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from emo_rt.checks import check, reject_unknown
from emo_rt.errors import ConfigError, EmoRtError
from emo_rt.schema.compound import Listing, Part, Several
from emo_rt.schema.field_docs import field_docs, plain
from emo_rt.schema.kinds import COUNT, NUMBER, Choice, Decimal, File, Kind, Range, Switch, Text, Whole

OptionsT = TypeVar("OptionsT")

NONE_IS = re.compile(r"\s*``None`` = (.+?)\.(?=\s|$)", re.DOTALL)
"""The sentence of a docstring that says what happens without the option."""
SHOWN = 200
"""Most characters of a wrong value in a message."""


@dataclass(frozen=True)
class Outside:
    """How an option is called outside of Python, as a part of its type."""

    name: str | None = None
    """Its name in JSON, and with dashes on the command line; ``None`` = the field's."""
    placeholder: str | None = None
    """How a usage line calls the value; ``None`` = after its kind."""
    is_hidden: bool = False
    """Whether only Python has it."""


@dataclass(frozen=True)
class Option:
    """One option."""

    field: str
    """Name of the field."""
    name: str
    """Name in JSON; with dashes that of the command line."""
    kind: Kind
    """Its values, ``None`` left out."""
    is_optional: bool
    """Whether ``None`` is a value."""
    default: Any
    """Value where nothing is given."""
    text: str
    """What it does, for users: one paragraph without markup, without the default."""
    absent: str
    """What happens without it, in words, where the default is ``None``."""
    placeholder: str | None
    """How a usage line calls the value."""
    is_hidden: bool
    """Whether only Python has it."""

    @property
    def expected(self) -> str:
        """What is expected, for messages."""
        if self.is_optional and isinstance(self.kind, Switch):
            return "True, False or None"
        joint = "; or None" if ":" in self.kind.words else ", or None"
        return f"{self.kind.words}{joint if self.is_optional else ''}"

    def check(self, value: object) -> None:
        """Raise :class:`ConfigError` unless it is one of the values."""
        if not ((value is None and self.is_optional) or self.kind.has(value)):
            raise self._refusal(self.field, value)

    def load(self, plain_value: Any) -> Any:
        """The value of a JSON value. Raises :class:`ConfigError`."""
        if plain_value is None and self.is_optional:
            return None
        try:
            value = self.kind.load(plain_value)
        except (EmoRtError, ValueError) as exc:
            raise self._refusal(self.name, plain_value) from exc
        if not self.kind.has(value):
            raise self._refusal(self.name, plain_value)
        return value

    def _refusal(self, name: str, value: object) -> ConfigError:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} …"
        return ConfigError(f"{name} is {shown}; expected {self.expected}")

    def dump(self, value: Any) -> Any:
        """The JSON value of a value. Raises :class:`ConfigError` where there is none."""
        try:
            return None if value is None else self.kind.dump(value)
        except ValueError as exc:
            raise ConfigError(f"{self.name} is {exc}") from exc

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        inner = self.kind.schema
        found = {"anyOf": [inner, {"type": "null"}]} if self.is_optional else inner
        default = self.absent and f" Without it: {self.absent}."
        return {**found, "description": f"{self.text}{default}", "default": self.dump(self.default)}


@cache
def options_of(cls: type) -> tuple[Option, ...]:
    """All options of a dataclass, in its order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_option(cls, field, hints[field.name]) for field in dataclasses.fields(cls))


def check_options(config: Any) -> None:
    """Check each field of a dataclass of options. Raises :class:`ConfigError` for the first that is out of range."""
    cls: type = type(config)
    for option in options_of(cls):
        option.check(getattr(config, option.field))


def option_of(cls: type, field: str) -> Option:
    """One option of a dataclass."""
    return next(option for option in options_of(cls) if option.field == field)


def read_options(given: OptionsT | None, changes: Mapping[str, Any], cls: type[OptionsT]) -> OptionsT:
    """``given`` (default: ``cls`` as it is) with single options changed. Raises :class:`ConfigError`."""
    require_type("options", given, cls)
    reject_unknown(cls, changes, "option")
    return cast(OptionsT, dataclasses.replace(cast(Any, cls() if given is None else given), **changes))


def require_type(name: str, value: object, cls: type) -> None:
    """Raise :class:`ConfigError` unless ``value`` is a ``cls`` or ``None``."""
    check(value is None or isinstance(value, cls), name, value, f"{cls.__name__}, or None")


def refuse_unknown(names: Iterable[object], known: Collection[str], what: str) -> None:
    """Raise :class:`ConfigError`, with the nearest known name, if one of ``names`` is not known."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f" (do you mean {near[0]}?)" if near else ""
            raise ConfigError(f"unknown {what} {name!r}{meant}; expected some of {', '.join(known)}")


def _option(cls: type, field: dataclasses.Field[Any], hint: Any) -> Option:
    hint, *marks = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    members = _members(hint)
    kinds = tuple(one for one in members if one is not type(None))
    outside = next((mark for mark in marks if isinstance(mark, Outside)), Outside())
    kind = _kind(kinds, marks)
    doc = field_docs(cls).get(field.name, "").split("\n\n")[0]
    absent = NONE_IS.search(doc)
    return Option(
        field=field.name,
        name=outside.name or field.name,
        kind=kind,
        is_optional=len(kinds) < len(members),
        default=_default(field),
        text=plain(NONE_IS.sub("", doc)),
        absent=plain(absent[1]) if absent else "",
        placeholder=outside.placeholder or kind.placeholder,
        is_hidden=outside.is_hidden or isinstance(kind, Part),
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


SIMPLE: Mapping[Any, Kind] = {bool: Switch(), str: Text(), int: Whole(COUNT), float: NUMBER}
"""Types that say everything themselves."""


def _kind(hints: Sequence[Any], marks: Sequence[Any]) -> Kind:
    """Kind of the values of a type (its alternatives, ``None`` left out), told by what it is annotated with."""
    hint, told = hints[0], next((mark for mark in marks if isinstance(mark, Kind)), None)
    if isinstance(told, Several):
        return dataclasses.replace(told, item=_kind(_members(typing.get_args(hint)[0]), marks[1:]))
    if told is not None:
        return told
    span = next((mark for mark in marks if isinstance(mark, Range)), None)
    if span is not None:
        return Whole(span) if hint is int else Decimal(span)
    if Path in hints:
        return File(Path if len(hints) == 1 else str)
    return _plain_kind(hint)


def _plain_kind(hint: Any) -> Kind:
    """Kind of the values of a type that nothing is said of."""
    if dataclasses.is_dataclass(hint):
        return Part(cast(type, hint))
    kinds = {Literal: Choice(typing.get_args(hint)), tuple: Listing()}
    return kinds.get(typing.get_origin(hint)) or SIMPLE[hint]


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
