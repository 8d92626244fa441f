"""What all backends on a GPU share: the device, its streams and its buffers."""

from __future__ import annotations

from abc import abstractmethod

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda import Device, View
from emo_rt.device.cuda_buffer import DeviceBuffer
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.device_name import DeviceName
from emo_rt.device.stream import STREAMS, Stream, stream_of
from emo_rt.errors import ClosedError, DeviceLostError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array, TensorSpec


class CudaBackend(Backend):
    """Owns the device. All sessions share its streams: what is enqueued for one waits for what was enqueued before."""

    kept_workers = 2
    slice_s = 0.05

    def __init__(self, cuda: Device) -> None:
        self.cuda = cuda
        self.device = str(DeviceName("cuda", cuda.index))
        self._closed = False
        self._graphs: list[Graph] = []
        # The next clip waits for `denoise`; pictures have time until the clip after.
        self._streams = {name: CudaStream(name, cuda, cuda.stream(high_priority=name != "decode")) for name in STREAMS}

    def stream(self, name: str) -> Stream:
        return self._streams[name]

    def allocate(self, spec: TensorSpec) -> Buffer:
        self._require_open()
        shape = tuple(size for size in spec.shape if isinstance(size, int))
        return DeviceBuffer(self.cuda.memory(spec.nbytes).view(), shape, spec.dtype, self, owner=True)

    def open(self, bundle: Bundle, graph: str) -> Graph:
        self._require_open()
        with self.cuda.capture_lock.shared(), self.cuda.health.check(f"open graph {graph} of {bundle.path}"):
            self.cuda.enter()
            opened = self._open(bundle, graph, self._streams[stream_of(bundle.graphs[graph].role)])
        self._graphs.append(opened)
        return opened

    @abstractmethod
    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        """Load a graph that will run in ``stream``."""

    def memory_used(self) -> int | None:
        return self.cuda.used_bytes()

    def write(self, target: View, values: Array) -> None:
        """Copy ``values`` to the device, after all work that was enqueued before; returns when it is done."""
        self._drain()
        pinned, stream = self.cuda.pinned(target.nbytes), self._streams["side"].inner
        pinned.write(values)
        stream.copy(target, pinned.view())
        stream.synchronize()
        pinned.close()

    def read(self, source: View, shape: tuple[int, ...], dtype: str) -> Array:
        """Copy from the device, after all work that was enqueued before."""
        self._drain()
        pinned, stream = self.cuda.pinned(source.nbytes), self._streams["side"].inner
        stream.copy(pinned.view(), source)
        stream.synchronize()
        values = pinned.read(shape, dtype)
        pinned.close()
        return values

    def close(self) -> None:
        """Wait for what is enqueued, then free graphs, streams and memory. Safe twice."""
        if self._closed:
            return
        self._closed = True
        for stream in self._streams.values():
            stream.inner.end()  # other threads may still be at work
        try:
            self._drain()
        except DeviceLostError:
            pass  # there is nothing to wait for any more
        finally:
            for graph in self._graphs:
                graph.close()
            self._graphs.clear()
            self.cuda.close()

    def _drain(self) -> None:
        for stream in self._streams.values():
            stream.synchronize()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the animator was closed; load it again")
