"""The ledger of a run on a cluster: one process on the driver's machine, which all workers ask before a row.

Ray starts rows again by itself when a worker or its machine is gone. So the worker asks here first: an attempt that is
still open ended with its process, and only this place knows how often that has happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emo_rt.batch.crew import MOST_STILLBORN
from emo_rt.batch.folder import FolderBusyError
from emo_rt.batch.ledger import Ledger, Summary
from emo_rt.batch.manifest import Row
from emo_rt.batch.remote_folder import open_folder
from emo_rt.batch.task import Done, Task
from emo_rt.errors import EmoRtError

BUSY_S = 60.0
"""How long the folder may still belong to a driver that was killed: Ray ends its processes a moment later."""


@dataclass(frozen=True)
class State:
    """How far the run is."""

    done: int
    """Rows of this run that have ended."""
    total: int
    """Rows of this run."""
    failed: int
    """Those of them that failed or are poisoned."""
    running: int
    """Rows in the hands of workers."""
    steps: int
    """Grows with each row that ends or ends its worker."""
    failure: EmoRtError | None
    """What ends the run."""


class RayLedger:
    """Runs as a Ray actor, one call at a time. Closed with its process, which ends with the driver."""

    def __init__(self, is_alive: Callable[[str], bool]) -> None:
        """``is_alive``: whether the machine of that name is still there."""
        self._is_alive = is_alive
        self._where: dict[str, str] = {}
        self._tasks: dict[str, Task] = {}
        self._loading: set[str] = set()
        self._steps = self._stillborn = 0
        self._is_stopping = False
        self._failure: EmoRtError | None = None

    def open(self, folder: str, rows: Sequence[Row], bundle: str, *, retry_failed: bool, parquet: bool) -> None:
        """As :class:`OutputFolder`; waits a moment for one that another driver has. Raises the same."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                self._output = open_folder(folder, rows, bundle, retry_failed=retry_failed, parquet=parquet)
                break
            except FolderBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self._ledger = Ledger(self._output, bundle)
        self._tasks = {task.key: task for task, _ in self._ledger.admit()}

    def left(self) -> list[tuple[Task, bool]]:
        """Rows that have not ended, and whether nothing may run beside them; an attempt that is open has died."""
        for key in list(self._where):
            self._close_attempt(key)
        rows = [task for key, task in self._tasks.items() if not self._ledger.has_ended(key)]
        return [(task, self._ledger.must_be_alone(task.key)) for task in rows]

    def begin(self, key: str, node: str, worker: int, *, alone: bool) -> int | None:
        """A worker of machine ``node`` is about to start a row. Number of the attempt, or ``None``: leave it."""
        try:
            if self._ledger.is_open(key):
                self._close_attempt(key)
            is_wanted = not self._is_stopping and not self._ledger.has_ended(key)
            if not is_wanted or (self._ledger.must_be_alone(key) and not alone):
                return None
            self._ledger.begin(key, worker, alone=alone)
        except EmoRtError as exc:
            self.fail(exc)
            return None
        self._where[key] = node
        return self._ledger.attempts(key)

    def finish(self, key: str, attempt: int, done: Done, device: str) -> float | None:
        """A worker is through with a row: seconds until it shall try again, or ``None``.

        What a worker says that was taken for dead counts nothing.
        """
        if not self._ledger.is_open(key) or self._ledger.attempts(key) != attempt:
            return None
        self._steps += 1
        del self._where[key]
        try:
            return self._ledger.finish(self._tasks[key], done, device)
        except EmoRtError as exc:
            self.fail(exc)
            return None

    def loading(self, actor: str) -> bool:
        """An actor is about to load its model. ``False``: so many died of it that it shall not."""
        self._stillborn += actor in self._loading
        self._loading.add(actor)
        return self._stillborn < MOST_STILLBORN

    def loaded(self, actor: str) -> None:
        """It has loaded it."""
        self._loading.discard(actor)
        self._stillborn = 0

    def fail(self, error: EmoRtError) -> None:
        """End the run: rows that run may end, no other starts."""
        self._failure = self._failure or error
        self._is_stopping = True

    def stop(self) -> None:
        """Give out no more rows."""
        self._is_stopping = True

    def state(self) -> State:
        """How far the run is."""
        counts = self._ledger.counts.total()
        running = len(self._where)
        return State(counts, self._ledger.total, self._ledger.bad, running, self._steps + counts, self._failure)

    def abandon(self) -> None:
        """The run ends early."""
        self._is_stopping = True
        self._ledger.abandon()

    def close(self) -> Summary:
        """The end: the table of results, and the lock. Raises :class:`OutputError`."""
        with self._output:
            self._output.finish()
        return self._ledger.summary()

    def _close_attempt(self, key: str) -> None:
        """It was open as somebody else came for the row."""
        self._steps += 1
        if self._is_alive(self._where.pop(key)):
            self._ledger.died(key, None)
        else:
            self._ledger.lost(key)
