"""Finished chunks on their way to whoever takes them, in another thread or in an event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from emo_rt.errors import ClosedError
from emo_rt.runtime.signal import Signal
from emo_rt.runtime.stages import Chunk

POLL_S = 0.05
"""How often a waiting taker looks whether its caller wants to stop, where only polling shows that."""


class Outbox:
    """Chunks in order, then the end; an error ends everything at once. Thread-safe."""

    def __init__(self) -> None:
        self.signal = Signal()
        """Tells whoever waits for a chunk."""
        self.changed = self.signal.changed
        """Guards this, and what else changes together with it."""
        self._error: BaseException | None = None
        self._is_closed = False
        self._chunks: deque[Chunk] = deque()
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """Whether an error, or closing, has ended it: nothing more will be taken."""
        return self._is_closed or self._error is not None

    def put(self, chunk: Chunk) -> None:
        """The next one."""
        with self.changed:
            if not self.is_over:
                self._chunks.append(chunk)
            self.signal.tell()

    def end(self) -> None:
        """No more will come."""
        with self.changed:
            self._has_ended = True
            self.signal.tell()

    def fail(self, error: BaseException) -> None:
        """Drop what waits; the first error is raised to everyone who takes."""
        with self.changed:
            if not self.is_over:
                self._error = error
            self._chunks.clear()
            self.signal.tell()

    def close(self) -> None:
        """Drop what waits, and an error as well: its traceback would keep alive what its frames hold."""
        with self.changed:
            self._is_closed, self._error = True, None
            self._chunks.clear()
            self.signal.tell()

    def raise_error(self) -> None:
        """Raise what has ended it, if something has."""
        with self.changed:
            if self._is_closed:
                raise ClosedError("the session was closed; open another")
            if self._error is not None:
                raise self._error

    def ready(self) -> bool:
        """Whether :meth:`take` need not wait."""
        with self.changed:
            return bool(self._chunks) or self._has_ended or self.is_over

    def waiting(self) -> int:
        """Chunks that are there."""
        with self.changed:
            return len(self._chunks)

    def take(self) -> Chunk:
        """The next one; one must be :meth:`ready`. Raises the error, or ``StopIteration`` at the end."""
        with self.changed:
            self.raise_error()
            if self._chunks:
                return self._chunks.popleft()
            raise StopIteration

    def wait(self, check: Callable[[], None] | None) -> None:
        """Until it is ready. ``check`` is called now and then, and may raise."""
        with self.changed:
            while not self.ready():
                if check is not None:
                    check()
                self.signal.wait(self.signal.version, None if check is None else POLL_S)

    async def wait_async(self, check: Callable[[], None] | None) -> None:
        """As :meth:`wait`, without a thread that waits."""
        seen = self.signal.version
        while not self.ready():
            if check is not None:
                check()
            await self.signal.wait_async(seen, None if check is None else POLL_S)
            seen = self.signal.version
