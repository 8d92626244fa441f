"""Finished latents → pixels, in the lane ``decode``."""

from __future__ import annotations

from emo_rt.device.base import Backend, Session
from emo_rt.device.buffers import Arena, Buffer
from emo_rt.model.contract import Array, TensorSpec


class Decoder:
    """The ``vae_decoder`` graph with buffers for the frames of a clip. Serves one run at a time."""

    def __init__(self, backend: Backend, session: Session, latents: Buffer, frames: int) -> None:
        """``latents``: any buffer (n, 4, S, S) to begin with; ``frames``: most that :meth:`start` will be asked for."""
        source, target = session.spec.inputs[0], session.spec.outputs[0]
        self._source, self._target = source.name, target.name
        self._batch = batch = int(source.shape[0])
        count = -(-frames // batch) * batch
        self._arena = Arena(backend, [TensorSpec(target.name, target.dtype, (count, *target.shape[1:]))])
        self._pixels = self._arena[target.name]
        self._launch = session.bind({source.name: latents.rows(0, batch), target.name: self._pixels.rows(0, batch)})
        self._download = backend.lane("decode").download(self._pixels)

    @property
    def nbytes(self) -> int:
        """Memory of the pixels."""
        return self._arena.nbytes

    def start(self, latents: Buffer, frames: int) -> None:
        """Enqueue decoding of at least the first ``frames`` of (n, 4, S, S) and the copy of the pixels."""
        for start in range(0, frames, self._batch):
            self._launch.rebind(self._source, latents.rows(start, start + self._batch))
            self._launch.rebind(self._target, self._pixels.rows(start, start + self._batch))
            self._launch.run()
        self._download.start()

    def result(self, frames: int) -> Array:
        """Wait for what was started: (frames, size, size, 3) uint8, a new array."""
        return self._download.result()[:frames]

    def close(self) -> None:
        """Give the buffers back. Nothing of it may be running. Safe twice."""
        self._launch.close()
        self._arena.close()
