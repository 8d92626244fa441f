"""The solver loop of one clip: the state goes to and fro between two sets of buffers.

On the CPU each step is one launch that is bound anew to the step's rows and buffers, without any copy; on a GPU the
addresses are fixed and the whole loop is one launch: :mod:`emo_rt.runtime.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import STEP_STATE, GraphSpec, TensorSpec
from emo_rt.runtime.loop import Loop
from emo_rt.runtime.step_tables import StepTable

FINAL_BUFFERS = 3
"""Finished latents that exist at once: one is being made, one waits, one is being decoded."""

ROW = ("coefficients", "time_embedding")
"""What a step takes from its row of the tables."""


class Denoiser:
    """Runs the step graphs over a step table. It owns the state buffers, so it serves one run at a time."""

    def __init__(self, backend: Backend, specs: Sequence[GraphSpec]) -> None:
        """``specs``: of the step graphs that step tables will name; their state and rows are the same."""
        stream, spec = backend.stream("denoise"), specs[0]
        self._stream = stream
        self._state = [Buffers(backend, _inputs(spec, STEP_STATE)) for _ in range(2)]
        latents = next(tensor for tensor in spec.inputs if tensor.name == "latents")
        finals = [TensorSpec(f"final_latents.{index}", latents.dtype, latents.shape) for index in range(FINAL_BUFFERS)]
        self._scalars = Buffers(backend, [TensorSpec("guidance_scale", "float32", (1,))])
        self._row = Buffers(backend, _inputs(spec, ROW) if stream.is_deferred else [])
        self._predictions = {one.name: Buffers(backend, _outputs(one, "prediction")) for one in specs}
        deep = {tensor.name: tensor for one in specs for tensor in _outputs(one, "deep_features")}
        self._deep = Buffers(backend, list(deep.values()))
        self._outputs = Buffers(backend, finals)
        self.finals: list[Buffer] = [self._outputs[tensor.name] for tensor in finals]
        self._guidance = stream.upload(self._scalars["guidance_scale"])
        self._noise = stream.upload(self._state[0]["latents"])
        self._bound: dict[str, BoundGraph] = {}
        self._loop: Loop | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(buffers.nbytes for buffers in self._all_buffers())

    @property
    def is_one_launch(self) -> bool:
        """Whether a clip is one launch: then its steps are not seen one by one."""
        return self._loop is not None and self._loop.is_one_launch

    @property
    def captured_loops(self) -> int:
        """How many step tables are there as one launch."""
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

    def bind(self, graphs: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable) -> None:
        """Everything that stays the same during a run, bound by name; on a GPU the loop is captured now."""
        shared = {**features, **self._scalars, **self._deep}
        buffers = {name: {**shared, **self._predictions[name]} for name in graphs}
        if self._stream.is_deferred:
            self._loop = Loop(self._stream, graphs, buffers, self._state, self._row)
            self._loop.prepare(table)
            return
        state = _step_buffers(table, 0, self._state[0], self._state[1])
        self._bound = {name: graph.bind({**buffers[name], **state}) for name, graph in graphs.items()}

    def prepare(self, table: StepTable) -> None:
        """Capture the loop over another step table, where loops are captured."""
        if self._loop is not None:
            self._loop.prepare(table)

    def run(
        self,
        table: StepTable,
        noise: np.ndarray,
        guidance: float,
        final: Buffer,
        after_step: Callable[[int], None],
    ) -> None:
        """All steps of one clip: unit ``noise`` (F, 4, S, S) → ``final``, enqueued in the stream ``denoise``.

        ``after_step`` gets the index of each step that is done; not if :attr:`is_one_launch`.
        """
        self._guidance.write(np.array([guidance], np.float32))
        self._noise.write(noise)
        self._stream.clear(self._state[0]["x0_history"])
        if self._loop is None:
            self._rebinding(table, final, after_step)
        else:
            self._stream.copy(self._loop.run(table, after_step), final)

    def close(self) -> None:
        """Give back buffers and captured loops. Nothing of it may be running. Safe twice."""
        if self._loop is not None:
            self._loop.close()
        for bound in self._bound.values():
            bound.close()
        for buffers in self._all_buffers():
            buffers.close()

    def _rebinding(self, table: StepTable, final: Buffer, after_step: Callable[[int], None]) -> None:
        for step, graph in enumerate(table.graphs):
            bound = self._bound[graph]
            here, there = self._state[step % 2], self._state[1 - step % 2]
            buffers = _step_buffers(table, step, here, there)
            if step == table.steps - 1:
                buffers["next_latents"] = final
            for name, buffer in buffers.items():
                bound.rebind(name, buffer)
            bound.run()
            after_step(step)

    def _all_buffers(self) -> list[Buffers]:
        return [*self._state, self._scalars, self._row, *self._predictions.values(), self._deep, self._outputs]


def _inputs(spec: GraphSpec, names: tuple[str, ...]) -> list[TensorSpec]:
    return [tensor for tensor in spec.inputs if tensor.name in names]


def _outputs(spec: GraphSpec, name: str) -> list[TensorSpec]:
    return [tensor for tensor in spec.outputs if tensor.name.startswith(name)]


def _step_buffers(table: StepTable, step: int, here: Buffers, there: Buffers) -> dict[str, Buffer]:
    """What changes from step to step: the rows of the tables, and where the state is read and written."""
    buffers = {
        "coefficients": table.coefficients.row(step),
        "time_embedding": table.time_embeddings.row(step),
    }
    for name in STEP_STATE:
        buffers[name], buffers[f"next_{name}"] = here[name], there[name]
    return buffers
