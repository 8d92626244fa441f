"""Jobs and avatars that survive the server: rows in SQLite, files in a folder for each.

A folder is complete before its row is there, and a row is gone before its folder: what a killed server leaves behind is
a folder without a row, which the next start removes. A job that was running starts again.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from emo_rt.errors import ConfigError
from emo_rt.files import exclusive
from emo_rt.serve.errors import room_on_disk
from emo_rt.serve.records import COMPLETED, FAILED, IN_PROGRESS, QUEUED, AvatarRecord, Job
from emo_rt.serve.schema import SCHEMA, VERSION

MOST_ATTEMPTS = 3
"""A job is begun at most so often: once, and twice again after the server died on it."""
VIDEO, THUMBNAIL, PICTURE, SOUND = "video.mp4", "thumbnail.jpg", "picture.npy", "sound.npy"
SENT_SIZE = "sent_size.npy"
"""Files of a job."""

RecordT = TypeVar("RecordT", Job, AvatarRecord)


class Store:
    """One folder of one server. Thread-safe; a context manager."""

    def __init__(self, folder: Path, *, keep_s: float = math.inf, now: Callable[[], float] = time.time) -> None:
        """Opens the folder, or makes it. ``keep_s``: seconds that a finished job is kept. ``now``: seconds since 1970.

        Raises :class:`ConfigError` where another server has it, or a newer emo_rt has written it.
        """
        self.folder, self._keep_s, self._now = folder, keep_s, now
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("jobs", "avatars", "incoming"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        try:
            self._lock_file = exclusive(folder / "lock")
        except BlockingIOError as exc:
            raise ConfigError(f"another server uses {folder}; stop it, or choose another folder") from exc
        self._lock = threading.RLock()
        # The folder may be an old one that all can read; SQLite's other files get the rights of this one.
        os.close(os.open(folder / "store.sqlite", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        (folder / "store.sqlite").chmod(0o600)
        self._database = sqlite3.connect(folder / "store.sqlite", isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            self._recover()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self._database.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000"):
            self._database.execute(f"PRAGMA {pragma}")
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if found > VERSION:
            raise ConfigError(f"{self.folder} was written by a newer emo_rt (format {found}); this one reads {VERSION}")
        self._database.executescript(SCHEMA)
        self._database.execute(f"PRAGMA user_version = {VERSION}")

    def _recover(self) -> None:
        """What the last server left: jobs that ran start again, files without a row go."""
        message = f"the server ended {MOST_ATTEMPTS} times while it made this video; it is not tried again"
        with self._change() as change:
            change("DELETE FROM jobs WHERE is_sync", ())  # whoever waited has gone with the server
            change(
                "UPDATE jobs SET status = ?, error_code = 'server_ended', error_message = ?, completed_at = ?, "
                "expires_at = ? WHERE status = ? AND attempts >= ?",
                (FAILED, message, self.time(), self._expiry(), IN_PROGRESS, MOST_ATTEMPTS),
            )
            change("UPDATE jobs SET status = ? WHERE status = ?", (QUEUED, IN_PROGRESS))
        shutil.rmtree(self.folder / "incoming")
        (self.folder / "incoming").mkdir(mode=0o700)
        for table in ("jobs", "avatars"):
            known = {row["id"] for row in self._read(f"SELECT id FROM {table}")}
            for entry in (self.folder / table).iterdir():
                if entry.name not in known:
                    shutil.rmtree(entry, ignore_errors=True)
        for scratch in self.folder.glob("jobs/*/.emo_rt-*"):
            scratch.unlink()

    def time(self) -> int:
        """Seconds since 1970."""
        return int(self._now())

    def _expiry(self) -> int | None:
        return None if math.isinf(self._keep_s) else int(self._now() + self._keep_s)

    # Rows

    def add(self, record: Job | AvatarRecord, incoming: Path | None) -> None:
        """Keep a job or an avatar whose files are in ``incoming``, a folder of this store.

        Raises :class:`ApiError` where the disk is full; nothing is kept then.
        """
        target = self.place(record)
        try:
            with room_on_disk():
                if incoming is None:
                    target.mkdir(mode=0o700)
                else:
                    incoming.rename(target)
                columns = record.row()
                names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
                with self._change() as change:
                    change(f"INSERT INTO {_table(record)} ({names}) VALUES ({marks})", columns)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def job(self, name: str, owner: str) -> Job | None:
        """A job of this owner."""
        return self._one(Job, "SELECT * FROM jobs WHERE id = ? AND owner = ?", (name, owner))

    def jobs(self, owner: str, *, after: str | None, limit: int, newest_first: bool) -> list[Job] | None:
        """Up to ``limit`` jobs of this owner by time, behind the job ``after``; ``None`` if that is unknown."""
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        condition, values = "owner = ?", [owner]
        if after is not None:
            found = self._read("SELECT seq FROM jobs WHERE id = ? AND owner = ?", (after, owner))
            if not found:
                return None
            condition, values = f"owner = ? AND seq {sign} ?", [owner, found[0]["seq"]]
        rows = self._read(f"SELECT * FROM jobs WHERE {condition} ORDER BY seq {order} LIMIT ?", (*values, limit))
        return [Job.of(row) for row in rows]

    def avatar(self, name: str, owner: str) -> AvatarRecord | None:
        """An avatar of this owner."""
        return self._one(AvatarRecord, "SELECT * FROM avatars WHERE id = ? AND owner = ?", (name, owner))

    def avatars(self, owner: str) -> list[AvatarRecord]:
        """All avatars of this owner, the newest first."""
        rows = self._read("SELECT * FROM avatars WHERE owner = ? ORDER BY seq DESC", (owner,))
        return [AvatarRecord.of(row) for row in rows]

    def delete(self, record: Job | AvatarRecord) -> bool:
        """Delete the row; ``False`` if it was gone. The files are for :meth:`remove_files`."""
        with self._change() as change:
            return change(f"DELETE FROM {_table(record)} WHERE id = ?", (record.id,)) > 0

    def waiting(self, owner: str | None = None) -> int:
        """How many jobs wait or run, in all or of one owner."""
        where, values = ("", ()) if owner is None else (" AND owner = ?", (owner,))
        query = f"SELECT count(*) AS n FROM jobs WHERE status IN (?, ?){where}"
        return int(self._read(query, (QUEUED, IN_PROGRESS, *values))[0]["n"])

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        rows = self._read("SELECT status, count(*) AS n FROM jobs GROUP BY status")
        found = {row["status"]: row["n"] for row in rows}
        return {status: int(found.get(status, 0)) for status in (QUEUED, IN_PROGRESS, COMPLETED, FAILED)}

    def used_bytes(self, owner: str | None = None) -> int:
        """Room that jobs and avatars take on disk, all or those of one owner."""
        where, values = ("", ()) if owner is None else (" WHERE owner = ?", (owner,))
        queries = [f"SELECT coalesce(sum(bytes), 0) AS n FROM {table}{where}" for table in ("jobs", "avatars")]
        return sum(int(self._read(query, values)[0]["n"]) for query in queries)

    # A job's way

    def claim(self) -> Job | None:
        """The oldest queued job, which is in progress from now on."""
        query = (
            "UPDATE jobs SET status = ?, attempts = attempts + 1 WHERE seq = "
            "(SELECT seq FROM jobs WHERE status = ? ORDER BY seq LIMIT 1) RETURNING *"
        )
        return self._one(Job, query, (IN_PROGRESS, QUEUED))

    def requeue(self, job: Job, *, counts: bool = False) -> bool:
        """It was not let finish. ``counts``: whether this attempt counts. ``False`` if it was deleted."""
        return self._update(job, status=QUEUED, attempts=job.attempts if counts else max(job.attempts - 1, 0))

    def note_size(self, job: Job, size: str) -> bool:
        """The size of the video is known now."""
        return self._update(job, size=size)

    def complete(self, job: Job, *, seconds: str, stats: str) -> bool:
        """Its files are there. ``stats``: JSON. ``False`` if it was deleted meanwhile."""
        self._drop_inputs(job)
        return self._update(
            job,
            status=COMPLETED,
            completed_at=self.time(),
            expires_at=self._expiry(),
            seconds=seconds,
            stats=stats,
            bytes=folder_bytes(self.place(job)),
        )

    def fail(self, job: Job, code: str, message: str) -> bool:
        """It ended without a video. ``False`` if it was deleted meanwhile."""
        self._drop_inputs(job)  # first: on a full disk this makes room for the row
        (self.place(job) / VIDEO).unlink(missing_ok=True)
        (self.place(job) / THUMBNAIL).unlink(missing_ok=True)
        return self._update(
            job,
            status=FAILED,
            completed_at=self.time(),
            expires_at=self._expiry(),
            error_code=code,
            error_message=message,
            bytes=0,
        )

    def expire(self) -> int:
        """Delete what is older than it may be. Returns how many jobs."""
        query = "SELECT * FROM jobs WHERE expires_at <= ?"
        old = [Job.of(row) for row in self._read(query, (self.time(),))]
        for job in old:
            if self.delete(job):
                self.remove_files(job)
        return len(old)

    # Files

    def place(self, record: Job | AvatarRecord) -> Path:
        """The folder with its files."""
        return self.folder / _table(record) / record.id

    @contextmanager
    def incoming(self, name: str) -> Iterator[Path]:
        """A new folder to gather files in. What is not moved away is removed in the end."""
        path = self.folder / "incoming" / name
        with room_on_disk():
            path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def remove_files(self, record: Job | AvatarRecord) -> None:
        """Of a job or an avatar whose row is gone. Safe twice."""
        shutil.rmtree(self.place(record), ignore_errors=True)

    def free_bytes(self) -> int:
        """Room that is left on the disk."""
        return shutil.disk_usage(self.folder).free

    def close(self) -> None:
        """Safe twice."""
        with self._lock:
            self._database.close()
            self._lock_file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop_inputs(self, job: Job) -> None:
        for name in (PICTURE, SENT_SIZE, SOUND):
            (self.place(job) / name).unlink(missing_ok=True)

    def _update(self, job: Job, **values: Any) -> bool:
        sets = ", ".join(f"{name} = :{name}" for name in values)
        with self._change() as change:
            return change(f"UPDATE jobs SET {sets} WHERE id = :id AND status = :before",
                          {**values, "id": job.id, "before": IN_PROGRESS}) > 0  # fmt: skip

    def _one(self, cls: type[RecordT], query: str, values: Sequence[Any]) -> RecordT | None:
        rows = self._read(query, values)
        return cls.of(rows[0]) if rows else None

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[Callable[[str, Any], int]]:
        """One transaction: a function that executes and gives the number of rows."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield lambda query, values: self._database.execute(query, values).rowcount
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))


def _table(record: Job | AvatarRecord) -> str:
    return "jobs" if isinstance(record, Job) else "avatars"
