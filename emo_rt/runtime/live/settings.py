"""How a live session behaves, beside what its frames look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from emo_rt.checks import check, within
from emo_rt.media.audio import AUDIO_SAMPLE_RATE

Pace = Literal["clock", "asap"]
Idle = Literal["model", "loop"]
Lag = Literal["slow", "drop"]
WhenFull = Literal["block", "raise"]


@dataclass(frozen=True)
class LiveSettings:
    """Settings of :meth:`emo_rt.Animator.live`."""

    sample_rate: int = AUDIO_SAMPLE_RATE
    """Rate of the sound that is pushed and given back, in Hz, 4,000 … 384,000."""
    queue_s: float = 10.0
    """Most sound that waits, in seconds, 0.1 … 3,600."""
    when_full: WhenFull = "block"
    """What ``push`` does when more would wait: ``block`` until there is room, or ``raise`` :class:`QueueFull`."""
    pace: Pace = "clock"
    """``clock``: pairs come when they are due. ``asap``: speech comes as soon as it is made, for a transport that plays
    it; idle frames still come when they are due, because frames that wait in a transport delay the next answer."""
    idle: Idle = "model"
    """What is seen while nothing is said. ``model``: new frames all the time, as of a silent sound. ``loop``: the model
    makes ``loop_s`` seconds of them, and these then go forth and back at no cost until the next sound comes."""
    loop_s: float = 2.0
    """Length of the idle loop in seconds, 0.2 … 60; its pictures stay in memory."""
    lag: Lag = "slow"
    """What is done when even the cheapest preset of the ladder is too slow. The last frame is shown again, silently,
    until there is a new one. ``slow``: nothing is left out, the sound waits in the queue, whose length is the most that
    it can be late. ``drop``: as much of the waiting sound is left out, so that the delay stays what it is; for
    microphones."""
    jitter_s: float = 0.06
    """Unevenness of the arriving sound that leaves no gap, in seconds, 0 … 2. An utterance that comes in real time
    begins so much later."""

    def __post_init__(self) -> None:
        check(within(self.sample_rate, 4_000, 384_000), "sample_rate", self.sample_rate, "4000 … 384000 Hz")
        check(within(self.queue_s, 0.1, 3_600), "queue_s", self.queue_s, "0.1 … 3600 seconds")
        check(within(self.loop_s, 0.2, 60), "loop_s", self.loop_s, "0.2 … 60 seconds")
        check(within(self.jitter_s, 0, 2), "jitter_s", self.jitter_s, "0 … 2 seconds")
        for name, kind in (("when_full", WhenFull), ("pace", Pace), ("idle", Idle), ("lag", Lag)):
            value, known = getattr(self, name), get_args(kind)
            check(value in known, name, value, f"one of {', '.join(known)}")
