"""Which preset a live session runs now: as good as it can be in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emo_rt.runtime.live.costs import Beside, Costs, Rung, follow
from emo_rt.runtime.live.maker import LiveClip

FULL = 0.9
"""Share of a clip's length that making it may take, beyond which a session steps down."""
ROOMY = 0.75
"""Share that a better preset must not exceed, for a session to step up to it."""
PATIENCE = 6
"""Clips in a row that must have left room, before a session steps up."""
HASTE = 1.15
"""A clip is begun so many times its expected seconds before it is due."""
ALONE = Beside(0.0, 0.0)


class Ladder:
    """Goes down before frames come late, and up again when there is room. The owner locks."""

    def __init__(
        self, rungs: Sequence[Rung], costs: Costs, clip_s: float, beside: Callable[[], Beside] = lambda: ALONE
    ) -> None:
        """``rungs``: the best first. ``clip_s``: seconds that a clip lasts. ``beside``: what other sessions do."""
        self.rungs, self.costs, self._clip_s, self._beside = tuple(rungs), costs, clip_s, beside
        self.at = 0
        """Number of the present rung."""
        self.steps_down = self.steps_up = 0
        """How often it went."""
        self.slowdown = 1.0
        """How many times as long as measured at first a clip takes now."""
        self.waited = 0.0
        """Seconds that a clip waits for other sessions."""
        self.behind_s = 0.0
        """As of :class:`Costs`, of this session's latest clips."""
        self._roomy = 0

    @property
    def rung(self) -> Rung:
        """The present one."""
        return self.rungs[self.at]

    @property
    def lead(self) -> float:
        """Seconds before its first frame is due at which a clip is to be begun."""
        return self.whole_s - HASTE * min(self.behind_s, self.seconds)

    @property
    def whole_s(self) -> float:
        """Seconds until all frames of a clip are there that is begun now."""
        return HASTE * self.seconds + max(HASTE * self.waited, self._beside().clips_s)

    @property
    def is_too_slow(self) -> bool:
        """Whether even the last rung takes longer than its clip lasts."""
        return self.expected(len(self.rungs) - 1) > self._clip_s

    def begin(self) -> None:
        """Start at the best rung that leaves room."""
        self.behind_s = self.costs.behind_s
        fits = (at for at in range(len(self.rungs)) if self._is_roomy(at))
        self.at = next(fits, len(self.rungs) - 1)

    @property
    def seconds(self) -> float:
        """What making a clip takes on the present rung."""
        return self.costs.of(self.rung) * self.slowdown

    def expected(self, at: int | None = None) -> float:
        """Seconds from the sound of a clip to its pictures, on a rung; ``None`` = the present one."""
        rung = self.rung if at is None else self.rungs[at]
        return self.waited + self.costs.of(rung) * self.slowdown

    def note(self, clip: LiveClip) -> None:
        """A clip was made."""
        self.costs.note(clip.rung, clip.seconds)
        self.behind_s = -follow(-self.behind_s, clip.head_s - clip.seconds)
        least = self.costs.of(clip.rung)
        self.slowdown = follow(self.slowdown, clip.seconds / least if least else 1.0)
        self.waited = follow(self.waited, clip.waited_s)
        if self.expected() > FULL * self._clip_s or self._load(self.at) > FULL:
            self._roomy = 0
            self._go_down()
        elif self.at and self._is_roomy(self.at - 1):
            self._roomy += 1
            if self._roomy >= PATIENCE:
                self.at -= 1
                self.steps_up += 1
                self._roomy = 0
        else:
            self._roomy = 0

    def _is_roomy(self, at: int) -> bool:
        """Whether a rung would leave room for this session and for the others."""
        return self.expected(at) <= ROOMY * self._clip_s and self._load(at) <= ROOMY

    def _load(self, at: int) -> float:
        """Share of the device that all sessions need, with this one on a rung."""
        return self._beside().load + self.costs.of(self.rungs[at]) * self.slowdown / self._clip_s

    def _go_down(self) -> None:
        target = max(self._best(FULL), min(self.at + 1, len(self.rungs) - 1))
        if target > self.at:
            self.at = target
            self.steps_down += 1

    def _best(self, share: float) -> int:
        fits = (at for at in range(len(self.rungs)) if self.expected(at) <= share * self._clip_s)
        return next(fits, len(self.rungs) - 1)
