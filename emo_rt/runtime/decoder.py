"""Finished latents → pixels, in the stream ``decode``."""

from __future__ import annotations

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import Array, TensorSpec


class Decoder:
    """The ``vae_decoder`` graph with buffers for the frames of a clip. Serves one clip at a time."""

    def __init__(self, backend: Backend, graph: Graph, latents: Buffer, frames: int) -> None:
        """``latents``: any buffer (n, 4, S, S) to begin with; ``frames``: most that :meth:`start` will be asked for."""
        source, target = graph.spec.inputs[0], graph.spec.outputs[0]
        self._source, self._target = source.name, target.name
        self._batch = batch = int(source.shape[0])
        count = -(-frames // batch) * batch
        self._buffers = Buffers(backend, [TensorSpec(target.name, target.dtype, (count, *target.shape[1:]))])
        self._pixels = self._buffers[target.name]
        self._bound = graph.bind({source.name: latents.rows(0, batch), target.name: self._pixels.rows(0, batch)})
        self._download = backend.stream("decode").download(self._pixels)

    @property
    def nbytes(self) -> int:
        """Memory of the pixels."""
        return self._buffers.nbytes

    def start(self, latents: Buffer, frames: int) -> None:
        """Enqueue decoding of at least the first ``frames`` of (n, 4, S, S) and the copy of the pixels."""
        for start in range(0, frames, self._batch):
            self._bound.rebind(self._source, latents.rows(start, start + self._batch))
            self._bound.rebind(self._target, self._pixels.rows(start, start + self._batch))
            self._bound.run()
        self._download.start()

    def result(self, frames: int) -> Array:
        """Wait for what was started: (frames, size, size, 3) uint8, a new array."""
        return self._download.result()[:frames]

    def close(self) -> None:
        """Give the buffers back. Nothing of it may be running. Safe twice."""
        self._bound.close()
        self._download.close()
        self._buffers.close()
