"""The solver loop on the CPU: each step is one launch, bound anew to the step's rows and buffers, without any copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from emo_rt.device.base import BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.runtime.loop import Loop, moving
from emo_rt.runtime.step_tables import StepTable


class ReboundLoop(Loop):
    """A slice is one step."""

    description = "one launch per step: the CPU runs each when it is called"

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        features: Mapping[str, Mapping[str, Buffer]],
        state: Sequence[Buffers],
        table: StepTable,
    ) -> None:
        """``graphs`` and ``features``: by step graph; ``state``: two sets of buffers; ``table``: any, to begin with."""
        self._state, self.latents = state, state[0]["latents"]
        first = self._buffers(table, 0)
        self._bound: dict[str, BoundGraph] = {
            name: graph.bind({**features[name], **first}) for name, graph in graphs.items()
        }
        self._inputs = {name: {tensor.name for tensor in graph.spec.inputs} for name, graph in graphs.items()}

    def rebind(self, features: Mapping[str, Buffer]) -> None:
        for graph, bound in self._bound.items():
            for name in self._inputs[graph] & features.keys():
                bound.rebind(name, features[name])

    def prepare(self, table: StepTable) -> None:
        pass

    def slices(self, table: StepTable, final: Buffer) -> Iterator[int]:
        self.latents = self._state[0]["latents"]
        for step, graph in enumerate(table.graphs):
            bound, buffers = self._bound[graph], self._buffers(table, step)
            if step == table.steps - 1:
                buffers["next_latents"] = final
            for name, buffer in buffers.items():
                bound.rebind(name, buffer)
            bound.run()
            self.latents = buffers["next_latents"]
            yield step + 1

    def close(self) -> None:
        for bound in self._bound.values():
            bound.close()

    def _buffers(self, table: StepTable, step: int) -> dict[str, Buffer]:
        """What changes from step to step: the rows of the table, and where the state is read and written."""
        rows = {"coefficients": table.coefficients.row(step), "time_embedding": table.time_embeddings.row(step)}
        return {**rows, **moving(self._state[step % 2], self._state[1 - step % 2])}
