"""What the two ways to launch the solver loop have in common: see the modules that implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from emo_rt.device.buffers import Buffer
from emo_rt.model.contract import STEP_STATE
from emo_rt.runtime.step_tables import StepTable


class Loop(ABC):
    """Bound step graphs over two sets of state buffers."""

    latents: Buffer
    """What the next step will read; the result after the last."""
    nbytes: int = 0
    """Memory of buffers of its own."""

    @property
    @abstractmethod
    def description(self) -> str:
        """How the loop is launched, in words."""

    @property
    def captured(self) -> int:
        """How many captured graphs there are."""
        return 0

    @abstractmethod
    def rebind(self, features: Mapping[str, Buffer]) -> None:
        """Put other buffers in the place of what does not change from step to step."""

    @abstractmethod
    def prepare(self, table: StepTable) -> None:
        """Get ready for a step table. Overwrites the state."""

    @abstractmethod
    def slices(self, table: StepTable, final: Buffer) -> Iterator[int]:
        """Run or enqueue all steps slice by slice; gives the number of steps so far. The result goes to ``final``."""

    @abstractmethod
    def close(self) -> None:
        """Give back what was captured and bound. Nothing of it may be running. Safe twice."""


def moving(here: Mapping[str, Buffer], there: Mapping[str, Buffer]) -> dict[str, Buffer]:
    """The state that a step reads ``here`` and writes ``there``, by the names of the graph's tensors."""
    return {name: here[name] for name in STEP_STATE} | {f"next_{name}": there[name] for name in STEP_STATE}
