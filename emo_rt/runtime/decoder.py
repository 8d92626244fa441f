"""Finished latents → pixels, in the stream ``decode``."""

from __future__ import annotations

from collections.abc import Iterator

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import Array, TensorSpec


class Decoder:
    """The ``vae_decoder`` graph with buffers for the frames of a clip. Serves one clip at a time."""

    def __init__(self, backend: Backend, graph: Graph, latents: Buffer, frames: int) -> None:
        """``latents``: any buffer (n, 4, S, S) to begin with; ``frames``: most that :meth:`parts` will be asked for."""
        source, target = graph.spec.inputs[0], graph.spec.outputs[0]
        self._source, self._target = source.name, target.name
        self._batch = batch = int(source.shape[0])
        count = -(-frames // batch) * batch
        self._buffers = Buffers(backend, [TensorSpec(target.name, target.dtype, (count, *target.shape[1:]))])
        self._pixels = self._buffers[target.name]
        self._bound = graph.bind({source.name: latents.rows(0, batch), target.name: self._pixels.rows(0, batch)})
        stream, starts = backend.stream("decode"), range(0, count, batch)
        self._is_deferred = stream.is_deferred
        self._downloads = [stream.download(self._pixels.rows(start, start + batch)) for start in starts]

    @property
    def nbytes(self) -> int:
        """Memory of the pixels."""
        return self._buffers.nbytes

    def parts(self, latents: Buffer, frames: int) -> Iterator[Array]:
        """The first ``frames`` pictures of (n, 4, S, S), in new arrays (b, size, size, 3) uint8, as each part is there.

        On a GPU all of them are enqueued before the first is waited for; a CPU computes each when it is asked for.
        """
        starts = range(0, frames, self._batch)
        if self._is_deferred:
            for start in starts:
                self._enqueue(latents, start)
        for part, start in enumerate(starts):
            if not self._is_deferred:
                self._enqueue(latents, start)
            yield self._downloads[part].result()[: frames - start]

    def _enqueue(self, latents: Buffer, start: int) -> None:
        self._bound.rebind(self._source, latents.rows(start, start + self._batch))
        self._bound.rebind(self._target, self._pixels.rows(start, start + self._batch))
        self._bound.run()
        self._downloads[start // self._batch].start()

    def close(self) -> None:
        """Give the buffers back. Nothing of it may be running. Safe twice."""
        self._bound.close()
        for download in self._downloads:
            download.close()
        self._buffers.close()
