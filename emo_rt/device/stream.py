"""Streams: queues of work on a device, and how the host follows them. On the CPU everything is done at once.

The stages of a run are written once, for streams. Work of one stream runs in its order; another stream's work is
beside it unless it waits for an event. On a GPU these are CUDA streams: :mod:`emo_rt.device.cuda_stream`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from emo_rt.device.buffers import Buffer
from emo_rt.errors import CaptureError
from emo_rt.model.contract import Array

STREAMS = ("denoise", "decode", "side")
"""``denoise``: what the next clip waits for. ``decode``: finished latents → pixels. ``side``: portraits and sound."""

STREAM_OF = dict.fromkeys(("clip", "step", "update", "motion_encoder"), "denoise") | {"vae_decoder": "decode"}
"""Role of a graph → stream, where it is not ``side``."""


def stream_of(role: str) -> str:
    """The stream on which graphs of a role run."""
    return STREAM_OF.get(role, "side")


class Closable:
    """What may hold events or pinned memory. Its owner closes it, once no work that uses it is running."""

    def close(self) -> None:
        """Give everything back. Safe twice. On the CPU there is nothing to give back."""


class Event(Closable, ABC):
    """A place in a stream's work. One that was never recorded counts as passed."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait, on the host, until the stream has passed it."""


class Timer(Closable, ABC):
    """How long some work took; used again and again. A context manager around what enqueues the work."""

    @abstractmethod
    def start(self) -> None:
        """The work begins behind what is enqueued now."""

    @abstractmethod
    def stop(self) -> None:
        """The work ends with what is enqueued now."""

    def __enter__(self) -> Timer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def read(self) -> tuple[float, float]:
        """(start, seconds), the start in the time of ``time.perf_counter``. The work must be done."""


class Upload(Closable, ABC):
    """Writes one buffer again and again."""

    @abstractmethod
    def write(self, values: Array) -> None:
        """Enqueue a copy of ``values``, converted in type; they may be changed as soon as this returns.

        Raises ``ValueError`` for another shape.
        """

    @abstractmethod
    def retarget(self, buffer: Buffer) -> None:
        """Write another buffer from now on. Takes memory only for one that is larger than all before."""


class Download(Closable, ABC):
    """Reads one buffer again and again."""

    @abstractmethod
    def start(self) -> None:
        """Enqueue the copy."""

    @abstractmethod
    def result(self) -> Array:
        """Wait for the copy that was started last; a new array."""

    @abstractmethod
    def retarget(self, buffer: Buffer) -> None:
        """Read another buffer from now on. Takes memory only for one that is larger than all before."""


class CapturedGraph(ABC):
    """Captured work."""

    @abstractmethod
    def run(self) -> None:
        """Enqueue it as one launch."""

    @abstractmethod
    def close(self) -> None:
        """Give it back; it must not be running. Safe twice."""


class Stream(ABC):
    """A queue of work on a device."""

    name: str
    """One of :data:`STREAMS`."""
    is_deferred: bool
    """Whether work may still run after it was enqueued."""

    @abstractmethod
    def upload(self, buffer: Buffer) -> Upload:
        """Copies from the host to ``buffer``, in this stream."""

    @abstractmethod
    def download(self, buffer: Buffer) -> Download:
        """Copies from ``buffer`` to the host, in this stream."""

    @abstractmethod
    def copy(self, source: Buffer, target: Buffer) -> None:
        """Enqueue a copy between buffers of one shape and type."""

    @abstractmethod
    def clear(self, buffer: Buffer) -> None:
        """Enqueue zeros."""

    @abstractmethod
    def event(self) -> Event:
        """A new event for :meth:`record` and :meth:`wait` of any stream of this backend."""

    @abstractmethod
    def timer(self) -> Timer:
        """A new timer for work of this stream."""

    @abstractmethod
    def record(self, event: Event) -> None:
        """Move an event to the end of what is enqueued."""

    @abstractmethod
    def wait(self, event: Event) -> None:
        """Let later work of this stream wait for what ``event`` marks now. The host does not wait."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait, on the host, for all that is enqueued."""

    @abstractmethod
    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        """Turn what ``enqueue`` enqueues into one launch, without running it. Raises :class:`CaptureError`."""


class HostEvent(Event):
    """Work of the CPU is done when its call returns."""

    def synchronize(self) -> None:
        pass


class HostTimer(Timer):
    """The CPU's clock."""

    def __init__(self) -> None:
        self._start = self._end = 0.0

    def start(self) -> None:
        self._start = time.perf_counter()

    def stop(self) -> None:
        self._end = time.perf_counter()

    def read(self) -> tuple[float, float]:
        return self._start, self._end - self._start


class HostUpload(Upload):
    """Writes into the buffer itself."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def write(self, values: Array) -> None:
        self._buffer.write(values)

    def retarget(self, buffer: Buffer) -> None:
        self._buffer = buffer


class HostDownload(Download):
    """Copies the buffer's memory."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def start(self) -> None:
        pass

    def result(self) -> Array:
        return self._buffer.read().copy()

    def retarget(self, buffer: Buffer) -> None:
        self._buffer = buffer


class HostStream(Stream):
    """The calling thread."""

    is_deferred = False

    def __init__(self, name: str) -> None:
        self.name = name

    def upload(self, buffer: Buffer) -> Upload:
        return HostUpload(buffer)

    def download(self, buffer: Buffer) -> Download:
        return HostDownload(buffer)

    def copy(self, source: Buffer, target: Buffer) -> None:
        target.write(source.read())

    def clear(self, buffer: Buffer) -> None:
        buffer.write(np.broadcast_to(np.zeros((), buffer.dtype), buffer.shape))

    def event(self) -> Event:
        return HostEvent()

    def timer(self) -> Timer:
        return HostTimer()

    def record(self, event: Event) -> None:
        pass

    def wait(self, event: Event) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        raise CaptureError("the CPU runs work when it is called; there is nothing to capture")
