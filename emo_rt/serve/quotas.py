"""How much one key may do at a time and in a minute."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emo_rt.serve.errors import ApiError
from emo_rt.serve.settings import MEGABYTE, Limits
from emo_rt.serve.store import Store

MINUTE = 60.0


class Quotas:
    """Counts what owners do. Thread-safe."""

    def __init__(self, limits: Limits, store: Store, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._store, self._now = limits, store, now
        self._begun: dict[str, deque[float]] = {}
        self._sessions: Counter[str] = Counter()
        self._coming: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def sessions(self) -> int:
        """Live sessions that are open."""
        with self._lock:
            return self._sessions.total()

    def note_request(self, owner: str) -> None:
        """One more upload or session. Raises :class:`ApiError` 429 where a minute has had enough."""
        most = self._limits.max_requests_per_minute
        if most is None:
            return
        with self._lock:
            begun, now = self._begun.setdefault(owner, deque()), self._now()
            while begun and begun[0] <= now - MINUTE:
                begun.popleft()
            if len(begun) >= most:
                wait = max(1, round(begun[0] + MINUTE - now))
                raise ApiError(429, "too_many_requests", f"{most} requests a minute are allowed", retry_after_s=wait)
            begun.append(now)

    @contextmanager
    def place_in_queue(self, owner: str) -> Iterator[None]:
        """While a job is on its way in, it counts already. Raises :class:`ApiError` 429 and 503."""
        self.check_storage(owner)
        limits = self._limits
        with self._lock:
            everybody = self._store.waiting() + self._coming.total()
            own = self._store.waiting(owner) + self._coming[owner]
            if everybody >= limits.max_queue:
                raise ApiError(429, "queue_full", f"{everybody} jobs wait already; try later", retry_after_s=30)
            if own >= limits.max_queue_per_key:
                message = f"{own} jobs of yours wait already; try later"
                raise ApiError(429, "queue_full", message, retry_after_s=30)
            self._coming[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming[owner] -= 1

    @contextmanager
    def session(self, owner: str) -> Iterator[None]:
        """A live session, while it is open. Raises :class:`ApiError` 429."""
        limits = self._limits
        with self._lock:
            if self._sessions.total() >= limits.max_sessions or self._sessions[owner] >= limits.max_sessions_per_key:
                raise ApiError(
                    429, "too_many_sessions", "no more live sessions are possible now; close one, or try later"
                )
            self._sessions[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._sessions[owner] -= 1

    def check_storage(self, owner: str) -> None:
        """Raise :class:`ApiError` 503 where there is no room for one more, 429 where this owner has too much."""
        own, most_own = self._store.used_bytes(owner), self._limits.max_storage_mb_per_key * MEGABYTE
        if own >= most_own:
            message = f"you keep {own >> 20} MB here and may keep {most_own >> 20}; delete what you do not need"
            raise ApiError(429, "storage_full", message, retry_after_s=60)
        used, most = self._store.used_bytes(), self._limits.max_storage_mb * MEGABYTE
        if used >= most:
            message = f"the server keeps {used >> 20} MB and may keep {most >> 20}; delete what you do not need"
            raise ApiError(503, "storage_full", message, retry_after_s=60)
        if self._store.free_bytes() < self._limits.min_free_mb * MEGABYTE:
            raise ApiError(503, "disk_full", "the server's disk is nearly full; try again later", retry_after_s=60)
