"""Many bundles, of which a replica keeps a few loaded: what Ray Serve calls multiplexing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Bundles(Mapping[str, T]):
    """Models by name. Asking for one loads it; iterating shows those that are loaded, the first of all in front.

    The first one stays. Of the others, the least recently used goes where there are too many: it is dropped, not
    closed, so that whoever uses it ends in peace. Thread-safe.
    """

    def __init__(self, paths: Mapping[str, str], most: int, load: Callable[[str], T]) -> None:
        """``paths``: by name, at least one. ``most``: loaded at a time, 1 or more. Loads the first one."""
        self._paths, self._most, self._load = dict(paths), most, load
        self._first = next(iter(paths))
        self._lock = threading.RLock()
        self._loaded: OrderedDict[str, T] = OrderedDict({self._first: load(self._paths[self._first])})

    def __getitem__(self, name: str) -> T:
        with self._lock:  # a second caller waits for the same model
            if name not in self._loaded:
                self._loaded[name] = self._load(self._paths[name])
                self._drop_unused()
            elif name != self._first:
                self._loaded.move_to_end(name)
            return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._loaded))

    def __len__(self) -> int:
        return len(self._loaded)

    def _drop_unused(self) -> None:
        others = [name for name in self._loaded if name != self._first]
        for name in others[: max(0, len(self._loaded) - max(self._most, 2))]:
            del self._loaded[name]
