"""The solver loop of one clip, in slices: the state goes to and fro between two sets of buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import STEP_STATE, GraphSpec, TensorSpec
from emo_rt.runtime.fixed_loop import FixedLoop
from emo_rt.runtime.loop import Loop
from emo_rt.runtime.rebound_loop import ReboundLoop
from emo_rt.runtime.step_tables import StepTable

FINAL_BUFFERS = 3
"""Finished latents that exist at once: one is being made, one waits, one is being decoded."""


class Denoiser:
    """Runs the step graphs over a step table. It owns the state buffers, so it makes one clip at a time."""

    def __init__(self, backend: Backend, specs: Sequence[GraphSpec]) -> None:
        """``specs``: of the step graphs that step tables will name; their state and rows are the same."""
        self._backend, self._spec = backend, specs[0]
        self._stream = stream = backend.stream("denoise")
        self._state = [Buffers(backend, _inputs(self._spec, STEP_STATE)) for _ in range(2)]
        latents = next(tensor for tensor in self._spec.inputs if tensor.name == "latents")
        finals = [TensorSpec(f"final_latents.{index}", latents.dtype, latents.shape) for index in range(FINAL_BUFFERS)]
        self._scalars = Buffers(backend, [TensorSpec("guidance_scale", "float32", (1,))])
        self._predictions = {one.name: Buffers(backend, _outputs(one, "prediction")) for one in specs}
        deep = {tensor.name: tensor for one in specs for tensor in _outputs(one, "deep_features")}
        self._deep = Buffers(backend, list(deep.values()))
        self._outputs = Buffers(backend, finals)
        self.finals: list[Buffer] = [self._outputs[tensor.name] for tensor in finals]
        """Where finished latents go, each (F, 4, S, S)."""
        self._guidance = stream.upload(self._scalars["guidance_scale"])
        self._noise = stream.upload(self._state[0]["latents"])
        self._loop: Loop | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        own = sum(buffers.nbytes for buffers in self._all_buffers())
        return own if self._loop is None else own + self._loop.nbytes

    @property
    def captured(self) -> int:
        """How many captured graphs the loop is launched with."""
        return 0 if self._loop is None else self._loop.captured

    @property
    def description(self) -> str:
        """How the loop is launched, in words."""
        return self._bound_loop().description

    @property
    def latents(self) -> Buffer:
        """(F, 4, S, S): what the next step will read; the result after the last."""
        return self._bound_loop().latents

    def prediction(self, graph: str) -> Buffer:
        """(halves, F, 4, S, S): what the network predicted in the last step of this graph, unconditional half first."""
        return self._predictions[graph]["prediction"]

    def bind(self, graphs: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable) -> None:
        """Bind everything that stays the same during a clip, by name; on a GPU the loop is captured now."""
        shared = {**features, **self._scalars, **self._deep}
        buffers = {name: {**shared, **self._predictions[name]} for name in graphs}
        if self._stream.is_deferred:
            self._loop = FixedLoop(self._backend, graphs, buffers, self._state, self._spec)
        else:
            self._loop = ReboundLoop(graphs, buffers, self._state, table)
        self._loop.prepare(table)

    def rebind(self, features: Mapping[str, Buffer]) -> None:
        """Put another portrait's features in the place of those of :meth:`bind`. Not on a GPU: addresses are fixed."""
        self._bound_loop().rebind(features)

    def prepare(self, table: StepTable) -> None:
        """Capture what the loop over another step table needs, where loops are captured."""
        self._bound_loop().prepare(table)

    def slices(self, table: StepTable, noise: np.ndarray, guidance: float, final: Buffer) -> Iterator[int]:
        """One clip: unit ``noise`` (F, 4, S, S) → ``final``, enqueued in the stream ``denoise`` slice by slice.

        Each item is the number of steps that are enqueued so far, or done where the device is the CPU.
        """
        self._guidance.write(np.array([guidance], np.float32))
        self._noise.write(noise)
        self._stream.clear(self._state[0]["x0_history"])
        yield from self._bound_loop().slices(table, final)

    def close(self) -> None:
        """Give back buffers and captured graphs. Nothing of it may be running. Safe twice."""
        if self._loop is not None:
            self._loop.close()
        self._guidance.close()
        self._noise.close()
        for buffers in self._all_buffers():
            buffers.close()

    def _bound_loop(self) -> Loop:
        assert self._loop is not None, "bind() comes first"
        return self._loop

    def _all_buffers(self) -> list[Buffers]:
        return [*self._state, self._scalars, *self._predictions.values(), self._deep, self._outputs]


def _inputs(spec: GraphSpec, names: tuple[str, ...]) -> list[TensorSpec]:
    return [tensor for tensor in spec.inputs if tensor.name in names]


def _outputs(spec: GraphSpec, name: str) -> list[TensorSpec]:
    return [tensor for tensor in spec.outputs if tensor.name.startswith(name)]
