"""Schedules: what the steps of a run need, computed once per solver and number of steps."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from emo_rt.device.base import Backend, Session
from emo_rt.device.buffers import Arena, Buffer
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import COEFFICIENTS, TensorSpec
from emo_rt.model.solvers import solver_table

KEPT_SCHEDULES = 8
"""Schedules that are kept for the next run: callers who choose the steps freely must not fill the memory."""


@dataclass(frozen=True)
class Schedule:
    """What a run's steps need, computed once per (solver, steps, graphs)."""

    coefficients: Buffer
    """(steps, 6) float32."""
    time_embeddings: Buffer
    """(steps, 1, width): the projected time embedding of each step."""
    graphs: tuple[str, ...]
    """The step graph of each step: ``step``, or ``step_unguided`` where guidance is off."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.graphs)


class Scheduler:
    """Makes and keeps schedules: runs the ``timestep`` graph once for each step of a solver table. Thread-safe."""

    def __init__(self, backend: Backend, session: Session, config: ModelConfig) -> None:
        self._backend, self._session, self._config = backend, session, config
        self._made: dict[tuple[str, tuple[str, ...]], Schedule] = {}
        self._lock = threading.Lock()

    def schedule(self, solver: str, graphs: tuple[str, ...]) -> Schedule:
        """One step for each of ``graphs``. Raises :class:`ConfigError` for a combination that does not exist."""
        with self._lock:
            schedule = self._made.pop((solver, graphs), None) or self._make(solver, graphs)
            self._made[solver, graphs] = schedule  # the latest used is the last
            while len(self._made) > KEPT_SCHEDULES:
                del self._made[next(iter(self._made))]  # its memory goes when the last run that uses it does
            return schedule

    def _make(self, solver: str, graphs: tuple[str, ...]) -> Schedule:
        steps = len(graphs)
        table = solver_table(self._config.schedule, solver, steps)
        timestep, embedding = self._session.spec.inputs[0], self._session.spec.outputs[0]
        coefficients = self._backend.allocate(TensorSpec("coefficients", "float32", (steps, COEFFICIENTS)))
        coefficients.write(table.coefficients)
        embeddings = self._backend.allocate(TensorSpec(embedding.name, embedding.dtype, (steps, *embedding.shape)))
        lane = self._backend.lane("side")
        with Arena(self._backend, [timestep, embedding]) as one:
            launch, time = self._session.bind(one), lane.upload(one[timestep.name])
            for step in range(steps):
                time.write(table.timesteps[step : step + 1])
                launch.run()
                lane.copy(one[embedding.name], embeddings.row(step))
            lane.synchronize()
            launch.close()
        return Schedule(coefficients, embeddings, graphs)
