"""The solver loop over a whole video: each step predicts it window by window, and updates it once all are in.

A window's frames are copied to where the graphs are bound, so a step graph is bound, and on a GPU captured, once, and
serves every window of every video, however long. The copies are a thousandth of the network's time: 64 kB of latents
and 77 kB of audio tokens per frame at full size (not measured yet). Sums of predictions stay on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import Array, GraphSpec, TensorSpec
from emo_rt.model.families.base import Plan
from emo_rt.runtime.denoiser import FINAL_BUFFERS
from emo_rt.runtime.launch import Launch
from emo_rt.runtime.step_tables import StepTable
from emo_rt.runtime.video_state import gather, scatter


@dataclass(frozen=True, eq=False)
class Frozen:
    """Frames that are finished, in front of those that are made."""

    latents: Buffer
    """(N, 4, S, S)."""
    noise: Buffer
    """(F, 4, S, S): of a whole window; the first N are what the latents were made of."""
    ones: Buffer
    """(F,) of 1."""


class WindowDenoiser:
    """Runs step graphs and ``update`` over a step table. It owns the buffers of one window. Owners close."""

    def __init__(
        self, backend: Backend, specs: Sequence[GraphSpec], update: GraphSpec, decoded: int | None = None
    ) -> None:
        """``specs``: of the step graphs that step tables will name; ``decoded``: frames of a window that are decoded;
        ``None`` = all."""
        self._stream = stream = backend.stream("denoise")
        latents = next(tensor for tensor in update.inputs if tensor.name == "latents")
        shared = {tensor.name: tensor for spec in (*specs, update) for tensor in _own(spec)}
        self._window = Buffers(backend, shared.values())
        self._predictions = {spec.name: Buffers(backend, _named(spec.outputs, "prediction")) for spec in specs}
        shape = (int(latents.shape[0]) if decoded is None else decoded, *latents.shape[1:])
        finals = [TensorSpec(f"final_latents.{index}", latents.dtype, shape) for index in range(FINAL_BUFFERS)]
        self._outputs = Buffers(backend, finals)
        self.finals: list[Buffer] = list(self._outputs.values())
        """Where finished latents go, each (F, 4, S, S)."""
        uploaded = ("latents", "audio_tokens", "frame_weights", "guidance_scale", "coefficients")
        self._uploads = {name: stream.upload(self._window[name]) for name in uploaded if name in self._window}
        self._launches: dict[str, Launch] = {}
        self.frames = int(latents.shape[0])
        """Frames of a window."""

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(buffers.nbytes for buffers in (self._window, *self._predictions.values(), self._outputs))

    @property
    def captured(self) -> int:
        """How many captured graphs the loop is launched with."""
        return sum(launch.captured for launch in self._launches.values())

    @property
    def description(self) -> str:
        """How the loop is launched, in words."""
        reason = next(filter(None, (launch.obstacle for launch in self._launches.values())), None)
        return "one launch per window" + (f": {reason}" if reason else "")

    def prediction(self, graph: str) -> Buffer:
        """(halves, F, 4, S, S): what the network predicted in the last window of this graph, unconditional half
        first."""
        return self._predictions[graph]["prediction"]

    def bind(self, graphs: Mapping[str, Graph], update: Graph, features: Mapping[str, Buffer]) -> None:
        """Bind everything, by name; on a GPU each graph is captured now."""
        for name, graph in graphs.items():
            bound = {**features, **self._window, **self._predictions[name]}
            self._launches[name] = Launch(self._stream, graph, bound)
        self._launches["update"] = Launch(self._stream, update, self._window)

    def rebind(self, features: Mapping[str, Buffer]) -> None:
        """Put another portrait's features in the place of those of :meth:`bind`. Not on a GPU: addresses are fixed."""
        for launch in self._launches.values():
            launch.rebind(features)

    def write(self, name: str, values: Array, video: Buffer) -> None:
        """Bring rows of the host into the video's buffer, block by block: no pinned memory of a whole video."""
        upload, window = self._uploads[name], self._window[name]
        for first in range(0, len(values), self.frames):
            block = values[first : first + self.frames]
            missing = self.frames - len(block)
            upload.write(np.pad(block, ((0, missing), *((0, 0),) * (block.ndim - 1))) if missing else block)
            self._stream.copy(window, video.rows(first, first + self.frames))

    def slices(
        self, table: StepTable, guidance: float, plan: Plan, state: Buffers, frozen: Frozen | None = None
    ) -> Iterator[tuple[int, float]]:
        """Every step of the video in ``state``, one window after the other.

        Each item is the number of steps that are enqueued so far, and the share of the next one that is. ``frozen``:
        frames that are finished, and that the windows see at the noise level of each step.
        """
        windows = [call.frames.start for call in plan.step if call.graph == "step"]
        self.write("frame_weights", frame_weights(windows, self.frames, plan.frames), state["frame_weights"])
        if "guidance_scale" in self._uploads:
            self._uploads["guidance_scale"].write(np.array([guidance], np.float32))
        for step, graph in enumerate(table.graphs):
            if frozen is not None:
                self._noise_again(frozen, table.levels[step], state)
            self._stream.copy(table.coefficients.row(step), self._window["coefficients"])
            self._stream.copy(table.time_embeddings.row(step), self._window["time_embedding"])
            self._stream.clear(state["sums"])
            for done, start in enumerate(windows, 1):
                self._predict(graph, start + step * plan.shift, plan.frames, state)
                if done < len(windows):
                    yield step, done / len(windows)
            self._update(step * plan.shift, plan.frames, state)
            yield step + 1, 0.0

    def take(self, state: Buffers, first: int, final: Buffer) -> None:
        """Copy the latents of a block of frames from ``first`` on to where they are decoded."""
        self._stream.copy(state["latents"].rows(first, first + self.frames), final)

    def close(self) -> None:
        """Give back buffers and captured graphs. Nothing of it may be running. Safe twice."""
        for launch in self._launches.values():
            launch.close()
        for upload in self._uploads.values():
            upload.close()
        for buffers in (self._window, *self._predictions.values(), self._outputs):
            buffers.close()

    def _predict(self, graph: str, first: int, frames: int, state: Buffers) -> None:
        """Add the prediction of the window from ``first`` on to the sums."""
        for name in ("latents", "audio_tokens", "sums"):
            gather(self._stream, state[name], self._window[name], first, frames)
        self._launches[graph].run()
        scatter(self._stream, self._window["next_sums"], state["sums"], first, frames)

    def _noise_again(self, frozen: Frozen, levels: Array, state: Buffers) -> None:
        """The first frames of the video := α·latents + σ·noise. The graph ``update`` computes just that, with the noise
        in the place of its latents and the latents in the place of its sums."""
        (signal, noise), count = levels.tolist(), frozen.latents.shape[0]
        self._uploads["coefficients"].write(np.array([0, 1, noise, signal, 0, 0], np.float32))
        self._stream.copy(frozen.noise, self._window["latents"])
        self._stream.copy(frozen.latents, self._window["sums"].rows(0, count))
        self._stream.copy(frozen.ones, self._window["frame_weights"])
        self._launches["update"].run()
        self._stream.copy(self._window["next_latents"].rows(0, count), state["latents"].rows(0, count))

    def _update(self, shifted: int, frames: int, state: Buffers) -> None:
        """One solver step of all frames, block by block. ``shifted``: frames by which the windows have moved."""
        for first in range(0, frames, self.frames):
            block = first, first + self.frames
            for name in ("latents", "sums"):
                self._stream.copy(state[name].rows(*block), self._window[name])
            gather(self._stream, state["frame_weights"], self._window["frame_weights"], first - shifted, frames)
            self._launches["update"].run()
            self._stream.copy(self._window["next_latents"], state["latents"].rows(*block))


def frame_weights(windows: Sequence[int], length: int, frames: int) -> Array:
    """(frames,) float32: 1 / the number of windows that cover each frame, where windows start at those frames."""
    covered = np.zeros(frames, np.int64)
    for start in windows:
        covered[np.arange(start, start + length) % frames] += 1
    weights: Array = (1 / covered).astype(np.float32)
    return weights


def _own(spec: GraphSpec) -> list[TensorSpec]:
    """Tensors of a graph that the loop itself moves: all but predictions and what portraits give."""
    inputs = ("latents", "sums", "audio_tokens", "frame_weights", "coefficients", "time_embedding", "guidance_scale")
    return [*_named(spec.inputs, *inputs), *_named(spec.outputs, "next_sums", "next_latents")]


def _named(tensors: Sequence[TensorSpec], *names: str) -> list[TensorSpec]:
    return [tensor for tensor in tensors if tensor.name in names]
