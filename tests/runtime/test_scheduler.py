"""The scheduler: who has waited for the device does not keep others from hearing that their slice is done."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

from emo_rt.runtime.scheduler import Landing, Order, Scheduler

PATIENCE_S = 30


class OneSlice:
    """A session with one slice to enqueue."""

    def __init__(self) -> None:
        self.turn = 0
        self.is_begun = False
        self.landed = threading.Event()

    def order(self) -> Order | None:
        return None if self.is_begun else (0.0, True, float("inf"), self.turn)

    def advance(self) -> Landing:
        self.is_begun = True
        return self.landed.set


def test_a_slice_lands_while_others_prepare_pictures_without_a_pause() -> None:
    session = OneSlice()

    def pictures() -> Generator[None, None, bool]:
        scheduler.add(session)
        for _ in range(100):  # a job that waits for the device itself, and always has more to do
            if session.landed.is_set():
                return True
            yield
        return False

    with closing(Scheduler(ahead=1)) as scheduler:
        assert scheduler.call(pictures(), priority=-1)
        assert session.landed.wait(PATIENCE_S)
        scheduler.remove(session)
