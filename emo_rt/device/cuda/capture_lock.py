"""Who may allocate while something is captured: nobody. CUDA's rules, and ONNX Runtime's captures, ask for it.

A capture in global mode, as ONNX Runtime's are, is lost when any thread of the process allocates or frees device memory
or page-locked memory (CUDA driver API, ``cuThreadExchangeStreamCaptureMode``). So whoever does such a thing holds the
lock together with others of its kind, and whoever captures holds it alone. It comes before the lock of a stream.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureLock:
    """Held by many that allocate, or by one that captures. Who has it may take it again, but for a sharer alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharers: dict[int, int] = {}
        """Thread → how many times it holds the lock together with others."""
        self._owner: int | None = None
        self._depth = 0
        self._waiting = 0
        """Threads that want it for themselves: those come first, or they would wait for ever."""

    @contextmanager
    def shared(self) -> Iterator[None]:
        """For calls that would spoil a capture: allocating, freeing, runs that may do so."""
        me = threading.get_ident()
        with self._changed:
            if me != self._owner and me not in self._sharers:
                self._changed.wait_for(lambda: self._owner is None and not self._waiting)
            self._sharers[me] = self._sharers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._sharers[me] -= 1
                if not self._sharers[me]:
                    del self._sharers[me]
                    self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """For a capture. Waits until nobody allocates."""
        me = threading.get_ident()
        with self._changed:
            if me != self._owner:
                assert me not in self._sharers, "a thread that shares the lock would wait for itself"
                self._waiting += 1
                try:
                    self._changed.wait_for(lambda: self._owner is None and not self._sharers)
                finally:
                    self._waiting -= 1
                self._owner = me
            self._depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._owner = None
                    self._changed.notify_all()


CAPTURE_LOCK = CaptureLock()
"""The one of this process: a capture in global mode is lost by any thread, whatever device it uses."""
