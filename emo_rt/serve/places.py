"""The devices of one server, each with its own copy of every model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from emo_rt.animator import Animator


@dataclass(eq=False)
class Place:
    """One device."""

    name: str
    """As metrics and the log call it, like ``cuda:1``; with a number where several have the same name."""
    models: Mapping[str, Animator]
    """By name; the same names on every device."""
    talkers: int = 0
    """Live sessions on it, those that are being opened included."""


class Places:
    """All of them. Thread-safe."""

    def __init__(self, models: Sequence[Mapping[str, Animator]], names: Sequence[str] = ()) -> None:
        """``models``: of each device. ``names``: as the person who started the server calls them."""
        called = names if len(names) == len(models) else [next(iter(one.values())).device for one in models]
        numbered = [
            name if called.count(name) == 1 else f"{name}#{number}" for number, name in enumerate(called, start=1)
        ]
        self._places = [Place(name, one) for name, one in zip(numbered, models, strict=True)]
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def by_load(self) -> list[Place]:
        """The one with the fewest live sessions first."""
        with self._lock:
            return sorted(self._places, key=lambda place: place.talkers)

    def enter(self, place: Place) -> None:
        """One more live session is there, until :meth:`leave`."""
        with self._lock:
            place.talkers += 1

    def leave(self, place: Place) -> None:
        """One less."""
        with self._lock:
            place.talkers -= 1
