"""The time by which a live session goes. Tests inject another, in which hours pass in seconds."""

from __future__ import annotations

import time

from emo_rt.runtime.signal import Signal


class Clock:
    """The machine's monotonic clock, and waiting by it."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, signal: Signal, seen: int, until: float | None) -> None:
        """Until the signal has a newer version than ``seen``, or until a time."""
        signal.wait(seen, self._seconds(until))

    async def wait_async(self, signal: Signal, seen: int, until: float | None) -> None:
        """As :meth:`wait`, without blocking the event loop."""
        await signal.wait_async(seen, self._seconds(until))

    def _seconds(self, until: float | None) -> float | None:
        return None if until is None else max(until - self.now(), 0.0)
