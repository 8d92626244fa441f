"""The solver loop of one clip: the state goes to and fro between two sets of buffers.

On the CPU each step is one launch that is bound anew to the step's rows and buffers, without any copy; on a GPU the
addresses are fixed and the whole loop is one launch: :mod:`emo_rt.runtime.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emo_rt.device.base import Backend, Launch, Session
from emo_rt.device.buffers import Arena, Buffer
from emo_rt.model.contract import STEP_STATE, GraphSpec, TensorSpec
from emo_rt.runtime.loop import Loop
from emo_rt.runtime.step_tables import Schedule

FINAL_BUFFERS = 3
"""Finished latents that exist at once: one is being made, one waits, one is being decoded."""

ROW = ("coefficients", "time_embedding")
"""What a step takes from its row of the schedule."""


class Denoiser:
    """Runs the step graphs over a schedule. It owns the state buffers, so it serves one run at a time."""

    def __init__(self, backend: Backend, specs: Sequence[GraphSpec]) -> None:
        """``specs``: of the step graphs that schedules will name; their state and rows are the same."""
        lane, spec = backend.lane("denoise"), specs[0]
        self._lane = lane
        self._state = [Arena(backend, _inputs(spec, STEP_STATE)) for _ in range(2)]
        latents = next(tensor for tensor in spec.inputs if tensor.name == "latents")
        finals = [TensorSpec(f"final_latents.{index}", latents.dtype, latents.shape) for index in range(FINAL_BUFFERS)]
        self._scalars = Arena(backend, [TensorSpec("guidance_scale", "float32", (1,))])
        self._row = Arena(backend, _inputs(spec, ROW) if lane.is_deferred else [])
        self._predictions = {one.name: Arena(backend, _outputs(one, "prediction")) for one in specs}
        deep = {tensor.name: tensor for one in specs for tensor in _outputs(one, "deep_features")}
        self._deep = Arena(backend, list(deep.values()))
        self._outputs = Arena(backend, finals)
        self.finals: list[Buffer] = [self._outputs[tensor.name] for tensor in finals]
        self._guidance = lane.upload(self._scalars["guidance_scale"])
        self._noise = lane.upload(self._state[0]["latents"])
        self._launches: dict[str, Launch] = {}
        self._loop: Loop | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(arena.nbytes for arena in self._arenas())

    @property
    def is_one_launch(self) -> bool:
        """Whether a clip is one launch: then its steps are not seen one by one."""
        return self._loop is not None and self._loop.is_one_launch

    @property
    def captured_loops(self) -> int:
        """How many schedules are there as one launch."""
        return 0 if self._loop is None else self._loop.captured

    @property
    def description(self) -> str:
        """How the loop is launched, in words."""
        return (
            "one launch per step: the CPU runs each when it is called" if self._loop is None else self._loop.description
        )

    def prediction(self, graph: str) -> Buffer:
        """(halves, F, 4, S, S): what the network predicted in the last step of this graph, unconditional half first."""
        return self._predictions[graph]["prediction"]

    def bind(self, sessions: Mapping[str, Session], features: Mapping[str, Buffer], schedule: Schedule) -> None:
        """Everything that stays the same during a run, bound by name; on a GPU the loop is captured now."""
        shared = {**features, **self._scalars, **self._deep}
        bound = {name: {**shared, **self._predictions[name]} for name in sessions}
        if self._lane.is_deferred:
            self._loop = Loop(self._lane, sessions, bound, self._state, self._row)
            self._loop.prepare(schedule)
            return
        state = _step_buffers(schedule, 0, self._state[0], self._state[1])
        self._launches = {name: session.bind({**bound[name], **state}) for name, session in sessions.items()}

    def prepare(self, schedule: Schedule) -> None:
        """Capture the loop over another schedule, where loops are captured."""
        if self._loop is not None:
            self._loop.prepare(schedule)

    def run(
        self,
        schedule: Schedule,
        noise: np.ndarray,
        guidance: float,
        final: Buffer,
        after_step: Callable[[int], None],
    ) -> None:
        """All steps of one clip: unit ``noise`` (F, 4, S, S) → ``final``, enqueued in the lane ``denoise``.

        ``after_step`` gets the index of each step that is done; not if :attr:`is_one_launch`.
        """
        self._guidance.write(np.array([guidance], np.float32))
        self._noise.write(noise)
        self._lane.clear(self._state[0]["x0_history"])
        if self._loop is None:
            self._rebinding(schedule, final, after_step)
        else:
            self._lane.copy(self._loop.run(schedule, after_step), final)

    def close(self) -> None:
        """Give back buffers and captured loops. Nothing of it may be running. Safe twice."""
        if self._loop is not None:
            self._loop.close()
        for launch in self._launches.values():
            launch.close()
        for arena in self._arenas():
            arena.close()

    def _rebinding(self, schedule: Schedule, final: Buffer, after_step: Callable[[int], None]) -> None:
        for step, graph in enumerate(schedule.graphs):
            launch = self._launches[graph]
            here, there = self._state[step % 2], self._state[1 - step % 2]
            buffers = _step_buffers(schedule, step, here, there)
            if step == schedule.steps - 1:
                buffers["next_latents"] = final
            for name, buffer in buffers.items():
                launch.rebind(name, buffer)
            launch.run()
            after_step(step)

    def _arenas(self) -> list[Arena]:
        return [*self._state, self._scalars, self._row, *self._predictions.values(), self._deep, self._outputs]


def _inputs(spec: GraphSpec, names: tuple[str, ...]) -> list[TensorSpec]:
    return [tensor for tensor in spec.inputs if tensor.name in names]


def _outputs(spec: GraphSpec, name: str) -> list[TensorSpec]:
    return [tensor for tensor in spec.outputs if tensor.name.startswith(name)]


def _step_buffers(schedule: Schedule, step: int, here: Arena, there: Arena) -> dict[str, Buffer]:
    """What changes from step to step: the rows of the tables, and where the state is read and written."""
    buffers = {
        "coefficients": schedule.coefficients.row(step),
        "time_embedding": schedule.time_embeddings.row(step),
    }
    for name in STEP_STATE:
        buffers[name], buffers[f"next_{name}"] = here[name], there[name]
    return buffers
