"""The driver: gives rows to workers, writes down what becomes of them, and starts workers anew that die."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from emo_rt.batch.crew import Crew
from emo_rt.batch.ledger import Ledger, Summary
from emo_rt.batch.manifest import Row, rows_of
from emo_rt.batch.process import WorkerProcess
from emo_rt.batch.remote_folder import open_folder
from emo_rt.batch.schedule import Schedule
from emo_rt.batch.task import Done, Model, Task
from emo_rt.checks import check
from emo_rt.model.bundle import Bundle

LOOK_S = 0.2
"""How often the driver looks whether it shall stop."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    """Rows of this run that have ended."""
    total: int
    """Rows of this run."""
    failed: int
    """Those of them that failed or are poisoned."""
    running: int
    """Rows in the hands of workers."""


def run_batch(
    manifest: str | Path | Sequence[Row],
    folder: str | Path,
    *,
    model: Model | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    parquet: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Make all videos of a manifest (see :func:`read_manifest`) that are not in ``folder`` yet.

    ``folder`` is made if need be, with ``results.jsonl``, ``journal.jsonl`` and ``videos/``. ``model``: the packaged
    one unless given. ``workers``: processes, each with the model loaded; 1 or more. ``retry_failed``: also those that
    failed or are poisoned. ``parquet``: also write ``results.parquet`` at the end. Setting ``stop`` lets the running
    rows end and gives no new ones out; :class:`KeyboardInterrupt` stops them. After both, and whatever else ends the
    process, the next call goes on.

    A bad row, or a video that cannot be made, is a result and never an exception. Raises :class:`ConfigError`,
    :class:`InputError` for the manifest, :class:`OutputError` where the folder cannot be written or is full,
    :class:`BundleError`, :class:`BackendError`, :class:`MissingDependencyError`.
    """
    check(isinstance(workers, int) and workers >= 1, "workers", workers, "an integer, 1 or more")
    start, model = time.monotonic(), model or Model()
    rows = rows_of(manifest)
    bundle = Bundle.open(model.bundle).sha256
    with open_folder(folder, rows, bundle, retry_failed=retry_failed, parquet=parquet) as output:
        ledger = Ledger(output, bundle)
        with Crew(shared_out(model, workers), workers) as crew:
            try:
                _Run(ledger, progress, stop or threading.Event()).go(crew)
            except BaseException:
                ledger.abandon()
                raise
        output.finish()
        return replace(ledger.summary(), wall_s=time.monotonic() - start)


def shared_out(model: Model, workers: int) -> Model:
    """The model as each of so many workers loads it: together they have not more CPU threads than there are cores."""
    if model.threads is not None or workers == 1:
        return model
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return replace(model, threads=max(1, cores // workers))


class _Run:
    """One pass over the rows that are left."""

    def __init__(self, ledger: Ledger, progress: Callable[[Progress], None] | None, stop: threading.Event) -> None:
        self._ledger, self._progress, self._stop = ledger, progress, stop
        self._schedule = Schedule()

    def go(self, crew: Crew) -> None:
        """Until every row has ended, or a stop."""
        for task, alone in self._ledger.admit():
            self._schedule.add(task, alone=alone)
        self._tell(crew)
        while crew.busy or (self._schedule and not self._stop.is_set()):
            if not self._stop.is_set():
                crew.fill(len(self._schedule) + crew.busy)
                self._give_out(crew)
            for worker in self._heard(crew):
                self._hear(worker, crew)
        crew.dismiss()

    def _give_out(self, crew: Crew) -> None:
        for worker in crew.idle:
            if crew.is_one_alone:
                return
            found = self._schedule.take(worker, time.monotonic(), crew.busy)
            if found is not None:
                task, alone = found
                self._ledger.begin(task.key, worker.pid, alone=alone)
                worker.give(task, alone=alone)
        self._tell(crew)

    def _heard(self, crew: Crew) -> list[WorkerProcess]:
        """Workers that have something to say, after a short wait."""
        pause = self._schedule.next_wait(time.monotonic())
        pipes = {worker.pipe: worker for worker in crew.workers}
        ready = wait(list(pipes), min(LOOK_S, pause or LOOK_S))  # 0: a row waits for a worker, not for its time
        return [pipes[pipe] for pipe in ready]  # type: ignore[index]

    def _hear(self, worker: WorkerProcess, crew: Crew) -> None:
        message, task, device = worker.receive(), worker.task, worker.device
        if isinstance(message, Done) and task is not None:
            worker.task, worker.is_leaving = None, message.is_last
            self._row_ended(task, message, device)
        elif message is None:
            self._schedule.leave(worker)
            exit_code = crew.bury(worker)
            if task is not None and self._ledger.died(task.key, exit_code):
                self._schedule.add(task, alone=self._ledger.must_be_alone(task.key))
        else:
            crew.greet(worker, message)
        self._tell(crew)

    def _row_ended(self, task: Task, done: Done, device: str) -> None:
        pause = self._ledger.finish(task, done, device)
        if pause is not None:
            alone = self._ledger.must_be_alone(task.key)
            self._schedule.later(task, time.monotonic() + pause, alone=alone)

    def _tell(self, crew: Crew) -> None:
        if self._progress is not None:
            ledger = self._ledger
            self._progress(Progress(ledger.counts.total(), ledger.total, ledger.bad, crew.busy))
