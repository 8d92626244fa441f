"""One store for all replicas: rows in one process, files in a folder that all of them see.

SQLite wants one machine, and jobs want one queue. So the store itself runs in one Ray actor, the keeper, and each
replica has a :class:`SharedStore`, which asks it. A replica that made a job and is silent has died: its job goes back
to the queue, and what it may still say of it counts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emo_rt.serve.records import AvatarRecord, Job
from emo_rt.serve.store import MOST_ATTEMPTS, Store

SILENT_S = 20.0
"""A replica that says nothing for so long is taken for dead."""
ENDS = ("complete", "fail", "requeue", "note_size")
"""What only the replica may say that has the job."""
FORWARDED = (
    "add", "job", "jobs", "avatar", "avatars", "delete", "waiting", "counts", "used_bytes", "claim", "expire",
    "remove_files", *ENDS,
)  # fmt: skip
"""Methods of the store that the keeper runs."""


class Keeper:
    """Runs as a Ray actor. One call at a time."""

    def __init__(self, folder: str, keep_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """Opens the folder. ``keep_s``: as of :class:`Store`. Raises :class:`ConfigError`."""
        self._store = Store(Path(folder), keep_s=keep_s)
        self._now = now
        self._seen: dict[str, float] = {}
        self._claims: dict[str, tuple[str, Job]] = {}

    def call(self, replica: str, method: str, *args: Any, **more: Any) -> Any:
        """A method of the store, for a replica. Raises what that raises."""
        self.beat(replica)
        if method == "claim":
            return self._claim(replica)
        if method in ENDS:
            return self._end(replica, method, args[0], *args[1:], **more)
        if method == "remove_files" and self._has_row(args[0]):
            return None  # a replica that was taken for dead clears up, and another one has made the video
        return getattr(self._store, method)(*args, **more)

    def beat(self, replica: str) -> list[Job]:
        """A replica lives. Jobs that it makes and nobody wants any more."""
        self._seen[replica] = self._now()
        self._release_of_dead()
        own = [job for holder, job in self._claims.values() if holder == replica]
        return [job for job in own if self._store.job(job.id, job.owner) is None]

    def close(self) -> None:
        """Safe twice."""
        self._store.close()

    def _claim(self, replica: str) -> Job | None:
        job = self._store.claim()
        if job is not None:
            self._claims[job.id] = (replica, job)
        return job

    def _end(self, replica: str, method: str, job: Job, *args: Any, **more: Any) -> bool:
        holder, _ = self._claims.get(job.id, ("", job))
        if holder != replica:
            return False
        if method != "note_size":
            del self._claims[job.id]
        if self._store.job(job.id, job.owner) is None:
            return False
        return bool(getattr(self._store, method)(job, *args, **more))

    def _has_row(self, record: Job | AvatarRecord) -> bool:
        find = self._store.job if isinstance(record, Job) else self._store.avatar
        return find(record.id, record.owner) is not None

    def _release_of_dead(self) -> None:
        """Jobs of replicas that are silent are queued again, or given up."""
        oldest = self._now() - SILENT_S
        for name, (holder, job) in list(self._claims.items()):
            if self._seen.get(holder, oldest - 1) < oldest:
                del self._claims[name]
                if job.attempts < MOST_ATTEMPTS:
                    self._store.requeue(job, counts=True)
                else:
                    message = f"the server ended {job.attempts} times while it made this video; it is not tried again"
                    self._store.fail(job, "server_ended", message)


class SharedStore(Store):
    """A store whose rows are the keeper's. ``place``, ``incoming`` and ``free_bytes`` are of the shared folder."""

    def __init__(self, folder: Path, ask: Callable[..., Any]) -> None:
        """``ask(method, *args)``: :meth:`Keeper.call` for this replica."""
        self.folder, self._ask, self._now = folder, ask, time.time

    def close(self) -> None:
        """Nothing is open here."""


def _forward(method: str) -> Callable[..., Any]:
    def forwarded(self: SharedStore, *args: Any, **more: Any) -> Any:
        return self._ask(method, *args, **more)

    forwarded.__name__, forwarded.__doc__ = method, getattr(Store, method).__doc__
    return forwarded


for _method in FORWARDED:
    setattr(SharedStore, _method, _forward(_method))
