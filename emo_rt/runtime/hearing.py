"""Sound → hidden states, in the stream ``side``."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffers
from emo_rt.device.stream import Download, Upload
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.registry import family_of


class Hearing:
    """The ``audio_encoder`` graph with buffers for one length of sound, made again only for another."""

    def __init__(self, backend: Backend, graph: Graph, config: ModelConfig) -> None:
        self._backend, self._graph, self._family = backend, graph, family_of(config)
        self._owned = ExitStack()
        self._upload: Upload | None = None
        self._download: Download | None = None
        self._shape: tuple[int, ...] = ()
        self.nbytes = 0
        """Memory of the buffers."""
        windows = self._family.hearing
        if not windows.is_whole_file and any(isinstance(size, str) for size in graph.spec.inputs[0].shape):
            self._prepare((1, windows.samples), windows.length)

    def __call__(self, waveform: Array) -> Array:
        """(samples,) float32 at 16 kHz → (rows, layers, hidden) float32, a new array."""
        heard = [self._run(sound, rows) for sound, rows in self._family.heard(waveform)]
        return heard[0] if len(heard) == 1 else np.concatenate(heard)

    def close(self) -> None:
        """Give the buffers back. Safe twice."""
        self._give_back()
        for copies in (self._upload, self._download):
            if copies is not None:
                copies.close()
        self._upload = self._download = None

    def _give_back(self) -> None:
        """What fits one length of sound only."""
        self._owned.close()
        self._shape, self.nbytes = (), 0

    def _run(self, sound: Array, rows: int) -> Array:
        if sound.shape != self._shape:
            self._prepare(sound.shape, rows)
        assert self._upload is not None
        assert self._download is not None
        self._upload.write(sound)
        self._bound.run()
        self._download.start()
        return self._download.result()[:rows]

    def _prepare(self, shape: tuple[int, ...], rows: int) -> None:
        """``rows``: of the output, where its length depends on the sound's."""
        self._give_back()
        source, hidden = self._graph.spec.inputs[0], self._graph.spec.outputs[0]
        length = hidden.shape[0] if isinstance(hidden.shape[0], int) else rows
        heard = TensorSpec(source.name, source.dtype, shape)
        given = TensorSpec(hidden.name, hidden.dtype, (length, *hidden.shape[1:]))
        buffers = self._owned.enter_context(Buffers(self._backend, [heard, given]))
        self.nbytes = buffers.nbytes
        stream = self._backend.stream("side")
        self._bound = self._graph.bind(buffers)
        self._owned.callback(self._bound.close)
        if self._upload is None or self._download is None:
            self._upload, self._download = stream.upload(buffers[source.name]), stream.download(buffers[hidden.name])
        else:  # the largest pinned memory serves all lengths
            self._upload.retarget(buffers[source.name])
            self._download.retarget(buffers[hidden.name])
        self._shape = shape
