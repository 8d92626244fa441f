"""Who has the device next: one thread that enqueues the slices of all sessions and of everything else.

The highest priority comes first; among equals a clip that was begun, then the nearest deadline, then who was served
longest ago. Only a higher priority interrupts a clip. On a GPU at most two slices are enqueued, one that runs and one
that waits: so whoever comes with a higher priority waits for two slices at most, and the device never waits for the
host.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from emo_rt.checks import check, within
from emo_rt.runtime.lane import Lane

T = TypeVar("T")
Landing = Callable[[], None]
"""Waits for the end of a slice, and tells whom it concerns."""
Order = tuple[float, bool, float, int]
"""−priority, whether nothing was begun, deadline, turn: the smallest is next."""


class Job(Protocol):
    """Work in slices. Its methods never raise: an error is the job's own."""

    turn: int
    """When it was served last; the scheduler's."""

    def order(self) -> Order | None:
        """Where it stands in the queue; ``None`` = there is nothing to do now."""
        ...

    def advance(self) -> Landing | None:
        """Do or enqueue the next slice. Gives what is to be called when it is about to be over, if there is a need."""
        ...


class Scheduler:
    """Owns the thread, and the lanes that decode and paste. It lives as long as anybody uses it."""

    def __init__(self, ahead: int) -> None:
        """``ahead``: slices that may be enqueued behind the one that runs; 0 where the device is the CPU."""
        self._ahead = ahead
        self._jobs = list[Job]()
        self._turns = itertools.count(1)
        self._flying: deque[Landing] = deque()
        self._changed = threading.Condition()
        self.is_closing = False
        """Whether the threads end as soon as they have nothing to do."""
        self.decoding, self.pasting = Lane("decode"), Lane("paste")
        """Lanes for what is done with finished latents, and with their pictures."""
        self._thread = threading.Thread(target=self._work, name="emo_rt-schedule", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """From now on it is asked for slices."""
        with self._changed:
            job.turn = next(self._turns)
            self._jobs.append(job)
            self._changed.notify()

    def remove(self, job: Job) -> None:
        """From now on it is left alone, but for the slice that is being enqueued. Safe twice."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify()

    def wake(self) -> None:
        """Something has changed: a job may have work now. Not under a lock that jobs take."""
        with self._changed:
            self._changed.notify()

    def call(self, slices: Generator[None, None, T], priority: float = 0) -> T:
        """Do something else between the slices of the sessions, and wait for what it returns. Raises what it raises."""
        if self.is_current():
            return drive(slices)
        call = Call(slices, priority)
        self.add(call)
        try:
            result: T = call.wait()
            return result
        finally:
            self.remove(call)

    def is_current(self) -> bool:
        """Whether the caller is a callback of one of the threads here, which must not wait for them."""
        current = threading.current_thread() is self._thread
        return current or self.decoding.is_current() or self.pasting.is_current()

    def close(self) -> None:
        """End the threads, and wait for them unless this is one of them. No job may be left. Safe twice."""
        with self._changed:
            self.is_closing = True
            self._changed.notify()
        if not self.is_current():
            self._thread.join()
            self.decoding.close()
            self.pasting.close()

    def _work(self) -> None:
        while self._one_slice():
            pass
        self.decoding.end()
        self.pasting.end()

    def _one_slice(self) -> bool:
        """One turn of the loop; whether there will be another."""
        job = self._next()
        landing = None
        if job is not None:
            landing = job.advance()
            with self._changed:
                job.turn = next(self._turns)
            if landing is not None:
                self._flying.append(landing)
        elif not self._flying:
            return False
        # A job without a landing has waited for the device itself: who came before must not wait for whoever is next.
        if self._flying and (landing is None or len(self._flying) > self._ahead):
            self._flying.popleft()()
        return True

    def _next(self) -> Job | None:
        """The job whose turn it is; ``None`` if there is none, and something is enqueued or this is the end."""
        with self._changed:
            while True:
                waiting = [(order, job) for job in self._jobs if (order := job.order()) is not None]
                if waiting:
                    return min(waiting, key=lambda pair: pair[0])[1]
                if self._flying or self.is_closing:
                    return None
                self._changed.wait()


def check_priority(priority: object) -> None:
    """Raise :class:`ConfigError` for what is no priority of a job."""
    check(within(priority, -1e9, 1e9), "priority", priority, "a number, -1e9 … 1e9")


class Call:
    """A job that somebody waits for."""

    def __init__(self, slices: Generator[None, None, Any], priority: float) -> None:
        """Raises :class:`ConfigError` for a priority that is none: in the thread that all share, it would end it."""
        check_priority(priority)
        self.turn = 0
        self._slices, self._priority, self._is_begun = slices, priority, False
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def order(self) -> Order | None:
        """As every job."""
        return None if self._done.is_set() else (-self._priority, not self._is_begun, float("inf"), self.turn)

    def advance(self) -> None:
        """The next part of it; it waits for the device itself."""
        self._is_begun = True
        try:
            next(self._slices)
        except StopIteration as end:
            self._result = end.value
            self._done.set()
        except BaseException as exc:  # noqa: BLE001 - raised to whoever waits
            self._error = exc
            self._done.set()

    def wait(self) -> Any:
        """What it returns. Raises what it raises."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result


def drive(slices: Generator[None, None, T]) -> T:
    """Do all slices at once."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: T = end.value
            return result


def whole(work: Callable[[], T]) -> Generator[None, None, T]:
    """Something that is one slice."""
    return work()
    yield
