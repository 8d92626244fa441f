"""One GPU of this process."""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections import deque
from typing import Any

import numpy as np

from emo_rt.device.cuda.capture_lock import CAPTURE_LOCK
from emo_rt.device.cuda.event import Event
from emo_rt.device.cuda.memory import DeviceMemory, PinnedMemory
from emo_rt.device.cuda.status import Health, value_of
from emo_rt.device.cuda.stream import Stream
from emo_rt.errors import BackendUnavailableError

_CURRENT = threading.local()
"""CUDA keeps the current device per thread; here is the ``index`` of each thread's."""


def open_device(index: int = 0) -> Device:
    """The GPU with that number. Raises :class:`BackendUnavailableError` where there is none, or no driver."""
    try:
        core = importlib.import_module("cuda.core")
    except ImportError as exc:
        raise BackendUnavailableError(
            f"the Python package of CUDA cannot be imported ({exc}); install emo_rt[gpu], or emo_rt[cuda] beside a "
            "TensorRT that is there"
        ) from exc
    try:
        inner = core.Device(index)
        inner.set_current()
        _CURRENT.index = index
    except Exception as exc:  # no driver, no device, a driver that is too old: all kinds of errors
        raise BackendUnavailableError(f"no usable NVIDIA GPU {index}: {exc}") from exc
    return Device(inner, core)


class Device:
    """Makes streams, events and memory. Closing gives everything back."""

    def __init__(self, inner: Any, core: Any) -> None:
        """Use :func:`open_device`. ``inner``: a ``cuda.core.Device``; ``core``: the module ``cuda.core``."""
        self._inner, self._core = inner, core
        self.health = Health()
        """Errors, and whether the device was lost."""
        self.capture_lock = CAPTURE_LOCK
        """Keeps captures and what would spoil them apart."""
        self.index = int(inner.device_id)
        """Number of the GPU."""
        self.name = str(inner.name)
        """What the maker calls it."""
        major, minor = inner.compute_capability
        self.compute_capability = (int(major), int(minor))
        """Such as (9, 0)."""
        self._streams: list[Stream] = []
        self._unused: deque[Any] = deque()
        """Memory that nobody refers to, but that enqueued work may still use."""
        self._given_back = threading.Lock()
        self._allocations = self._new_stream(high_priority=False)
        self._passed = self.event()
        self._pinned = core.LegacyPinnedMemoryResource()

    def stream(self, high_priority: bool = False) -> Stream:
        """A new stream. One of high priority gets free multiprocessors before the others."""
        stream = self._new_stream(high_priority)
        self._streams.append(stream)
        return stream

    def event(self, timed: bool = False) -> Event:
        """A new event; only two timed ones can be subtracted. Waiting for it leaves the processor to others."""
        with self.health.check("make an event"):
            self.enter()
            options = self._core.EventOptions(timing_enabled=timed, blocking_sync=True)
            return Event(self._inner.create_event(options), self.health)

    def memory(self, nbytes: int) -> DeviceMemory:
        """New memory of the device, zeroed. Raises :class:`BackendError` when there is not enough."""
        self.collect()
        with self.capture_lock.shared(), self.health.check(f"allocate {nbytes / 1e6:.1f} MB on {self.name}"):
            self.enter()
            stream = self._allocations.inner
            inner = self._inner.allocate(nbytes, stream=stream)
            inner.fill(0, stream=stream)
            stream.sync()
            return DeviceMemory(inner, int(inner.handle), nbytes, self._unused.append)

    def pinned(self, nbytes: int) -> PinnedMemory:
        """New page-locked memory of the host, zeroed."""
        with self.capture_lock.shared(), self.health.check(f"lock {nbytes / 1e6:.1f} MB of host memory"):
            self.enter()
            inner = self._pinned.allocate(nbytes)
            pointer = int(inner.handle)
            array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer))
            array[:] = 0
            return PinnedMemory(inner, pointer, array, self._unused.append)

    def used_bytes(self) -> int:
        """Memory of the GPU that is taken, by whatever process."""
        with self.capture_lock.shared(), self.health.check("ask for free memory"):
            self.enter()
            free, total = value_of(importlib.import_module("cuda.bindings.driver").cuMemGetInfo())
            return int(total) - int(free)

    def collect(self) -> None:
        """Give back memory that nobody refers to, once the work that was enqueued so far is done.

        Never in a finalizer: those run in any thread at any time, and this takes the streams' locks.
        """
        if self.health.failure is not None or not self._unused or any(s.is_capturing for s in self._streams):
            return
        with self.capture_lock.shared(), self._given_back:
            unused = [self._unused.popleft() for _ in range(len(self._unused))]
            for stream in list(self._streams):
                if not stream.has_ended:  # else it was waited for
                    stream.record(self._passed)
                    self._allocations.wait(self._passed)
            with self.health.check("free memory"):
                self.enter()
                for inner in unused:
                    inner.close(self._allocations.inner)

    def synchronize(self) -> None:
        """Wait, on the host, for all streams."""
        for stream in list(self._streams):
            stream.synchronize()

    def close(self) -> None:
        """Give back all streams and all memory that nobody refers to. Safe twice."""
        if self.health.failure is None:
            self.collect()
        for stream in [*self._streams, self._allocations]:
            stream.close()
        self._streams.clear()
        self._passed.close()

    def _new_stream(self, high_priority: bool) -> Stream:
        with self.health.check("make a stream"):
            self.enter()
            options = self._core.StreamOptions(nonblocking=True, priority=-1 if high_priority else 0)
            inner = self._inner.create_stream(options=options)
        return Stream(inner, self._core, self.health, self.enter, self.event(), self.capture_lock)

    def enter(self) -> None:
        """Make this the calling thread's device: for libraries that take whichever is current."""
        if getattr(_CURRENT, "index", None) != self.index:
            self._inner.set_current()
            _CURRENT.index = self.index
