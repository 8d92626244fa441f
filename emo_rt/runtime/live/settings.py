"""How a live session behaves, beside what its frames look like."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.options import AnimateChanges, AnimateOptions
from emo_rt.schema.kinds import Choice, Range
from emo_rt.schema.option import check_options, read_options, require_type


@dataclass(frozen=True)
class LiveSettings:
    """Settings of :meth:`emo_rt.Animator.live`."""

    sample_rate: Annotated[int, Range(4_000, 384_000)] = AUDIO_SAMPLE_RATE
    """Rate of the sound that is pushed and given back, in Hz."""
    queue_s: Annotated[float, Range(0.1, 3_600)] = 10.0
    """Most sound that waits, in seconds."""
    when_full: Annotated[str, Choice(("block", "raise"))] = "block"
    """What ``push`` does when more would wait: ``block`` until there is room, or ``raise`` :class:`QueueFull`."""
    pace: Annotated[str, Choice(("clock", "asap"))] = "clock"
    """``clock``: pairs come when they are due. ``asap``: speech comes as soon as it is made, for a transport that plays
    it; idle frames still come when they are due, because frames that wait in a transport delay the next answer."""
    idle: Annotated[str, Choice(("model", "loop"))] = "model"
    """What is seen while nothing is said. ``model``: new frames all the time, as of a silent sound. ``loop``: the model
    makes ``loop_s`` seconds of them, and these then go forth and back at no cost until the next sound comes."""
    loop_s: Annotated[float, Range(0.2, 60)] = 2.0
    """Length of the idle loop in seconds; its pictures stay in memory."""
    lag: Annotated[str, Choice(("slow", "drop"))] = "slow"
    """What is done when even the cheapest preset of the ladder is too slow. The last frame is shown again, silently,
    until there is a new one. ``slow``: nothing is left out, the sound waits in the queue, whose length is the most that
    it can be late. ``drop``: as much of the waiting sound is left out, so that the delay stays what it is; for
    microphones."""
    jitter_s: Annotated[float, Range(0, 2)] = 0.06
    """Unevenness of the arriving sound that leaves no gap, in seconds. An utterance that comes in real time begins so
    much later."""

    def __post_init__(self) -> None:
        check_options(self)


class LiveChanges(AnimateChanges, total=False):
    """Fields of :class:`LiveSettings` and of :class:`AnimateOptions` as single keywords."""

    sample_rate: int
    queue_s: float
    when_full: str
    pace: str
    idle: str
    loop_s: float
    lag: str
    jitter_s: float


def read_live_settings(
    settings: LiveSettings | None, options: AnimateOptions | None, changes: LiveChanges
) -> tuple[LiveSettings, AnimateOptions]:
    """Single keywords go before ``settings`` and ``options``.

    Raises :class:`ConfigError` for an unknown name or a value out of range.
    """
    require_type("settings", settings, LiveSettings)
    names = {field.name for field in fields(LiveSettings)}
    own = {name: value for name, value in changes.items() if name in names}
    others = {name: value for name, value in changes.items() if name not in names}
    return read_options(settings, own, LiveSettings), read_options(options, others, AnimateOptions)
