"""How many frames per second does a long video get, and how many do several avatars get that speak at once?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emo_rt import Avatar
from emo_rt.benchmarks.harness import Samples, timed
from emo_rt.benchmarks.subject import Subject

AVATARS = (1, 2, 4)
"""How many speak at once."""


def offline(subject: Subject) -> dict[str, Any]:
    """A video of ``setting.clips`` clips from prepared portrait and sound to an MP4 file, pasted back."""
    with tempfile.TemporaryDirectory(prefix="emo_rt-bench-") as folder:
        subject.animate(paste_back=None).save(Path(folder) / "warm.mp4")
        video = subject.animate(subject.setting.clips, paste_back=None)
        seconds = timed(lambda: video.save(Path(folder) / "out.mp4"))
    return {
        "wall_s": seconds,
        "frames": video.frame_count,
        "frames_per_second": video.frame_count / seconds,
        "real_time_factor": seconds / video.duration_s,
    }


def several(subject: Subject, counts: Sequence[int] = AVATARS) -> dict[str, Any]:
    """Each of ``counts`` avatars animates two clips (one in a quick run) in a thread of its own, all in one model."""
    avatars, clips = [subject.prepare() for _ in range(max(counts))], 2 if subject.setting.clips > 2 else 1
    rows = [_at_once(subject, avatars[:count], clips) for count in counts]
    return {"clips_each": clips, "rows": rows}


def _at_once(subject: Subject, avatars: Sequence[Avatar], clips: int) -> dict[str, Any]:
    def speak(avatar: Avatar) -> float:
        return timed(lambda: sum(len(chunk.frames) for chunk in subject.animate(clips, avatar=avatar).chunks()))

    with ThreadPoolExecutor(len(avatars)) as threads:
        each: list[float] = []
        wall = timed(lambda: each.extend(threads.map(speak, avatars)))
    frames = len(avatars) * clips * subject.config.frames
    return {
        "avatars": len(avatars),
        "wall_s": wall,
        "frames_per_second": frames / wall,
        "slowest_s": max(each),
        "median_s": Samples(tuple(each)).median,
    }
