"""How long does one clip take, from the call to its frames in memory? The portrait is prepared, the model warm."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from emo_rt.benchmarks.harness import Spread, measure
from emo_rt.benchmarks.subject import Subject


@dataclass(frozen=True)
class Latency(Spread):
    """Times of one clip."""

    clip_s: float
    """Seconds of video in a clip."""
    real_time_factor: float
    """Seconds of work per second of video, by the median."""


def single_clip(subject: Subject) -> Latency:
    """Make one clip over and over."""
    found = measure(subject.run, subject.setting.rounds)
    factor = found.median / subject.clip_s
    return Latency(**asdict(found.spread()), clip_s=subject.clip_s, real_time_factor=factor)
