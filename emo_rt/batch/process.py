"""A worker as the driver sees it: a process, a pipe, and the row that it has."""

from __future__ import annotations

import contextlib
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from emo_rt.batch import worker
from emo_rt.batch.task import Model, Task

LEAVE_S = 10.0
"""How long a worker that was told to end may take to free its model."""


class WorkerProcess:
    """One process. Made by the driver, in the thread that keeps running: on Linux the process ends with that thread."""

    def __init__(self, model: Model) -> None:
        """Start it; it loads the model by itself."""
        context = multiprocessing.get_context("spawn")  # a fork would take locks of the driver's threads along
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=worker.main, args=(other, model), name="emo_rt-batch", daemon=True)
        self._process.start()
        other.close()
        self.device = ""
        """Backend and device in words; empty until the model is loaded."""
        self.task: Task | None = None
        """The row that it has."""
        self.is_alone = False
        """Whether that row runs alone."""
        self.is_leaving = False
        """Whether it ends by itself after what it does."""

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def pipe(self) -> Connection:
        """Readable when it has sent something, or is gone."""
        return self._pipe

    @property
    def is_idle(self) -> bool:
        """Whether it can take a row."""
        return bool(self.device) and self.task is None and not self.is_leaving

    @property
    def exit_code(self) -> int | None:
        """As of :class:`multiprocessing.Process`; waits until it is gone."""
        self._process.join()
        return self._process.exitcode

    def give(self, task: Task, *, alone: bool) -> None:
        """Send a row. That it is gone shows when it is read from."""
        self.task, self.is_alone = task, alone
        self._send(task)

    def receive(self) -> Any:
        """What it sent; ``None`` if it is gone."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            return None

    def dismiss(self) -> None:
        """Tell it to end after what it does."""
        self.is_leaving = True
        self._send(None)

    def close(self) -> None:
        """End it, at once unless it leaves by itself. Safe twice."""
        try:
            if self.is_leaving and self.task is None:
                self._process.join(LEAVE_S)
        finally:  # also after Ctrl-C
            self._process.kill()
            self._process.join()
            self._pipe.close()

    def _send(self, message: Task | None) -> None:
        with contextlib.suppress(OSError):  # it died meanwhile
            self._pipe.send(message)
