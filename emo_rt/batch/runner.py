"""The driver: gives rows to workers, writes down what becomes of them, and starts workers anew that die."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from multiprocessing.connection import wait
from pathlib import Path

from emo_rt.batch.crew import Crew
from emo_rt.batch.folder import OutputFolder
from emo_rt.batch.manifest import Row, read_manifest
from emo_rt.batch.process import WorkerProcess
from emo_rt.batch.result import RowResult
from emo_rt.batch.schedule import Schedule
from emo_rt.batch.task import Done, Model, Task
from emo_rt.checks import check
from emo_rt.errors import OutputError
from emo_rt.model.bundle import Bundle
from emo_rt.version import __version__

BACK_OFF_S = (1.0, 4.0)
"""Pauses before a row is tried again after an error that may pass: two more attempts."""
LOOK_S = 0.2
"""How often the driver looks whether it shall stop."""
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "av")
"""Packages whose versions go into results, where they are installed."""


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


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    made: int = 0
    """New videos."""
    failed: int = 0
    """Rows that failed now."""
    poisoned: int = 0
    """Rows that were given up now, since they kill their workers."""
    skipped: int = 0
    """Rows that had ended before, whatever their status."""
    skipped_bad: int = 0
    """Those of them that had failed or were poisoned; ``retry_failed`` runs them again."""
    left: int = 0
    """Rows that were not run, since the run was stopped."""
    wall_s: float = 0.0
    """Seconds."""
    results: Path = Path()
    """The file with one line per row."""


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
    rows = read_manifest(manifest) if isinstance(manifest, str | os.PathLike) else list(manifest)
    bundle = Bundle.open(model.bundle).sha256
    with OutputFolder(Path(folder), rows, bundle, retry_failed=retry_failed, parquet=parquet) as output:
        run = _Run(output, bundle, progress, stop or threading.Event())
        with Crew(shared_out(model, workers), workers) as crew:
            try:
                run.go(crew)
            except BaseException:
                run.abandon(crew)
                raise
        output.finish()
        return replace(run.summary(), wall_s=time.monotonic() - start)


def shared_out(model: Model, workers: int) -> Model:
    """The model as each of so many workers loads it: together they have not more CPU threads than there are cores."""
    if model.threads is not None or workers == 1:
        return model
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return replace(model, threads=max(1, cores // workers))


class _Run:
    """One pass over the rows that are left."""

    def __init__(
        self,
        output: OutputFolder,
        bundle: str,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self._output, self._journal = output, output.journal
        self._progress, self._stop = progress, stop
        self._versions = _versions()
        self._bundle = bundle
        self._counts: Counter[str] = Counter()
        self._schedule = Schedule()
        self._total = len(output.rows)

    def go(self, crew: Crew) -> None:
        """Until every row has ended, or a stop."""
        self._admit()
        self._tell(crew)
        while crew.busy or (self._schedule and not self._stop.is_set()):
            if not self._stop.is_set():
                crew.fill(len(self._schedule) + crew.busy)
                self._give_out(crew)
            for worker in self._heard(crew):
                self._hear(worker, crew)
        crew.dismiss()

    def abandon(self, crew: Crew) -> None:
        """The run ends early: what workers have is not their rows' fault."""
        for worker in crew.workers:
            if worker.task is not None:
                with contextlib.suppress(OutputError):  # the disk may be full: then the next run calls them lost
                    self._journal.stopped(worker.task.key)

    def summary(self) -> Summary:
        """What has been done."""
        bad = [known for known in self._output.known if known.status != "ok"]
        return Summary(
            made=self._counts["ok"],
            failed=self._counts["failed"],
            poisoned=self._counts["poisoned"],
            skipped=len(self._output.known),
            skipped_bad=len(bad),
            left=self._total - self._counts.total(),
            results=self._output.results_path,
        )

    def _admit(self) -> None:
        """Bad rows and poison pills end now; the others wait for a worker."""
        for key, row in self._output.rows.items():
            history = self._journal.row(key)
            if row.error is not None:
                self._end(key, status="failed", error_type=type(row.error).__name__, error=str(row.error))
            elif history.is_poisoned:
                self._poison(key)
            else:
                self._schedule.add(self._output.task(key), alone=history.must_be_alone)

    def _give_out(self, crew: Crew) -> None:
        for worker in crew.idle:
            if crew.is_one_alone:
                return
            found = self._schedule.take(worker, time.monotonic(), crew.busy)
            if found is not None:
                task, alone = found
                self._journal.begin(task.key, worker.pid, alone=alone)
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
            if task is not None:
                self._worker_died(task, exit_code)
        else:
            crew.greet(worker, message)
        self._tell(crew)

    def _row_ended(self, task: Task, done: Done, device: str) -> None:
        errors = self._journal.row(task.key).errors
        if done.is_storage_full:
            self._journal.stopped(task.key)
            raise OutputError(f"{done.error}; make room and run the same command again: it goes on with this row")
        if done.is_transient and errors < len(BACK_OFF_S):
            self._journal.retry(task.key, done.error)
            self._schedule.later(task, time.monotonic() + BACK_OFF_S[errors])
            return
        if done.error_type:
            self._end(task.key, status="failed", error_type=done.error_type, error=done.error,
                      wall_s=done.wall_s, device=device)  # fmt: skip
            return
        self._end(task.key, status="ok", output=self._output.relative(task), sha256=done.sha256, frames=done.frames,
                  seconds=done.seconds, wall_s=done.wall_s, device=device, mark=done.mark)  # fmt: skip

    def _worker_died(self, task: Task, exit_code: int | None) -> None:
        self._journal.died(task.key, exit_code)
        history = self._journal.row(task.key)
        if history.is_poisoned:
            self._poison(task.key)
        else:
            self._schedule.add(task, alone=history.must_be_alone)

    def _poison(self, key: str) -> None:
        deaths = self._journal.row(key).deaths
        error = f"{deaths} attempts ended with their process; the row is given up"
        self._end(key, status="poisoned", error_type="WorkerDied", error=error)

    def _end(self, key: str, **facts: object) -> None:
        row, attempts = self._output.rows[key], self._journal.row(key).attempts
        known = {"row": row.number, "attempts": attempts, "options": row.options_sha256, "bundle": self._bundle}
        result = RowResult(id=row.id, key=key, versions=self._versions, **known, **facts)  # type: ignore[arg-type]
        self._output.end(result)
        self._counts[result.status] += 1

    def _tell(self, crew: Crew) -> None:
        if self._progress is not None:
            failed = self._counts["failed"] + self._counts["poisoned"]
            self._progress(Progress(self._counts.total(), self._total, failed, crew.busy))


def _versions() -> dict[str, str]:
    found = {"emo_rt": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
