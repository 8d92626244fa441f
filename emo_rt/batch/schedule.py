"""Which row runs next, and where: rows of one portrait behind each other, suspects alone. No processes, no clock."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from emo_rt.batch.task import Task


@dataclass(eq=False)
class Group:
    """Rows of one portrait that wait."""

    tasks: deque[Task] = field(default_factory=deque)
    """In the order of the manifest."""
    workers: set[Hashable] = field(default_factory=set)
    """Who has this portrait prepared."""
    is_queued: bool = False
    """Whether it waits for its first worker."""


class Schedule:
    """Rows that wait. A row that was given out comes back only with :meth:`add` or :meth:`later`."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._free: deque[Group] = deque()
        self._owned: dict[Hashable, Group] = {}
        self._alone: deque[Task] = deque()
        self._later: list[tuple[float, int, Task, bool]] = []
        self._numbers = itertools.count()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, task: Task, *, alone: bool = False) -> None:
        """A row to run; ``alone``: with nothing beside it, and before all others."""
        self._waiting += 1
        if alone:
            self._alone.append(task)
            return
        group = self._groups.setdefault(task.portrait, Group())
        group.tasks.append(task)
        if not group.workers and not group.is_queued:
            group.is_queued = True
            self._free.append(group)

    def later(self, task: Task, when: float, *, alone: bool = False) -> None:
        """A row to run again, not before ``when``."""
        self._waiting += 1
        heapq.heappush(self._later, (when, next(self._numbers), task, alone))

    def next_wait(self, now: float) -> float | None:
        """Seconds until a row comes back; ``None`` if none is to come."""
        return max(0.0, self._later[0][0] - now) if self._later else None

    def take(self, worker: Hashable, now: float, in_flight: int) -> tuple[Task, bool] | None:
        """The next row for ``worker``, and whether it runs alone; ``None`` where there is none for now.

        ``in_flight``: rows that run. While a row runs alone, do not ask.
        """
        while self._later and self._later[0][0] <= now:
            _, _, task, alone = heapq.heappop(self._later)
            self._waiting -= 1
            self.add(task, alone=alone)
        if self._alone:
            return self._taken(self._alone, True) if in_flight == 0 else None
        group = self._group_for(worker)
        return None if group is None else self._taken(group.tasks, False)

    def leave(self, worker: Hashable) -> None:
        """A worker is gone, and with it what it has prepared."""
        group = self._owned.pop(worker, None)
        if group is None:
            return
        group.workers.discard(worker)
        if group.tasks and not group.workers:
            group.is_queued = True
            self._free.appendleft(group)

    def _taken(self, tasks: deque[Task], alone: bool) -> tuple[Task, bool]:
        self._waiting -= 1
        return tasks.popleft(), alone

    def _group_for(self, worker: Hashable) -> Group | None:
        """Its own, one that nobody has, or the one with most rows per worker."""
        own = self._owned.get(worker)
        if own is not None and own.tasks:
            return own
        self.leave(worker)
        if self._free:
            chosen = self._free.popleft()
            chosen.is_queued = False
        else:
            shared = [group for group in self._owned.values() if group.tasks]
            if not shared:
                return None
            chosen = max(shared, key=lambda group: len(group.tasks) / len(group.workers))
        chosen.workers.add(worker)
        self._owned[worker] = chosen
        return chosen
