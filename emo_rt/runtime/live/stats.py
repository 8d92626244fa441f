"""What a live session measures of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from emo_rt.runtime.live.maker import LiveClip
from emo_rt.runtime.live.reel import ReelFrame

REMEMBERED = 4_096
"""Clips whose latencies are remembered."""
PERCENTILES = (50, 90, 99)
PARTS = ("total", "waiting", "queueing", "hearing", "denoising", "decoding", "buffered")


@dataclass(frozen=True)
class Percentiles:
    """Of seconds, over the last 4,096 clips with speech."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class LiveStats:
    """How a live session does, at one moment."""

    rung: str
    """Preset that runs now."""
    rungs: tuple[str, ...]
    """Presets that it may run, the best first."""
    steps_down: int
    """How often it went to a cheaper preset."""
    steps_up: int
    """How often it went to a better one."""
    seconds_per_clip: Mapping[str, float]
    """What a clip costs by preset: measured, or by the number of steps from what was measured."""
    slowdown: float
    """How many times as long a clip takes now."""
    is_too_slow: bool
    """Whether even the last preset is too slow: the session lags."""
    pairs: int
    """Pairs that were given."""
    late_frames: int
    """Frames that were not ready when they were due."""
    repeated_frames: int
    """Pairs with the frame before again."""
    dropped_s: float
    """Seconds of sound that were left out, see :attr:`LiveSettings.lag`."""
    queued_s: float
    """Seconds of sound that wait."""
    buffered_s: float
    """Seconds of frames that are made and not given."""
    latency: Mapping[str, Percentiles] = field(default_factory=dict)
    """Sound in → frame out, for the worst frame of each clip: ``total``, and of it ``waiting`` for the sound that the
    clip hears besides, ``queueing`` behind other sessions, ``hearing``, ``denoising``, ``decoding`` (with pasting) and
    ``buffered`` until it was due. Of sound that is pushed faster than it is spoken, the queue is in ``waiting``."""


class Latencies:
    """Collects the latencies of clips as their frames are given. The owner locks."""

    def __init__(self) -> None:
        self._clip: LiveClip | None = None
        self._worst: tuple[float, ...] = ()
        self._done: deque[tuple[float, ...]] = deque(maxlen=REMEMBERED)

    def note(self, frame: ReelFrame, given_at: float) -> None:
        """A frame was given; of one without sound there is no latency."""
        clip, arrived_at = frame.clip, frame.sound.arrived_at
        if arrived_at is None:
            return
        if clip is not self._clip:
            self._finish()
            self._clip = clip
        if not self._worst or given_at - arrived_at > self._worst[0]:
            times = (arrived_at, clip.composed_at, clip.begun_at, clip.heard_at, clip.denoised_at, frame.made_at)
            parts = np.diff([*times, given_at])
            self._worst = (given_at - arrived_at, *map(float, parts))

    def percentiles(self) -> dict[str, Percentiles]:
        """By part."""
        rows = [*self._done, *([self._worst] if self._worst else [])]
        if not rows:
            return {}
        found = np.percentile(np.array(rows), PERCENTILES, axis=0)
        return {part: Percentiles(*map(float, found[:, column])) for column, part in enumerate(PARTS)}

    def _finish(self) -> None:
        if self._worst:
            self._done.append(self._worst)
            self._worst = ()
