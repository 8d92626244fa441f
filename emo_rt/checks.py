"""What all settings share: checks that teach, and strict reading from plain JSON values."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal, TypeVar

from emo_rt.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def check(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise :class:`ConfigError` with the name, the value and what was expected unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; expected {expected}")


def within(value: object, low: float, high: float) -> bool:
    """Whether ``value`` is a number from ``low`` to ``high``; NaN is not."""
    number = number_of(value)
    return number is not None and low <= number <= high


def number_of(value: object) -> float | None:
    """``value`` as a float; ``None`` for what is no real number, or an integer that no float can hold."""
    try:
        return float(value) if isinstance(value, Real) else None
    except OverflowError:
        return None


def is_finite(value: object) -> bool:
    """Whether ``value`` is a number that is neither NaN nor infinite, as a float either."""
    number = number_of(value)
    return number is not None and math.isfinite(number)


def all_positive(config: object, section: str, *names: str) -> None:
    """Check that fields, or all members of tuple fields, are more than 0."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        check(len(numbers) > 0 and all(number > 0 for number in numbers), f"{section}.{name}", value, "more than 0")


def reject_unknown(cls: type, names: Mapping[str, object], what: str) -> None:
    """Raise :class:`ConfigError` if ``names`` has a key that is no field of the dataclass ``cls``."""
    known = [f.name for f in dataclasses.fields(cls)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(f"unknown {what} {', '.join(unknown)}; {cls.__name__} has {', '.join(known)}")


def from_dict(cls: type[ConfigT], data: Mapping[str, Any]) -> ConfigT:
    """Build the config dataclass ``cls`` from plain JSON values, strictly.

    Unknown names and values of another type than the field's raise :class:`ConfigError`.
    """
    check(isinstance(data, Mapping), cls.__name__, data, "an object with its settings")
    reject_unknown(cls, data, "setting")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _field_value(f"{cls.__name__}.{name}", hints[name], value) for name, value in data.items()})


def _chosen(choices: tuple[Any, ...], value: Any) -> Any:
    """The first choice that has all names of ``value``, else the first of all."""
    named = value if isinstance(value, Mapping) else {}
    configs = [choice for choice in choices if dataclasses.is_dataclass(choice)]
    fitting = (c for c in configs if set(named) <= {field.name for field in dataclasses.fields(c)})
    return next(fitting, choices[0])


def _field_value(name: str, hint: Any, value: Any) -> Any:
    """JSON value → field value: mappings become nested configs, lists become tuples."""
    choices = typing.get_args(hint)
    if isinstance(hint, types.UnionType):  # only "X | None", and configs of which a value's names tell the right one
        return None if value is None else _field_value(name, _chosen(choices, value), value)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is Literal:
        check(value in choices, name, value, f"one of {choices}")
    elif typing.get_origin(hint) is tuple:
        check(isinstance(value, list | tuple), name, value, "a list")
        return tuple(_field_value(name, choices[0], item) for item in value)
    elif hint is float:
        check(type(value) in (int, float) and is_finite(value), name, value, "a finite number")
    else:
        check(type(value) is hint, name, value, f"a value of type {hint.__name__}")
    return value
