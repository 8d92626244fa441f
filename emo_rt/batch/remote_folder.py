"""An output folder by URL: videos go there, and copies of results and journal; what is appended to is on this machine.

Stores of objects cannot append. So journal and results grow in a folder of this machine's cache and are copied every
half minute and at the end. Another machine goes on from the copy: what it lacks is made again, under the same names.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from emo_rt.batch.folder import RESULTS, TABLE, VIDEOS, OutputFolder
from emo_rt.batch.journal import JOURNAL
from emo_rt.batch.manifest import Row
from emo_rt.batch.remote import Remote, is_url
from emo_rt.batch.result import RowResult
from emo_rt.batch.task import Task
from emo_rt.errors import OutputError

COPY_S = 30.0
"""Seconds between two copies of journal and results."""


def open_folder(
    folder: str | os.PathLike[str], rows: Sequence[Row], bundle: str, *, retry_failed: bool, parquet: bool
) -> OutputFolder:
    """The folder of a path or a URL. Raises as :class:`OutputFolder`."""
    kind: Callable[..., OutputFolder] = RemoteFolder if is_url(folder) else OutputFolder
    place = folder if is_url(folder) else Path(folder)
    return kind(place, rows, bundle, retry_failed=retry_failed, parquet=parquet)


def cache_of(url: str) -> Path:
    """Where this machine keeps the journal of a folder by URL."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "emo_rt", "batch", hashlib.sha256(url.encode()).hexdigest()[:16])


class RemoteFolder(OutputFolder):
    """A context manager, as the folder that it stands for."""

    def __init__(self, url: str, rows: Sequence[Row], bundle: str, *, retry_failed: bool, parquet: bool) -> None:
        """Raises :class:`OutputError`, :class:`InputError` for a URL that is none, :class:`MissingDependencyError`."""
        self._url = url.rstrip("/")
        self._videos = Remote(f"{self._url}/{VIDEOS}").names()
        super().__init__(cache_of(self._url), rows, bundle, retry_failed=retry_failed, parquet=parquet)
        try:
            self._copy(JOURNAL)
        except OutputError:
            self.close()
            raise

    def _make_and_lock(self, opening: ExitStack) -> None:
        """And look at the journal there, which is there from the start of the first run on."""
        super()._make_and_lock(opening)
        here = self._path / JOURNAL
        # the names, as they fail where the store does: taken for absent, the journal there would be overwritten
        if JOURNAL not in Remote(self._url).names():
            here.unlink(missing_ok=True)  # of a folder that was deleted since: its rows are all new
        elif not here.exists():
            Remote(f"{self._url}/{JOURNAL}").fetch(here)

    def task(self, key: str) -> Task:
        """A row for a worker, which writes the video there."""
        task = super().task(key)
        return Task(task.key, task.fields, task.portrait, f"{self._url}/{VIDEOS}/{key}.mp4")

    def relative(self, task: Task) -> str:
        """Where its video is, from the folder."""
        return task.output.removeprefix(f"{self._url}/")

    def end(self, result: RowResult) -> None:
        """The last word on a row. Raises :class:`OutputError`."""
        super().end(result)
        if time.monotonic() - self._copied_at > COPY_S:
            self._copy(JOURNAL, RESULTS)

    def finish(self) -> None:
        """Copy all. Raises :class:`OutputError`."""
        super().finish()
        self._copy(JOURNAL, RESULTS, TABLE)

    def _has_video(self, result: RowResult) -> bool:
        return Path(result.output).name in self._videos

    def _copy(self, *names: str) -> None:
        for name in names:
            if (self._path / name).exists():
                Remote(f"{self._url}/{name}").put(self._path / name)
        self._copied_at = time.monotonic()
