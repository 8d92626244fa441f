"""What a clip costs on each rung of a ladder, as it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from emo_rt.device.buffers import Buffers
from emo_rt.runtime.step_tables import StepTable

REMEMBERED = 0.5
"""Weight of the latest clip in what is expected of the next one, where that is less trouble; more counts at once."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One preset, ready to run."""

    name: str
    """The preset."""
    table: StepTable
    """Its steps."""
    guidance: float
    """Its guidance scale."""
    features: Buffers
    """The portrait's, as its variant of the weights projects them."""

    @property
    def key(self) -> tuple[str, ...]:
        """The graph of each step: two rungs with the same key cost the same."""
        return self.table.graphs


class Beside(NamedTuple):
    """What other live sessions of the device do."""

    load: float
    """Share of the device that they need."""
    clips_s: float
    """Seconds of one clip of each: so long it takes until all have been served that are due at the same time."""


class Costs:
    """Seconds per clip of each rung of one model, measured since it was loaded."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], float] = {}
        self.behind_s = 0.0
        """Of a clip's seconds, those that its first frame need not wait for, because pictures come in parts; as
        measured before the first session began."""

    def note(self, rung: Rung, seconds: float) -> None:
        """One more clip: the least is what it costs, the rest is the load of the moment."""
        self._seconds[rung.key] = min(seconds, self._seconds.get(rung.key, seconds))

    def __contains__(self, rung: Rung) -> bool:
        return rung.key in self._seconds

    def of(self, rung: Rung) -> float:
        """Measured, or by the number of steps from what was measured; 0 where nothing was."""
        if rung.key in self._seconds or not self._seconds:
            return self._seconds.get(rung.key, 0.0)
        return max(seconds * rung.table.steps / len(key) for key, seconds in self._seconds.items())


def follow(before: float, now: float) -> float:
    """What is expected of the next clip: what is more counts at once, what is less bit by bit."""
    return max(now, before + REMEMBERED * (now - before))
