"""A lane on a GPU: a CUDA stream, with pinned memory for what goes up and down."""

from __future__ import annotations

import time
from collections.abc import Callable

from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda import Device, Graph, Stream
from emo_rt.device.cuda import Event as Mark
from emo_rt.device.cuda_buffer import DeviceBuffer, fitting
from emo_rt.device.nvtx import marked
from emo_rt.device.stream import Download, Event, Lane, Replay, Span, Upload
from emo_rt.model.contract import Array


class CudaEvent(Event):
    """A CUDA event."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def synchronize(self) -> None:
        self.mark.synchronize()


class CudaSpan(Span):
    """Two timed CUDA events, and the clock of the host at one moment that the device knows."""

    def __init__(self, lane: CudaLane) -> None:
        self._lane = lane
        self._start, self._end = lane.device.event(timed=True), lane.device.event(timed=True)

    def __enter__(self) -> CudaSpan:
        self._lane.stream.record(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._lane.stream.record(self._end)

    def read(self) -> tuple[float, float]:
        self._end.synchronize()
        offset = self._start.milliseconds_since(self._lane.origin) / 1e3
        return self._lane.origin_s + offset, self._end.milliseconds_since(self._start) / 1e3


class CudaUpload(Upload):
    """Pinned memory of one buffer's size."""

    def __init__(self, lane: CudaLane, buffer: DeviceBuffer) -> None:
        self._lane, self._buffer = lane, buffer
        self._pinned = lane.device.pinned(buffer.view.nbytes)
        self._copied = lane.device.event()

    def write(self, values: Array) -> None:
        values = fitting(self._buffer, values)
        self._copied.synchronize()  # the copy before may not have left the pinned memory yet
        self._pinned.write(values)
        self._lane.stream.copy(self._buffer.view, self._pinned.view())
        self._lane.stream.record(self._copied)


class CudaDownload(Download):
    """Pinned memory of one buffer's size."""

    def __init__(self, lane: CudaLane, buffer: DeviceBuffer) -> None:
        self._lane, self._buffer = lane, buffer
        self._pinned = lane.device.pinned(buffer.view.nbytes)
        self._copied = lane.device.event()

    def start(self) -> None:
        self._lane.stream.copy(self._pinned.view(), self._buffer.view)
        self._lane.stream.record(self._copied)

    def result(self) -> Array:
        self._copied.synchronize()
        return self._pinned.read(self._buffer.shape, self._buffer.dtype)


class CudaReplay(Replay):
    """A CUDA graph."""

    def __init__(self, lane: CudaLane, graph: Graph) -> None:
        self._lane, self._graph = lane, graph

    def run(self) -> None:
        with marked("replay"):
            self._lane.stream.launch(self._graph)

    def close(self) -> None:
        self._graph.close()


class CudaLane(Lane):
    """A CUDA stream with a name."""

    is_deferred = True

    def __init__(self, name: str, device: Device, stream: Stream) -> None:
        self.name = name
        self.device = device
        """Where it runs."""
        self.stream = stream
        """Its CUDA stream."""
        self.origin, self.origin_s = device.event(timed=True), 0.0
        """A moment that both clocks know."""
        stream.record(self.origin)
        self.origin.synchronize()
        self.origin_s = time.perf_counter()

    def upload(self, buffer: Buffer) -> Upload:
        return CudaUpload(self, on_device(buffer))

    def download(self, buffer: Buffer) -> Download:
        return CudaDownload(self, on_device(buffer))

    def copy(self, source: Buffer, target: Buffer) -> None:
        self.stream.copy(on_device(target).view, on_device(source).view)

    def clear(self, buffer: Buffer) -> None:
        self.stream.clear(on_device(buffer).view)

    def event(self) -> Event:
        return CudaEvent(self.device.event())

    def span(self) -> Span:
        return CudaSpan(self)

    def record(self, event: Event) -> None:
        assert isinstance(event, CudaEvent)
        self.stream.record(event.mark)

    def wait(self, event: Event) -> None:
        assert isinstance(event, CudaEvent)
        self.stream.wait(event.mark)

    def synchronize(self) -> None:
        self.stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> Replay:
        return CudaReplay(self, self.stream.capture(enqueue))


def on_device(buffer: Buffer) -> DeviceBuffer:
    """A buffer that this backend made."""
    assert isinstance(buffer, DeviceBuffer), "a lane of a GPU takes buffers of that GPU"
    return buffer
