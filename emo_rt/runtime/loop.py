"""The solver loop on a device: all steps of a clip as one launch where that can be had, else one launch a step.

Two launches of each step graph take turns, so that the state goes to and fro between two sets of buffers, and every
address is fixed: the row of the step is copied from the schedule's tables to where the graph reads it. A copy of some
kilobytes inside the device is nothing beside a step, and it makes the launches the same for every step and schedule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from emo_rt.device.base import Launch, Session
from emo_rt.device.buffers import Arena, Buffer
from emo_rt.device.stream import Lane, Replay
from emo_rt.errors import CaptureError
from emo_rt.model.contract import STEP_STATE
from emo_rt.runtime.step_tables import Schedule

KEPT_REPLAYS = 4
"""Captured loops that are kept: one per schedule; each takes some memory of the device."""

ONE_LAUNCH = "one launch per clip"
"""What :attr:`Loop.description` says where the loop was captured."""

logger = logging.getLogger(__name__)


class Loop:
    """Launches and captured loops over one set of buffers."""

    def __init__(
        self,
        lane: Lane,
        sessions: Mapping[str, Session],
        features: Mapping[str, Mapping[str, Buffer]],
        state: Sequence[Arena],
        row: Mapping[str, Buffer],
    ) -> None:
        """``sessions`` and ``features``: by step graph; ``state``: two sets of buffers for ``latents`` and
        ``x0_history``; ``row``: where a step finds its row."""
        self._lane, self._state, self._row = lane, state, row
        self._launches: list[dict[str, Launch]] = []  # for even and for odd steps
        for here, there in ((state[0], state[1]), (state[1], state[0])):
            moving = {name: here[name] for name in STEP_STATE} | {f"next_{name}": there[name] for name in STEP_STATE}
            bound = {name: session.bind({**features[name], **row, **moving}) for name, session in sessions.items()}
            self._launches.append(bound)
        self._marks = [lane.event() for _ in self._launches]
        self._sessions = sessions
        self._obstacle: str | None = None
        self._replays: dict[int, tuple[Schedule, Replay]] = {}
        self._is_warm = False

    @property
    def is_one_launch(self) -> bool:
        """Whether a clip is one launch: then steps are not seen one by one."""
        return self._why_not() is None

    @property
    def captured(self) -> int:
        """How many schedules are captured."""
        return len(self._replays)

    @property
    def description(self) -> str:
        """How the loop is launched, in words."""
        reason = self._why_not()
        return ONE_LAUNCH if reason is None else f"one launch per step: {reason}"

    def prepare(self, schedule: Schedule) -> None:
        """Warm up, and capture the loop over ``schedule``. Overwrites the state."""
        self._warm_up()
        if self._why_not() is not None:
            return
        kept = self._replays.pop(id(schedule), None)
        try:
            self._replays[id(schedule)] = kept or (schedule, self._captured(schedule))  # the latest used is the last
        except CaptureError as exc:
            self._obstacle = str(exc)
            logger.warning("the solver loop runs step by step: %s", exc)
            return
        while len(self._replays) > KEPT_REPLAYS:
            self._lane.synchronize()  # it may be running
            self._replays.pop(next(iter(self._replays)))[1].close()

    def run(self, schedule: Schedule, after_step: Callable[[int], None]) -> Buffer:
        """Enqueue all steps; gives the latents buffer that holds the result then.

        ``after_step`` gets the index of each step that is done, unless the loop is one launch.
        """
        if schedule.steps and self._why_not() is None:
            if id(schedule) not in self._replays:
                raise CaptureError("the loop was not prepared for this schedule; call prepare first")
            self._replays[id(schedule)][1].run()
        else:
            self._step_by_step(schedule, after_step)
        return self._state[schedule.steps % 2]["latents"]

    def close(self) -> None:
        """Give back what was captured and bound. Nothing of it may be running. Safe twice."""
        for _, replay in self._replays.values():
            replay.close()
        self._replays.clear()
        for launches in self._launches:
            for launch in launches.values():
                launch.close()

    def _why_not(self) -> str | None:
        obstacles = [self._obstacle, *(session.capture_obstacle for session in self._sessions.values())]
        return next(filter(None, obstacles), None)

    def _warm_up(self) -> None:
        """First runs load kernels and take memory, which a capture forbids."""
        if not self._is_warm:
            for launches in self._launches:
                for name, session in self._sessions.items():
                    for _ in range(session.warm_runs):
                        launches[name].run()
            self._lane.synchronize()
            self._is_warm = True

    def _captured(self, schedule: Schedule) -> Replay:
        def all_steps() -> None:
            for step in range(schedule.steps):
                self._enqueue(schedule, step)

        return self._lane.capture(all_steps)

    def _enqueue(self, schedule: Schedule, step: int) -> None:
        self._lane.copy(schedule.coefficients.row(step), self._row["coefficients"])
        self._lane.copy(schedule.time_embeddings.row(step), self._row["time_embedding"])
        self._launches[step % 2][schedule.graphs[step]].run()

    def _step_by_step(self, schedule: Schedule, after_step: Callable[[int], None]) -> None:
        """One step ahead of the device: it never waits, and what is reported is done."""
        for step in range(schedule.steps):
            self._enqueue(schedule, step)
            self._lane.record(self._marks[step % 2])
            if step > 0:
                self._marks[(step - 1) % 2].synchronize()
                after_step(step - 1)
        self._marks[(schedule.steps - 1) % 2].synchronize()
        after_step(schedule.steps - 1)
