"""What becomes of each row: who may start, what an end means, and the counts. No processes, no clock."""

from __future__ import annotations

import contextlib
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from emo_rt.batch.folder import OutputFolder
from emo_rt.batch.result import RowResult
from emo_rt.batch.task import Done, Task
from emo_rt.errors import OutputError
from emo_rt.version import __version__

BACK_OFF_S = (1.0, 4.0)
"""Pauses before a row is tried again after an error that may pass: two more attempts."""
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "av")
"""Packages whose versions go into results, where they are installed."""


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


class Ledger:
    """Rows of one run in an open folder. Every method writes to the journal before it returns."""

    def __init__(self, output: OutputFolder, bundle: str) -> None:
        """``bundle``: hash of the model."""
        self._output, self._bundle = output, bundle
        self._journal = output.journal
        self._versions = versions()
        self.counts: Counter[str] = Counter()
        """Rows that ended in this run, by status."""
        self.total = len(output.rows)
        """Rows of this run."""

    @property
    def bad(self) -> int:
        """Rows that failed or are poisoned."""
        return self.counts["failed"] + self.counts["poisoned"]

    def admit(self) -> Iterator[tuple[Task, bool]]:
        """Rows to run, and whether alone. Bad rows and poison pills end here."""
        for key, row in self._output.rows.items():
            history = self._journal.row(key)
            if row.error is not None:
                self._end(key, status="failed", error_type=type(row.error).__name__, error=str(row.error))
            elif history.is_poisoned:
                self._poison(key)
            else:
                yield self._output.task(key), history.must_be_alone

    def begin(self, key: str, worker: int, *, alone: bool) -> None:
        """A process is about to start a row."""
        self._journal.begin(key, worker, alone=alone)

    def finish(self, task: Task, done: Done, device: str) -> float | None:
        """A worker is through with a row. Seconds until it is to be tried again; ``None``: that was the last word.

        Raises :class:`OutputError` where the disk is full.
        """
        errors = self._journal.row(task.key).errors
        if done.is_storage_full:
            self._journal.stopped(task.key)
            raise OutputError(f"{done.error}; make room and run the same command again: it goes on with this row")
        if done.is_transient and errors < len(BACK_OFF_S):
            self._journal.retry(task.key, done.error)
            return BACK_OFF_S[errors]
        if done.error_type:
            self._end(task.key, status="failed", error_type=done.error_type, error=done.error,
                      wall_s=done.wall_s, device=device)  # fmt: skip
            return None
        self._end(task.key, status="ok", output=self._output.relative(task), sha256=done.sha256, frames=done.frames,
                  seconds=done.seconds, wall_s=done.wall_s, device=device, mark=done.mark)  # fmt: skip
        return None

    def died(self, key: str, exit_code: int | None) -> bool:
        """The row's worker died. Whether it may run again."""
        self._journal.died(key, exit_code)
        if self._journal.row(key).is_poisoned:
            self._poison(key)
            return False
        return True

    def lost(self, key: str) -> None:
        """The row ended with its machine: that counts only where it ran alone."""
        self._journal.lost(key)
        if self._journal.row(key).is_poisoned:
            self._poison(key)

    def must_be_alone(self, key: str) -> bool:
        """Whether nothing may run beside the row."""
        return self._journal.row(key).must_be_alone

    def attempts(self, key: str) -> int:
        """How often the row was begun."""
        return self._journal.row(key).attempts

    def has_ended(self, key: str) -> bool:
        """Whether the last word on the row is said."""
        return self._journal.row(key).result is not None

    def is_open(self, key: str) -> bool:
        """Whether the row was begun and nothing is known of the end."""
        return self._journal.row(key).is_open

    def abandon(self) -> None:
        """The run ends early: that is not the fault of the rows which run now."""
        for key in self._journal.open_rows():
            with contextlib.suppress(OutputError):  # the disk may be full: then the next run calls them lost
                self._journal.stopped(key)

    def summary(self) -> Summary:
        """What has been done."""
        bad = [known for known in self._output.known if known.status != "ok"]
        return Summary(
            made=self.counts["ok"],
            failed=self.counts["failed"],
            poisoned=self.counts["poisoned"],
            skipped=len(self._output.known),
            skipped_bad=len(bad),
            left=self.total - self.counts.total(),
            results=self._output.results_path,
        )

    def _poison(self, key: str) -> None:
        deaths = self._journal.row(key).deaths
        error = f"{deaths} attempts ended with their process; the row is given up"
        self._end(key, status="poisoned", error_type="WorkerDied", error=error)

    def _end(self, key: str, **facts: object) -> None:
        row, attempts = self._output.rows[key], self._journal.row(key).attempts
        known = {"row": row.number, "attempts": attempts, "options": row.options_sha256, "bundle": self._bundle}
        result = RowResult(id=row.id, key=key, versions=self._versions, **known, **facts)  # type: ignore[arg-type]
        self._output.end(result)
        self.counts[result.status] += 1


def versions() -> dict[str, str]:
    """Package → version, of those that make videos."""
    found = {"emo_rt": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
