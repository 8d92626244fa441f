"""The solver loop of one clip: one launch per step, the state going to and fro between two sets of buffers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from emo_rt.arena import Arena, Buffer
from emo_rt.backends import Backend, Launch, Session
from emo_rt.config import ModelConfig
from emo_rt.graphs import COEFFICIENTS, STEP_STATE, GraphSpec, TensorSpec
from emo_rt.solvers import solver_table

FINAL_BUFFERS = 3
"""Finished latents that exist at once: one is being made, one waits, one is being decoded."""

KEPT_SCHEDULES = 8
"""Schedules that are kept for the next run: callers who choose the steps freely must not fill the memory."""


@dataclass(frozen=True)
class Schedule:
    """What a run's steps need, computed once per (solver, steps)."""

    coefficients: Buffer
    """(steps, 6) float32."""
    time_embeddings: Buffer
    """(steps, 1, width): the projected time embedding of each step."""
    steps: int
    """Number of steps."""


class Scheduler:
    """Makes and keeps schedules: runs the ``timestep`` graph once for each step of a solver table. Thread-safe."""

    def __init__(self, backend: Backend, session: Session, config: ModelConfig) -> None:
        self._backend, self._session, self._config = backend, session, config
        self._made: dict[tuple[str, int], Schedule] = {}
        self._lock = threading.Lock()

    def schedule(self, solver: str, steps: int) -> Schedule:
        """Raises :class:`ConfigError` for a combination that does not exist."""
        with self._lock:
            schedule = self._made.pop((solver, steps), None) or self._make(solver, steps)
            self._made[solver, steps] = schedule  # the latest used is the last
            while len(self._made) > KEPT_SCHEDULES:
                del self._made[next(iter(self._made))]
            return schedule

    def _make(self, solver: str, steps: int) -> Schedule:
        table = solver_table(self._config.schedule, solver, steps)
        timestep, embedding = self._session.spec.inputs[0], self._session.spec.outputs[0]
        coefficients = self._backend.allocate(TensorSpec("coefficients", "float32", (steps, COEFFICIENTS)))
        coefficients.write(table.coefficients)
        timesteps = self._backend.allocate(TensorSpec(timestep.name, timestep.dtype, (steps, *timestep.shape)))
        timesteps.write(table.timesteps[:, None])
        embeddings = self._backend.allocate(TensorSpec(embedding.name, embedding.dtype, (steps, *embedding.shape)))
        for step in range(steps):
            rows = {timestep.name: timesteps.row(step), embedding.name: embeddings.row(step)}
            self._session.bind(rows).run()
        return Schedule(coefficients, embeddings, steps)


class Denoiser:
    """Runs the ``step`` graph over a schedule. One per run: it owns the state buffers."""

    def __init__(self, backend: Backend, spec: GraphSpec) -> None:
        self._state = [Arena(backend, _state_specs(spec)) for _ in range(2)]
        latents = next(tensor for tensor in spec.inputs if tensor.name == "latents")
        finals = [TensorSpec(f"final_latents.{index}", latents.dtype, latents.shape) for index in range(FINAL_BUFFERS)]
        self._scalars = Arena(backend, [TensorSpec("guidance_scale", "float32", (1,))])
        self._outputs = Arena(backend, [next(t for t in spec.outputs if t.name == "prediction"), *finals])
        self.finals: list[Buffer] = [self._outputs[tensor.name] for tensor in finals]
        self.nbytes = sum(arena.nbytes for arena in (*self._state, self._scalars, self._outputs))
        self.prediction = self._outputs["prediction"]

    def bind(self, session: Session, features: Mapping[str, Buffer], schedule: Schedule) -> Launch:
        """Everything that stays the same during a run, bound by name."""
        buffers = {**features, **self._scalars, "prediction": self.prediction}
        return session.bind({**buffers, **_step_buffers(schedule, 0, self._state[0], self._state[1])})

    def run(
        self,
        launch: Launch,
        schedule: Schedule,
        noise: np.ndarray,
        guidance: float,
        final: Buffer,
        after_step: Callable[[int], None],
    ) -> None:
        """All steps of one clip: unit ``noise`` (F, 4, S, S) → ``final``; ``after_step`` gets the step's index."""
        self._scalars["guidance_scale"].write(np.array([guidance], np.float32))
        self._state[0]["latents"].write(noise)
        self._state[0]["x0_history"].write(np.broadcast_to(np.float32(0), self._state[0]["x0_history"].shape))
        for step in range(schedule.steps):
            here, there = self._state[step % 2], self._state[1 - step % 2]
            buffers = _step_buffers(schedule, step, here, there)
            if step == schedule.steps - 1:
                buffers["next_latents"] = final
            for name, buffer in buffers.items():
                launch.rebind(name, buffer)
            launch.run()
            after_step(step)


def _state_specs(spec: GraphSpec) -> list[TensorSpec]:
    return [tensor for tensor in spec.inputs if tensor.name in STEP_STATE]


def _step_buffers(schedule: Schedule, step: int, here: Arena, there: Arena) -> dict[str, Buffer]:
    """What changes from step to step: the rows of the tables, and where the state is read and written."""
    buffers = {
        "coefficients": schedule.coefficients.row(step),
        "time_embedding": schedule.time_embeddings.row(step),
    }
    for name in STEP_STATE:
        buffers[name], buffers[f"next_{name}"] = here[name], there[name]
    return buffers
