"""How many live sessions a device holds: as many as keep up on the last rung of their ladders, and fit into memory."""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakKeyDictionary

from emo_rt.errors import OverloadedError
from emo_rt.runtime.live.costs import Beside, Costs
from emo_rt.runtime.loaded_model import LoadedModel

FULL = 0.9
"""Share of the device that all live sessions together may need."""


class Admitted(Protocol):
    """A live session, as far as it is counted."""

    @property
    def least_load(self) -> float:
        """Share of the device that it needs on its last rung, as measured lately."""
        ...

    @property
    def load(self) -> float:
        """Share of the device that it needs on its present rung."""
        ...

    @property
    def clip_seconds(self) -> float:
        """What a clip takes on its present rung."""
        ...

    @property
    def most_bytes(self) -> int:
        """Memory that it may need."""
        ...


class Admission:
    """Counts the live sessions of one device, whatever their models. Thread-safe."""

    def __init__(self, most_bytes: int | None) -> None:
        """``most_bytes``: memory that all live sessions together may need; ``None`` = no limit."""
        self._most_bytes = most_bytes
        self._admitted = list[Admitted]()
        self._costs: WeakKeyDictionary[LoadedModel, Costs] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def costs(self, model: LoadedModel) -> Costs:
        """What is known of a model's speed on this device."""
        with self._lock:
            return self._costs.setdefault(model, Costs())

    @property
    def load(self) -> float:
        """Share of the device that the admitted sessions need on their last rungs."""
        with self._lock:
            return sum(session.least_load for session in self._admitted)

    def beside(self, session: Admitted) -> Beside:
        """What the others do."""
        with self._lock:
            others = [one for one in self._admitted if one is not session]
        return Beside(sum(one.load for one in others), sum(one.clip_seconds for one in others))

    def enter(self, session: Admitted) -> None:
        """One more. The first is always admitted: if it is too slow, it lags as it was told to.

        Raises :class:`OverloadedError` where all would be late, or memory would not do.
        """
        with self._lock:
            others = len(self._admitted)
            load = session.least_load + sum(one.least_load for one in self._admitted)
            if others and load > FULL:
                raise OverloadedError(
                    f"another live session would make all late: {others} are open, and with it the device would be "
                    f"busy for {load:.0%} of the time on the cheapest presets; at most {FULL:.0%} is admitted. Close "
                    "one, or use another device"
                )
            needed = session.most_bytes + sum(one.most_bytes for one in self._admitted)
            if self._most_bytes is not None and needed > self._most_bytes:
                raise OverloadedError(
                    f"another live session would need more memory than live_bytes allows: {needed:,} bytes with the "
                    f"{others} that are open; at most {self._most_bytes:,}"
                )
            self._admitted.append(session)

    def leave(self, session: Admitted) -> None:
        """It was closed. Safe twice."""
        with self._lock:
            if session in self._admitted:
                self._admitted.remove(session)
