"""A clock for live sessions in which hours pass in seconds: time goes on only when everybody waits for it.

Whoever takes pairs waits in :meth:`SimulatedClock.wait`; the model "works" as long as :meth:`SimulatedClock.step` says,
which is given to a session as ``progress``. What is computed is real, only how long it takes is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from emo_rt import Clock, LiveSession, Progress
from emo_rt.runtime.signal import Signal

GLANCE_S = 0.0005
PATIENCE_S = 60.0


class SimulatedClock(Clock):
    """One thread takes the pairs of all sessions; the scheduler's thread works."""

    def __init__(self, step_s: float = 0.0) -> None:
        """``step_s``: what one solver step takes; may be changed at any time."""
        self.step_s = step_s
        self.parts_s: tuple[float, ...] = ()
        """What decoding takes, part by part, where no step takes time: see :meth:`part`."""
        self._now = 1000.0
        self._sessions = list[LiveSession]()
        self._changed = threading.Condition()
        self._until: float | None = None
        self._has_ended = False

    def now(self) -> float:
        return self._now

    def watch(self, session: LiveSession) -> LiveSession:
        """While a clip of it is made, time passes only as it is worked on."""
        self._sessions.append(session)
        return session

    def forget(self, session: LiveSession) -> None:
        """It was closed."""
        self._sessions.remove(session)

    def step(self, _: Progress) -> None:
        """Work on one solver step."""
        if self.step_s:
            self.work(self.step_s)

    def part(self, number: int) -> None:
        """Decode one part of a clip's pictures, in the decoder's thread."""
        if self.parts_s:
            self.work(self.parts_s[number])

    def work(self, seconds: float) -> None:
        """In the thread that works: return when so much time has passed."""
        with self._changed:
            self._until = self._now + seconds
            done = self._changed.wait_for(lambda: self._until is None or self._has_ended, PATIENCE_S)
            assert done, "nobody takes pairs"

    def work_alone(self, seconds: float) -> None:
        """Time passes while nobody works."""
        self._now += seconds

    def let_pass(self) -> None:
        """The work of the moment is done."""
        self._pass(None)

    def end(self) -> None:
        """Nobody will take pairs any more."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait(self, signal: Signal, seen: int, until: float | None) -> None:
        self.wait_for_any([(signal, seen)], until)

    def wait_for_any(self, signals: Sequence[tuple[Signal, int]], until: float | None) -> None:
        """As :meth:`wait`, for several sessions whose pairs one thread takes."""
        while all(signal.version == seen for signal, seen in signals):
            if self._is(lambda clip: clip.is_denoised) and not self._is_decoding():
                signals[0][0].wait(signals[0][1], GLANCE_S)  # decoding costs nothing, and is waited for
            elif self._pass(until):
                return
            elif until is None or self._is(lambda clip: True):
                signals[0][0].wait(signals[0][1], GLANCE_S)
            else:
                self._now = max(self._now, until)
                return

    def _is(self, state: Callable[..., bool]) -> bool:
        """Whether a clip of any session is in that state."""
        makers = [session._maker for session in self._sessions if not session._maker._outbox.is_over]
        return any(state(clip) for maker in makers for clip in list(maker.making.values()))

    def _is_decoding(self) -> bool:
        """Whether a part is decoded, and everything else is done that can be done beside it."""
        with self._changed:
            return bool(self.parts_s) and self._until is not None and not self._is(lambda clip: not clip.begun_at)

    def _pass(self, until: float | None) -> bool:
        """Let time pass up to the end of the work, or up to ``until`` if that is before; whether it was."""
        with self._changed:
            if self._until is None:
                return False
            if until is not None and until < self._until:
                self._now = max(self._now, until)
                return True
            self._now, self._until = self._until, None
            self._changed.notify_all()
            return False
