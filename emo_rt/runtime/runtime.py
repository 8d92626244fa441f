"""Everything that one device shares: its scheduler, its workers and its threads."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

from emo_rt.checks import check
from emo_rt.device.device_name import DeviceName
from emo_rt.errors import ClosedError
from emo_rt.runtime.live.admission import Admission
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.scheduler import Scheduler
from emo_rt.runtime.worker_pool import WorkerPool

T = TypeVar("T")

SLICES_AHEAD = {"cpu": 0, "cuda": 1}
"""Slices that are enqueued behind the one that runs."""

_SHARED: dict[str, Runtime] = {}
_SHARED_LOCK = threading.Lock()


class Talking(Protocol):
    """A session, as far as it is closed from here."""

    def close(self) -> None:
        """Safe twice."""
        ...


class Runtime:
    """Scheduler, workers and CPU threads of one device, for all models that are loaded on it.

    By default there is one per process and device, made when it is first needed. Pass one of your own as ``runtime=``
    to :meth:`emo_rt.Animator.load` to keep models apart from others: sessions of two runtimes know nothing of each
    other, and share the device as two processes would. Threads exist only while a session is open or something is
    prepared. A context manager; thread-safe.
    """

    def __init__(self, device: str = "cpu", *, live_bytes: int | None = None) -> None:
        """``device``: ``cpu``, ``cuda`` or ``cuda:1`` and so on. ``live_bytes``: memory that all live sessions together
        may need, their pictures and sound included; ``None`` = no limit. Raises :class:`ConfigError`."""
        name = DeviceName.read(device)
        check(live_bytes is None or live_bytes > 0, "live_bytes", live_bytes, "more than 0, or None")
        self.device = str(name)
        """``cpu``, ``cuda`` for the first GPU, or ``cuda:1`` and so on."""
        self._slices_ahead = SLICES_AHEAD[name.kind]
        self.admission = Admission(live_bytes)
        """Which live sessions may be opened."""
        self._pools: WeakKeyDictionary[LoadedModel, WorkerPool] = WeakKeyDictionary()
        self._talking = set[Talking]()
        self._scheduler: Scheduler | None = None
        self._users = 0
        self._is_closed = False
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, device: str) -> Runtime:
        """The one that every animator of this process uses unless it is given another."""
        with _SHARED_LOCK:
            runtime = _SHARED.get(device)
            if runtime is None or runtime._is_closed:
                runtime = _SHARED[device] = cls(device)
            return runtime

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        with self._lock:
            return len(self._talking)

    def workers(self, model: LoadedModel) -> WorkerPool:
        """The workers of a model."""
        with self._lock:
            pool = self._pools.get(model)
            if pool is None:
                pool = self._pools[model] = WorkerPool(model.backend.kept_workers)
            return pool

    def call(self, slices: Generator[None, None, T], priority: float = 0) -> T:
        """Do something on the device between the slices of the sessions. Raises what it raises."""
        scheduler = self.enter()
        try:
            return scheduler.call(slices, priority)
        finally:
            self.leave(scheduler)

    def enter(self, user: Talking | None = None) -> Scheduler:
        """The scheduler, for a session or another user until :meth:`leave`. Raises :class:`ClosedError`."""
        with self._lock:
            if self._is_closed:
                raise ClosedError("the runtime was closed; make another")
            if self._scheduler is None:
                self._scheduler = Scheduler(self._slices_ahead)
            self._users += 1
            if user is not None:
                self._talking.add(user)
            return self._scheduler

    def leave(self, scheduler: Scheduler, user: Talking | None = None) -> None:
        """The last to leave ends the threads."""
        with self._lock:
            self._users -= 1
            if user is not None:
                self._talking.discard(user)
            if self._users:
                return
            self._scheduler = None
        scheduler.close()

    def close(self) -> None:
        """End all sessions with a :class:`ClosedError` and give all workers back. Safe twice."""
        with self._lock:
            self._is_closed = True
            talking, pools = list(self._talking), list(self._pools.values())
        for session in talking:
            session.close()
        for pool in pools:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
