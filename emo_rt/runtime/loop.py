"""The solver loop on a device: all steps of a clip as one launch where that can be had, else one launch a step.

Each step graph is bound twice, and the two take turns, so that the state goes to and fro between two sets of buffers,
and every address is fixed: the row of the step is copied from the step table to where the graph reads it. A copy of
some kilobytes inside the device is nothing beside a step, and it makes the launches the same for every step and table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from emo_rt.device.base import BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.stream import CapturedGraph, Stream
from emo_rt.errors import CaptureError
from emo_rt.model.contract import STEP_STATE
from emo_rt.runtime.step_tables import StepTable

KEPT_LOOPS = 4
"""Captured loops that are kept: one per step table; each takes some memory of the device."""

ONE_LAUNCH = "one launch per clip"
"""What :attr:`Loop.description` says where the loop was captured."""

logger = logging.getLogger(__name__)


class Loop:
    """Bound graphs and captured loops over one set of buffers."""

    def __init__(
        self,
        stream: Stream,
        graphs: Mapping[str, Graph],
        features: Mapping[str, Mapping[str, Buffer]],
        state: Sequence[Buffers],
        row: Mapping[str, Buffer],
    ) -> None:
        """``graphs`` and ``features``: by step graph; ``state``: two sets of buffers for ``latents`` and
        ``x0_history``; ``row``: where a step finds its row."""
        self._stream, self._state, self._row = stream, state, row
        self._bound: list[dict[str, BoundGraph]] = []  # for even and for odd steps
        for here, there in ((state[0], state[1]), (state[1], state[0])):
            moving = {name: here[name] for name in STEP_STATE} | {f"next_{name}": there[name] for name in STEP_STATE}
            self._bound.append(
                {name: graph.bind({**features[name], **row, **moving}) for name, graph in graphs.items()}
            )
        self._marks = [stream.event() for _ in self._bound]
        self._graphs = graphs
        self._obstacle: str | None = None
        self._loops: dict[int, tuple[StepTable, CapturedGraph]] = {}
        self._is_warm = False

    @property
    def is_one_launch(self) -> bool:
        """Whether a clip is one launch: then steps are not seen one by one."""
        return self._why_not() is None

    @property
    def captured(self) -> int:
        """How many step tables are captured."""
        return len(self._loops)

    @property
    def description(self) -> str:
        """How the loop is launched, in words."""
        reason = self._why_not()
        return ONE_LAUNCH if reason is None else f"one launch per step: {reason}"

    def prepare(self, table: StepTable) -> None:
        """Warm up, and capture the loop over ``table``. Overwrites the state."""
        self._warm_up()
        if self._why_not() is not None:
            return
        kept = self._loops.pop(id(table), None)
        try:
            self._loops[id(table)] = kept or (table, self._captured(table))  # the least recently used comes first
        except CaptureError as exc:
            self._obstacle = str(exc)
            logger.warning("the solver loop runs step by step: %s", exc)
            return
        while len(self._loops) > KEPT_LOOPS:
            self._stream.synchronize()  # it may be running
            self._loops.pop(next(iter(self._loops)))[1].close()

    def run(self, table: StepTable, after_step: Callable[[int], None]) -> Buffer:
        """Enqueue all steps; gives the latents buffer that holds the result then.

        ``after_step`` gets the index of each step that is done, unless the loop is one launch.
        """
        if table.steps and self._why_not() is None:
            if id(table) not in self._loops:
                raise CaptureError("the loop was not prepared for this step table; call prepare first")
            self._loops[id(table)][1].run()
        else:
            self._step_by_step(table, after_step)
        return self._state[table.steps % 2]["latents"]

    def close(self) -> None:
        """Give back what was captured and bound. Nothing of it may be running. Safe twice."""
        for _, loop in self._loops.values():
            loop.close()
        self._loops.clear()
        for turn in self._bound:
            for bound in turn.values():
                bound.close()

    def _why_not(self) -> str | None:
        obstacles = [self._obstacle, *(graph.capture_obstacle for graph in self._graphs.values())]
        return next(filter(None, obstacles), None)

    def _warm_up(self) -> None:
        """First runs load kernels and take memory, which a capture forbids."""
        if not self._is_warm:
            for turn in self._bound:
                for name, graph in self._graphs.items():
                    for _ in range(graph.warm_runs):
                        turn[name].run()
            self._stream.synchronize()
            self._is_warm = True

    def _captured(self, table: StepTable) -> CapturedGraph:
        def all_steps() -> None:
            for step in range(table.steps):
                self._enqueue(table, step)

        return self._stream.capture(all_steps)

    def _enqueue(self, table: StepTable, step: int) -> None:
        self._stream.copy(table.coefficients.row(step), self._row["coefficients"])
        self._stream.copy(table.time_embeddings.row(step), self._row["time_embedding"])
        self._bound[step % 2][table.graphs[step]].run()

    def _step_by_step(self, table: StepTable, after_step: Callable[[int], None]) -> None:
        """One step ahead of the device: it never waits, and what is reported is done."""
        for step in range(table.steps):
            self._enqueue(table, step)
            self._stream.record(self._marks[step % 2])
            if step > 0:
                self._marks[(step - 1) % 2].synchronize()
                after_step(step - 1)
        self._marks[(table.steps - 1) % 2].synchronize()
        after_step(table.steps - 1)
