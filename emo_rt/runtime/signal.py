"""Wakes whoever waits for a change, in threads and in event loops."""

from __future__ import annotations

import asyncio
import threading


class Signal:
    """A condition for both worlds. :attr:`version` tells a change that came before the waiting."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        """Guards what it tells of."""
        self.version = 0
        """How often it was told."""
        self._waiters = list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    def tell(self) -> None:
        """Something has changed."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()
            for loop, event in self._waiters:
                loop.call_soon_threadsafe(event.set)

    def wait(self, seen: int, seconds: float | None) -> None:
        """Until there is a newer version than ``seen``, at most ``seconds``."""
        with self.changed:
            if self.version == seen:
                self.changed.wait(seconds)

    async def wait_async(self, seen: int, seconds: float | None) -> None:
        """As :meth:`wait`, without a thread that waits."""
        waiter = asyncio.get_running_loop(), asyncio.Event()
        with self.changed:
            if self.version != seen:
                return
            self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter[1].wait(), seconds)
        except TimeoutError:
            return
        finally:
            with self.changed:
                self._waiters.remove(waiter)
