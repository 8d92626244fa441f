"""A point in a stream's work."""

from __future__ import annotations

from typing import Any

from emo_rt.device.cuda.status import Health


class Event:
    """Marks a place in a stream. Recording it again moves it; one that was never recorded counts as passed."""

    def __init__(self, inner: Any, health: Health) -> None:
        self.inner, self._health = inner, health

    def synchronize(self) -> None:
        """Wait, on the host, until the device has passed it. One that was closed has: its owner waited before."""
        with self._health.check("wait for an event"):
            inner = self.inner
            if inner is not None:
                inner.sync()

    def is_done(self) -> bool:
        """Whether the device has passed it."""
        with self._health.check("ask for an event"):
            return bool(self.inner.is_done)

    def milliseconds_since(self, earlier: Event) -> float:
        """Device time between two timed events that were both passed."""
        with self._health.check("read a timer"):
            return float(self.inner - earlier.inner)

    def close(self) -> None:
        """Give the event back. Safe twice."""
        inner, self.inner = self.inner, None
        if inner is not None:
            inner.close()
