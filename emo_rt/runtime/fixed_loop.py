"""The solver loop on a GPU: slices of whole captured graphs where that can be had, else one launch a step.

Each step graph is bound twice, and the two take turns, so that every address is fixed. A slice is as many steps as fit
into :attr:`emo_rt.device.base.Backend.slice_s` of device time: the whole loop of a small model, two steps of a
full-size one. In front of a slice its rows of the step table are copied to where the captured steps expect them. So one
captured graph serves every slice with the same sequence of step graphs, of every step table: a full-size loop of twenty
slices takes one graph of two steps, not twenty.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.stream import CapturedGraph
from emo_rt.errors import CaptureError
from emo_rt.model.contract import GraphSpec, TensorSpec
from emo_rt.runtime.loop import Loop, moving
from emo_rt.runtime.step_tables import StepTable

KEPT_GRAPHS = 16
"""Captured graphs that are kept beside those of the present step table; each takes some memory of the device."""
LONGEST_SLICE = 1000
"""Steps of a slice where steps take no time."""
ONE_LAUNCH = "one launch per clip"
"""What :attr:`FixedLoop.description` says where the whole loop is one slice."""

Key = tuple[int, tuple[str, ...]]
"""What tells captured graphs apart: whether the first step is even (0) or odd (1), and the step graphs."""

logger = logging.getLogger(__name__)


class FixedLoop(Loop):
    """Bound graphs and captured graphs over one set of buffers."""

    def __init__(
        self,
        backend: Backend,
        graphs: Mapping[str, Graph],
        features: Mapping[str, Mapping[str, Buffer]],
        state: Sequence[Buffers],
        spec: GraphSpec,
    ) -> None:
        """``graphs`` and ``features``: by step graph; ``state``: two sets of buffers; ``spec``: of any step graph."""
        self._backend, self._graphs, self._state = backend, graphs, state
        self._stream, self.latents = backend.stream("denoise"), state[0]["latents"]
        self._row_specs = [tensor for tensor in spec.inputs if tensor.name in ("coefficients", "time_embedding")]
        self._row = Buffers(backend, self._row_specs)
        self._rows: Buffers | None = None
        """Rows of one slice, for captured steps."""
        self._bound: list[dict[str, BoundGraph]] = []  # for even and for odd steps
        for here, there in ((state[0], state[1]), (state[1], state[0])):
            around = {**self._row, **moving(here, there)}
            self._bound.append({name: graph.bind({**features[name], **around}) for name, graph in graphs.items()})
        self._failure: str | None = None
        """Why a capture has failed, once one has."""
        self._is_warm = False
        self._slice_steps = 0
        """Steps of a slice; 0 = not measured yet."""
        self._launches = 0
        self._captured: dict[Key, CapturedGraph] = {}

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        return self._row.nbytes + (0 if self._rows is None else self._rows.nbytes)

    @property
    def captured(self) -> int:
        return len(self._captured)

    @property
    def description(self) -> str:
        reason = self._why_not()
        if reason is not None:
            return f"one launch per step: {reason}"
        if self._launches == 1:
            return ONE_LAUNCH
        return f"{self._launches} launches per clip, up to {self._slice_steps} steps"

    def rebind(self, features: Mapping[str, Buffer]) -> None:
        raise NotImplementedError("addresses are fixed on a GPU; copy the features to where they are bound")

    def prepare(self, table: StepTable) -> None:
        """Warm up, measure a step, and capture what the loop over ``table`` needs."""
        self._warm_up()
        if self._why_not() is not None:
            return
        if self._slice_steps == 0:
            self._slice_steps = self._measured()
        parts = self._parts(table)
        self._launches = len(parts)
        self._make_rows(max(last - first for first, last in parts))
        try:
            for first, last in parts:
                key = _key(table, first, last)  # the least recently used comes first
                self._captured[key] = self._captured.pop(key) if key in self._captured else self._capture(key)
        except CaptureError as exc:
            self._failure = str(exc)
            logger.warning("the solver loop runs step by step: %s", exc)
            return
        self._forget(KEPT_GRAPHS + len({_key(table, *part) for part in parts}))

    def slices(self, table: StepTable, final: Buffer) -> Iterator[int]:
        self.latents = self._state[0]["latents"]
        is_captured = self._why_not() is None
        for first, last in self._parts(table):
            if is_captured:
                self._launch(table, first, last)
            else:
                self._enqueue(
                    table.coefficients.row(first), table.time_embeddings.row(first), first % 2, table.graphs[first]
                )
            self.latents = self._state[last % 2]["latents"]
            if last == table.steps:
                self._stream.copy(self.latents, final)
            yield last

    def close(self) -> None:
        self._forget(0)
        for turn in self._bound:
            for bound in turn.values():
                bound.close()
        self._row.close()
        if self._rows is not None:
            self._rows.close()

    def _parts(self, table: StepTable) -> list[tuple[int, int]]:
        """First and last step of each slice, the last not in it."""
        size = 1 if self._why_not() is not None else self._slice_steps
        return [(first, min(first + size, table.steps)) for first in range(0, table.steps, size)]

    def _why_not(self) -> str | None:
        """Why nothing is captured."""
        obstacles = [self._failure, *(graph.capture_obstacle for graph in self._graphs.values())]
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

    def _measured(self) -> int:
        """Steps of a slice, by the slowest graph."""
        timer, seconds = self._stream.timer(), 1e-9
        for bound in self._bound[0].values():
            with timer:
                bound.run()
            self._stream.synchronize()
            seconds = max(seconds, timer.read()[1])
        timer.close()
        steps = int(min(self._backend.slice_s / seconds, LONGEST_SLICE))
        return max(steps - steps % 2, 1)  # even: then all slices begin with the same set of buffers

    def _make_rows(self, steps: int) -> None:
        if self._rows is not None and self._rows["coefficients"].shape[0] >= steps:
            return
        self._forget(0)  # captured graphs know the addresses
        if self._rows is not None:
            self._rows.close()
        self._rows = Buffers(
            self._backend, [TensorSpec(spec.name, spec.dtype, (steps, *spec.shape)) for spec in self._row_specs]
        )

    def _capture(self, key: Key) -> CapturedGraph:
        rows, (parity, graphs) = self._rows, key
        assert rows is not None

        def steps() -> None:
            for index, graph in enumerate(graphs):
                row = rows["coefficients"].row(index), rows["time_embedding"].row(index)
                self._enqueue(*row, (parity + index) % 2, graph)

        return self._stream.capture(steps)

    def _launch(self, table: StepTable, first: int, last: int) -> None:
        captured, rows = self._captured.get(_key(table, first, last)), self._rows
        if captured is None or rows is None:
            raise CaptureError("the loop was not prepared for this step table; call prepare first")
        count = last - first
        self._stream.copy(table.coefficients.rows(first, last), rows["coefficients"].rows(0, count))
        self._stream.copy(table.time_embeddings.rows(first, last), rows["time_embedding"].rows(0, count))
        captured.run()

    def _enqueue(self, coefficients: Buffer, time_embedding: Buffer, parity: int, graph: str) -> None:
        self._stream.copy(coefficients, self._row["coefficients"])
        self._stream.copy(time_embedding, self._row["time_embedding"])
        self._bound[parity][graph].run()

    def _forget(self, kept: int) -> None:
        """Close the graphs that were not used for longest."""
        surplus = list(self._captured)[: max(len(self._captured) - kept, 0)]
        if surplus:
            self._stream.synchronize()  # one of them may be running
        for key in surplus:
            self._captured.pop(key).close()


def _key(table: StepTable, first: int, last: int) -> Key:
    return first % 2, table.graphs[first:last]
