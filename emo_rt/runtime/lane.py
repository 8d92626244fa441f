"""A thread that does one thing after the other, in the order in which they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Lane:
    """Owns the thread; it is started with the first job. Jobs must not raise. :meth:`close` does what waits first."""

    def __init__(self, name: str) -> None:
        """``name``: of the thread, behind ``emo_rt-``."""
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name=f"emo_rt-{name}", daemon=True)

    def put(self, job: Callable[[], None]) -> None:
        """Do it when its turn comes."""
        with self._changed:
            if self._thread.ident is None:
                self._thread.start()
            self._jobs.append(job)
            self._changed.notify()

    def is_current(self) -> bool:
        """Whether the caller is a job of this lane."""
        return self._thread is threading.current_thread()

    def end(self) -> None:
        """Do what waits, then end the thread. Nothing more may come."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    def close(self) -> None:
        """As :meth:`end`, and wait for the thread unless this is it. Safe twice."""
        self.end()
        if self._thread.ident is not None and not self.is_current():
            self._thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()
            del job  # it would keep a session until the next one comes

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closing)
            return self._jobs.popleft() if self._jobs else None
