"""How long does one clip take, from the call to its frames in memory? The portrait is prepared, the model warm."""

from __future__ import annotations

from typing import Any

from emo_rt.benchmarks.harness import measure
from emo_rt.benchmarks.subject import Subject


def single_clip(subject: Subject) -> dict[str, Any]:
    """Times of one clip, and ``real_time_factor``: seconds of work per second of video."""
    found = measure(subject.run, subject.setting.rounds)
    return {**found.to_dict(), "clip_s": subject.clip_s, "real_time_factor": found.median / subject.clip_s}
