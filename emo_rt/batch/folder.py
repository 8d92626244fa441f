"""The folder that a run writes to: videos, journal, results. One driver at a time has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

from emo_rt.batch import tables
from emo_rt.batch.journal import JOURNAL, Journal, ResultsFile
from emo_rt.batch.keys import Keys
from emo_rt.batch.manifest import Row
from emo_rt.batch.result import NUMBERS, TEXTS, RowResult
from emo_rt.batch.task import Task
from emo_rt.errors import OutputError
from emo_rt.files import exclusive, remove_leftovers

VIDEOS = "videos"
RESULTS = "results.jsonl"
TABLE = "results.parquet"
LOCK = ".lock"


class FolderBusyError(OutputError):
    """Another driver has the folder."""


class OutputFolder:
    """A context manager. Knows which rows of a manifest are done and which are left."""

    def __init__(self, path: Path, rows: Sequence[Row], bundle: str, *, retry_failed: bool, parquet: bool) -> None:
        """Open or make it. Raises :class:`OutputError`, :class:`MissingDependencyError`."""
        if parquet:
            tables.require_parquet()
        self._path, self._parquet = path.absolute(), parquet
        self._is_closed = False
        self._ended: list[RowResult] = []
        self.known: list[RowResult] = []
        """Rows that had ended before."""
        self.rows: dict[str, Row] = {}
        """Rows that are left, by the names of their videos."""
        with ExitStack() as opening:
            self._make_and_lock(opening)
            self.journal = opening.enter_context(Journal(self._path / JOURNAL))
            self._keys = Keys(self.journal, bundle)
            for row in rows:
                self._sort_in(self._keys.key(row), row, retry_failed)
            self._results = opening.enter_context(closing(ResultsFile(self.results_path, self.known)))
            self._open = opening.pop_all()

    @property
    def results_path(self) -> Path:
        """The file with one line per row."""
        return self._path / RESULTS

    def task(self, key: str) -> Task:
        """A row for a worker."""
        row = self.rows[key]
        return Task(key, row.fields, self._keys.portrait(row), str(self._path / VIDEOS / f"{key}.mp4"))

    def relative(self, task: Task) -> str:
        """Where its video is, from this folder."""
        return Path(task.output).relative_to(self._path).as_posix()

    def end(self, result: RowResult) -> None:
        """The last word on a row: first the journal, then the results. Raises :class:`OutputError`."""
        self.journal.end(result)
        self._results.add(result)
        self._ended.append(result)

    def finish(self) -> None:
        """Write the table of all results, if there shall be one. Raises :class:`OutputError`."""
        found = sorted([*self.known, *self._ended], key=lambda result: result.row)
        if self._parquet and found:
            tables.write_rows(self._path / TABLE, [result.to_dict() for result in found], TEXTS, NUMBERS)

    def close(self) -> None:
        """Remove what killed workers left, and let go of the folder; no worker may write there now. Safe twice."""
        if not self._is_closed:
            self._is_closed = True
            with suppress(OSError):
                remove_leftovers(self._path / VIDEOS)
            self._open.close()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_video(self, result: RowResult) -> bool:
        return (self._path / result.output).is_file()

    def _make_and_lock(self, opening: ExitStack) -> None:
        try:
            (self._path / VIDEOS).mkdir(parents=True, exist_ok=True)
            opening.enter_context(exclusive(self._path / LOCK))
            remove_leftovers(self._path / VIDEOS)
        except BlockingIOError as exc:
            raise FolderBusyError(
                f"another batch is writing to {self._path}; wait for it, or choose another folder"
            ) from exc
        except OSError as exc:
            raise OutputError(f"the folder {self._path} cannot be written: {exc}") from exc

    def _sort_in(self, key: str, row: Row, retry_failed: bool) -> None:
        """To what is done, or to what is left."""
        result = self.journal.row(key).result
        if result is None:
            self.rows[key] = row
        elif retry_failed if result.status != "ok" else not self._has_video(result):
            self.journal.again(key)
            self.rows[key] = row
        else:
            self.known.append(replace(result, row=row.number))
