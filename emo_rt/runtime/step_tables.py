"""Step tables: what the steps of a run need, computed once per solver and number of steps."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import COEFFICIENTS, Array, TensorSpec
from emo_rt.model.solvers import noise_levels, solver_table

KEPT_TABLES = 8
"""Step tables that are kept for the next run: callers who choose the steps freely must not fill the memory."""


@dataclass(frozen=True)
class StepTable:
    """What a run's steps need, computed once per (solver, steps, graphs)."""

    coefficients: Buffer
    """(steps, 6) float32."""
    time_embeddings: Buffer
    """(steps, 1, width): the projected time embedding of each step."""
    graphs: tuple[str, ...]
    """The step graph of each step: ``step``, or ``step_unguided`` where guidance is off."""
    levels: Array = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """(steps, 2) float32 on the host: shares of signal and noise in front of each step, see
    :func:`emo_rt.model.solvers.noise_levels`."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.graphs)

    def close(self) -> None:
        """Give the buffers back. No run may use them any more. Safe twice."""
        self.coefficients.close()
        self.time_embeddings.close()


class StepTables:
    """Makes and keeps step tables: runs the ``timestep`` graph once for each step of a solver table. Thread-safe."""

    def __init__(self, backend: Backend, graph: Graph, config: ModelConfig) -> None:
        self._backend, self._graph, self._config = backend, graph, config
        self._made: dict[tuple[str, tuple[str, ...]], StepTable] = {}
        self._lock = threading.Lock()

    def step_table(self, solver: str, graphs: tuple[str, ...]) -> StepTable:
        """One step for each of ``graphs``. Raises :class:`ConfigError` for a combination that does not exist."""
        with self._lock:
            table = self._made.pop((solver, graphs), None) or self._make(solver, graphs)
            self._made[solver, graphs] = table  # the least recently used comes first
            while len(self._made) > KEPT_TABLES:
                del self._made[next(iter(self._made))]  # its memory goes when the last run that uses it does
            return table

    def close(self) -> None:
        """Give all tables back. No run may use them any more. Safe twice."""
        with self._lock:
            made, self._made = self._made, {}
        for table in made.values():
            table.close()

    def _make(self, solver: str, graphs: tuple[str, ...]) -> StepTable:
        steps = len(graphs)
        rows = solver_table(self._config.schedule, solver, steps)
        timestep, embedding = self._graph.spec.inputs[0], self._graph.spec.outputs[0]
        coefficients = self._backend.allocate(TensorSpec("coefficients", "float32", (steps, COEFFICIENTS)))
        coefficients.write(rows.coefficients)
        embeddings = self._backend.allocate(TensorSpec(embedding.name, embedding.dtype, (steps, *embedding.shape)))
        stream = self._backend.stream("side")
        with Buffers(self._backend, [timestep, embedding]) as one:
            bound, time = self._graph.bind(one), stream.upload(one[timestep.name])
            for step in range(steps):
                time.write(rows.timesteps[step : step + 1])
                bound.run()
                stream.copy(one[embedding.name], embeddings.row(step))
            stream.synchronize()
            bound.close()
        return StepTable(coefficients, embeddings, graphs, noise_levels(self._config.schedule, rows))
