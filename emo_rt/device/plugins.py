"""Backends of other packages, found by their entry points. A broken one is told of, and disturbs nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from emo_rt.device.device_name import KINDS
from emo_rt.device.entry import BackendEntry

GROUP = "emo_rt.backends"
"""Group of the entry points."""


@dataclass(frozen=True)
class Plugin:
    """One entry point, loaded if that went well."""

    name: str
    """Name of the entry point: of the backend."""
    source: str
    """Distribution that has it, with version."""
    entry: BackendEntry | None
    """What it leads to."""
    problem: str | None
    """Why it cannot be used."""


def plugin_names() -> tuple[str, ...]:
    """Names of the entry points; nothing is imported."""
    return tuple(sorted({point.name for point in _points()}))


@cache
def plugins(taken: Collection[str] = ()) -> tuple[Plugin, ...]:
    """All of them, loaded, in the order of their names. ``taken``: names that they may not have."""
    names = set(taken)
    found = []
    for point in sorted(_points(), key=lambda point: point.name):
        found.append(_loaded(point, point.name in names))
        names.add(point.name)
    return tuple(found)


@cache
def _points() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=GROUP))


def _loaded(point: metadata.EntryPoint, is_taken: bool) -> Plugin:
    source = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    if is_taken:
        return Plugin(point.name, source, None, "another backend has this name")
    try:
        entry = point.load()
        entry = entry() if isinstance(entry, type) else entry
        problem = _problem(entry, point.name)
    except Exception as exc:  # noqa: BLE001 - whatever others' code raises, it is not our end
        return Plugin(point.name, source, None, f"{point.value} cannot be loaded: {type(exc).__name__}: {exc}")
    return Plugin(point.name, source, None if problem else entry, problem)


def _problem(entry: object, name: str) -> str | None:
    """What of :class:`BackendEntry` it lacks."""
    said, device = getattr(entry, "NAME", None), getattr(entry, "DEVICE", None)
    if said != name:
        return f"its NAME is {said!r}, and its entry point is called {name!r}"
    if device not in KINDS:
        return f"its DEVICE is {device!r}; expected one of {', '.join(KINDS)}"
    absent = [method for method in ("auto", "open") if not callable(getattr(entry, method, None))]
    return f"it has no function {' and no function '.join(absent)}" if absent else None
