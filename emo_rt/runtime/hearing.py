"""Sound → hidden states, in the stream ``side``."""

from __future__ import annotations

from contextlib import ExitStack

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffers
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.registry import family_of


class Hearing:
    """The ``audio_encoder`` graph with buffers for one length of sound, made again only for another."""

    def __init__(self, backend: Backend, graph: Graph, config: ModelConfig) -> None:
        self._backend, self._graph, self._config = backend, graph, config
        self._owned = ExitStack()
        self._samples = 0
        self.nbytes = 0
        """Memory of the buffers."""
        windows = family_of(config).hearing
        if not windows.is_whole_file:
            self._prepare(windows.samples)

    def __call__(self, waveform: Array) -> Array:
        """(samples,) float32 at 16 kHz → (frames, layers, hidden) float32, a new array."""
        if len(waveform) != self._samples:
            self._prepare(len(waveform))
        self._upload.write(waveform[None])
        self._bound.run()
        self._download.start()
        return self._download.result()

    def close(self) -> None:
        """Give the buffers back. Safe twice."""
        self._owned.close()
        self._samples = self.nbytes = 0

    def _prepare(self, samples: int) -> None:
        self.close()
        source, hidden = self._graph.spec.inputs[0], self._graph.spec.outputs[0]
        frames = -(-samples * self._config.fps // AUDIO_SAMPLE_RATE)
        heard = TensorSpec(source.name, source.dtype, (1, samples))
        given = TensorSpec(hidden.name, hidden.dtype, (frames, *hidden.shape[1:]))
        buffers = self._owned.enter_context(Buffers(self._backend, [heard, given]))
        self.nbytes = buffers.nbytes
        stream = self._backend.stream("side")
        self._bound = self._graph.bind(buffers)
        self._owned.callback(self._bound.close)
        self._upload, self._download = stream.upload(buffers[source.name]), stream.download(buffers[hidden.name])
        self._owned.callback(self._upload.close)
        self._owned.callback(self._download.close)
        self._samples = samples
