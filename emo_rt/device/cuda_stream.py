"""The streams of a GPU, with pinned memory for what goes up and down."""

from __future__ import annotations

import time
from collections.abc import Callable

from emo_rt.device import cuda
from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda_buffer import DeviceBuffer, fitting
from emo_rt.device.nvtx import marked
from emo_rt.device.stream import CapturedGraph, Download, Event, Stream, Timer, Upload
from emo_rt.model.contract import Array

ORIGIN_LASTS_S = 10.0
"""How long times of the device are counted from one event: float32 milliseconds are fine to 1 µs so far."""


class CudaEvent(Event):
    """A CUDA event."""

    def __init__(self, inner: cuda.Event) -> None:
        self.inner = inner

    def synchronize(self) -> None:
        self.inner.synchronize()

    def close(self) -> None:
        self.inner.close()


class CudaTimer(Timer):
    """Two timed CUDA events, and the clock of the host at one moment that the device knows."""

    def __init__(self, stream: CudaStream) -> None:
        self._stream = stream
        self._start, self._end = stream.device.event(timed=True), stream.device.event(timed=True)

    def start(self) -> None:
        self._stream.inner.record(self._start)

    def stop(self) -> None:
        self._stream.inner.record(self._end)

    def read(self) -> tuple[float, float]:
        self._end.synchronize()
        seconds = self._end.milliseconds_since(self._start) / 1e3
        start_s = self._stream.seconds_of(self._start)
        self._start = self._stream.renew_origin(self._start, start_s)
        return start_s, seconds

    def close(self) -> None:
        self._start.close()
        self._end.close()


class PinnedCopy:
    """Pinned memory of the largest buffer's size, and when the copy from or to it is over."""

    def __init__(self, stream: CudaStream, buffer: DeviceBuffer) -> None:
        self._stream, self._buffer = stream, buffer
        self._pinned = stream.device.pinned(buffer.view.nbytes)
        self._copied = stream.device.event()

    def retarget(self, buffer: Buffer) -> None:
        """Another buffer from now on; larger memory where it needs that."""
        self._buffer = on_device(buffer)
        self._copied.synchronize()  # no copy may be using what is given back
        nbytes = self._buffer.view.nbytes
        if self._pinned.nbytes < nbytes:
            larger = self._stream.device.pinned(nbytes)
            self._pinned.close()
            self._pinned = larger

    def close(self) -> None:
        """Give the memory back."""
        self._pinned.close()
        self._copied.close()


class CudaUpload(PinnedCopy, Upload):
    """Through pinned memory."""

    def write(self, values: Array) -> None:
        values = fitting(self._buffer, values)
        self._copied.synchronize()  # the copy before may not have left the pinned memory yet
        self._pinned.write(values)
        self._stream.inner.copy(self._buffer.view, self._pinned.view(0, self._buffer.view.nbytes))
        self._stream.inner.record(self._copied)


class CudaDownload(PinnedCopy, Download):
    """Through pinned memory."""

    def start(self) -> None:
        self._stream.inner.copy(self._pinned.view(0, self._buffer.view.nbytes), self._buffer.view)
        self._stream.inner.record(self._copied)

    def result(self) -> Array:
        self._copied.synchronize()
        return self._pinned.read(self._buffer.shape, self._buffer.dtype)


class CudaCapturedGraph(CapturedGraph):
    """A CUDA graph."""

    def __init__(self, stream: CudaStream, inner: cuda.CapturedGraph) -> None:
        self._stream, self._inner = stream, inner

    def run(self) -> None:
        with marked("replay"):
            self._stream.inner.launch(self._inner)

    def close(self) -> None:
        self._inner.close()


class CudaStream(Stream):
    """A CUDA stream with a name, and with the clock of the host."""

    is_deferred = True

    def __init__(self, name: str, device: cuda.Device, inner: cuda.Stream) -> None:
        self.name = name
        self.device = device
        """Where it runs."""
        self.inner = inner
        """What enqueues."""
        origin = device.event(timed=True)
        inner.record(origin)
        origin.synchronize()
        self._origin = origin, time.perf_counter()
        """A moment that both clocks know: an event, and its time in seconds."""

    def seconds_of(self, event: cuda.Event) -> float:
        """Time of a timed event that was passed, as ``time.perf_counter`` counts it."""
        origin, origin_s = self._origin
        return origin_s + event.milliseconds_since(origin) / 1e3

    def renew_origin(self, event: cuda.Event, event_s: float) -> cuda.Event:
        """Count from this event on, if the origin is long past. The event to use instead of it, this one or a new one.

        CUDA gives times between events in float32: an hour after the origin it would be 0.25 ms coarse.
        """
        if event_s - self._origin[1] < ORIGIN_LASTS_S:
            return event
        self._origin = event, event_s
        return self.device.event(timed=True)

    def upload(self, buffer: Buffer) -> Upload:
        return CudaUpload(self, on_device(buffer))

    def download(self, buffer: Buffer) -> Download:
        return CudaDownload(self, on_device(buffer))

    def copy(self, source: Buffer, target: Buffer) -> None:
        self.inner.copy(on_device(target).view, on_device(source).view)

    def clear(self, buffer: Buffer) -> None:
        self.inner.clear(on_device(buffer).view)

    def event(self) -> Event:
        return CudaEvent(self.device.event())

    def timer(self) -> Timer:
        return CudaTimer(self)

    def record(self, event: Event) -> None:
        assert isinstance(event, CudaEvent)
        self.inner.record(event.inner)

    def wait(self, event: Event) -> None:
        assert isinstance(event, CudaEvent)
        self.inner.wait(event.inner)

    def synchronize(self) -> None:
        self.inner.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        return CudaCapturedGraph(self, self.inner.capture(enqueue))


def on_device(buffer: Buffer) -> DeviceBuffer:
    """A buffer that this backend made."""
    assert isinstance(buffer, DeviceBuffer), "a stream of a GPU takes buffers of that GPU"
    return buffer
