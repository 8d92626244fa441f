"""One builder at a time: a lock on a file in the engines' folder. The system frees it when a process dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from emo_rt.errors import Cancelled, MissingDependencyError, OutputError

LOCK_NAME = ".lock"
POLL_S = 0.2
"""How often a waiting builder looks again."""


class BuildLock:
    """A context manager that holds the lock of a folder."""

    def __init__(self, folder: Path, report: Callable[[str], None], stop: threading.Event) -> None:
        """``report``: told once if another builder is at work. ``stop``: ends the wait with :class:`Cancelled`."""
        try:
            from filelock import FileLock
        except ImportError as exc:
            raise MissingDependencyError("building engines needs filelock; pip install filelock") from exc
        self._path = folder / LOCK_NAME
        self._report, self._stop = report, stop
        self._lock = FileLock(self._path)

    def __enter__(self) -> Self:
        try:
            self._path.parent.stat()  # filelock would make the folder
            self._wait()
        except OSError as exc:
            raise OutputError(f"cannot lock {self._path}: {exc.strerror}; pass another folder with --cache") from exc
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()

    def _wait(self) -> None:
        from filelock import Timeout

        told = False
        while True:
            try:
                self._lock.acquire(timeout=0)
                return
            except Timeout:  # somebody else has it
                if not told:
                    self._report(f"another process builds in {self._path.parent}; waiting for it")
                    told = True
            if self._stop.is_set():
                raise Cancelled("stopped while another process was building")
            time.sleep(POLL_S)
