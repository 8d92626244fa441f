"""One builder at a time: a lock on a file in the engines' folder. The system frees it when a process dies."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from emo_rt.errors import Cancelled, OutputError

LOCK_NAME = ".lock"
POLL_S = 0.2
"""How often a waiting builder looks again."""


class BuildLock:
    """A context manager that holds the lock of a folder."""

    def __init__(self, folder: Path, report: Callable[[str], None], stop: threading.Event) -> None:
        """``report``: told once if another builder is at work. ``stop``: ends the wait with :class:`Cancelled`."""
        self._path = folder / LOCK_NAME
        self._report, self._stop = report, stop
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as exc:
            raise OutputError(f"cannot lock {self._path}: {exc.strerror}; pass another folder with --cache") from exc
        self._file = open(handle, "r+b")  # closed in __exit__
        try:
            self._wait(self._file)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _wait(self, file: IO[bytes]) -> None:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                self._report(f"another process builds in {self._path.parent}; waiting for it")
                told = True
            if self._stop.is_set():
                raise Cancelled("stopped while another process was building")
            time.sleep(POLL_S)


def _try_lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
