"""A queue of work on the device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from emo_rt.device.cuda.capture_lock import CaptureLock
from emo_rt.device.cuda.captured_graph import CapturedGraph
from emo_rt.device.cuda.event import Event
from emo_rt.device.cuda.memory import View
from emo_rt.device.cuda.status import Health
from emo_rt.errors import BackendError, CaptureError, ClosedError, DeviceLostError


class Stream:
    """Work runs in the order in which it was enqueued, beside the work of other streams."""

    def __init__(
        self,
        inner: Any,
        core: Any,
        health: Health,
        enter: Callable[[], None],
        tail: Event,
        capture_lock: CaptureLock,
    ) -> None:
        """``enter``: makes the device current in the calling thread; ``tail``: an event of this stream's own."""
        self._inner: Any = inner
        self._core, self._health, self._enter = core, health, enter
        self._tail, self._capture_lock = tail, capture_lock
        self.lock = threading.RLock()
        """Held while something is enqueued: what two threads enqueue must not get into one capture."""
        self.is_capturing = False
        """Whether what is enqueued now goes into a graph."""
        self.has_ended = False
        """Whether it takes no more work."""

    @property
    def inner(self) -> Any:
        """The ``cuda.core`` stream. Raises :class:`ClosedError` after :meth:`close`."""
        if self._inner is None:
            raise ClosedError("the animator was closed; load it again")
        return self._inner

    @property
    def handle(self) -> int:
        """``cudaStream_t`` as an address, for TensorRT and ONNX Runtime. Hold :attr:`lock` while they enqueue.

        Raises :class:`ClosedError` after :meth:`end`.
        """
        self._require_open()
        return int(self.inner.handle)

    def record(self, event: Event) -> None:
        """Move an event to the end of what is enqueued."""
        with self._enqueueing("record an event"):
            self.inner.record(event.inner)

    def wait(self, event: Event) -> None:
        """Let later work of this stream wait, on the device, for what ``event`` marks now."""
        with self._enqueueing("wait for another stream"):
            self.inner.wait(event.inner)

    def copy(self, target: View, source: View) -> None:
        """Copy as many bytes as ``source`` has, between any two of device and pinned memory."""
        assert target.nbytes == source.nbytes, f"{source.nbytes} bytes into {target.nbytes}"
        with self._enqueueing("copy memory"):
            self._buffer(source).copy_to(self._buffer(target), stream=self.inner)

    def clear(self, target: View) -> None:
        """Write zeros."""
        with self._enqueueing("clear memory"):
            self._buffer(target).fill(0, stream=self.inner)

    def launch(self, graph: CapturedGraph) -> None:
        """Enqueue captured work."""
        with self._enqueueing("launch a CUDA graph"):
            graph.inner.launch(self.inner)

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        """Put what ``enqueue`` enqueues here into a graph instead of running it.

        Thread-local mode: other threads may go on using other streams, and what is unsafe in this thread fails.
        Raises :class:`CaptureError`; the stream can be used again afterwards.
        """
        with self._capture_lock.exclusive(), self._enqueueing("capture a CUDA graph"):
            builder = self.inner.create_graph_builder()
            try:
                graph = self._captured(builder, enqueue)
            except BaseException:
                with suppress(Exception):  # of a capture that was invalidated it raises, too, and hides the reason
                    builder.close()
                raise
            builder.close()
            graph.inner.upload(self.inner)
            return graph

    def _captured(self, builder: Any, enqueue: Callable[[], None]) -> CapturedGraph:
        builder.begin_building("thread_local")
        self.is_capturing = True
        try:
            enqueue()
            builder.end_building()
        except BaseException as exc:
            with suppress(Exception):  # an invalid capture must be ended all the same; its error is known already
                builder.end_building()
            if isinstance(exc, DeviceLostError) or not isinstance(exc, Exception):
                raise
            raise CaptureError(f"the work cannot be captured as a CUDA graph: {exc}") from exc
        finally:
            self.is_capturing = False
        try:
            return CapturedGraph(builder.complete())
        except Exception as exc:
            raise CaptureError(f"the captured CUDA graph cannot be made executable: {exc}") from exc

    def synchronize(self) -> None:
        """Wait, on the host, until everything that is enqueued is done. Other threads may go on enqueueing.

        Nobody may wait for a stream that is being captured, so this waits for an event, which is recorded behind any
        capture of another thread. Works after :meth:`end`, too.
        """
        with self.lock, self._health.check("wait for a stream"):
            if self.is_capturing:
                raise BackendError("a stream that is being captured cannot be waited for")
            self._enter()
            self.inner.record(self._tail.inner)
        self._tail.synchronize()

    def end(self) -> None:
        """Take no more work: whoever enqueues gets a :class:`ClosedError`. What is enqueued goes on."""
        with self.lock:
            self.has_ended = True

    def close(self) -> None:
        """Give the stream back. Safe twice."""
        with self.lock:
            inner, self._inner = self._inner, None
            if inner is not None:
                inner.close()
                self._tail.close()

    @contextmanager
    def _enqueueing(self, what: str) -> Iterator[None]:
        with self.lock, self._health.check(what):
            self._require_open()
            self._enter()
            yield

    def _require_open(self) -> None:
        if self.has_ended:
            raise ClosedError("the animator was closed; load it again")

    def _buffer(self, view: View) -> Any:
        if view.offset == 0 and view.nbytes == view.memory.nbytes:
            return view.memory.inner
        return self._core.Buffer.from_handle(view.pointer, view.nbytes, owner=view.memory.inner)
