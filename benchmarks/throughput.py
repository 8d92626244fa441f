"""How many frames per second does a long video get, and how many do several avatars get that speak at once?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emo_rt import Avatar
from emo_rt.benchmarks.harness import Samples, timed
from emo_rt.benchmarks.subject import Subject

AVATARS = (1, 2, 4)
"""How many speak at once."""


@dataclass(frozen=True)
class Offline:
    """One long video."""

    wall_s: float
    frames: int
    frames_per_second: float
    real_time_factor: float
    """Seconds of work per second of video."""


@dataclass(frozen=True)
class AtOnce:
    """So many avatars that speak at the same time."""

    avatars: int
    wall_s: float
    frames_per_second: float
    """Of all together."""
    slowest_s: float
    median_s: float


@dataclass(frozen=True)
class Several:
    """Rows by the number of avatars."""

    clips_each: int
    rows: list[AtOnce]


def offline(subject: Subject) -> Offline:
    """A video of ``setting.clips`` clips from prepared portrait and sound to an MP4 file, pasted back."""
    with tempfile.TemporaryDirectory(prefix="emo_rt-bench-") as folder:
        subject.animate(paste_back=None).save(Path(folder) / "warm.mp4")
        video = subject.animate(subject.setting.clips, paste_back=None)
        seconds = timed(lambda: video.save(Path(folder) / "out.mp4"))
    return Offline(seconds, video.frame_count, video.frame_count / seconds, seconds / video.duration_s)


def several(subject: Subject, counts: Sequence[int] = AVATARS) -> Several:
    """Each of ``counts`` avatars animates two clips (one in a quick run) in a thread of its own, all in one model."""
    avatars, clips = [subject.prepare() for _ in range(max(counts))], 2 if subject.setting.clips > 2 else 1
    return Several(clips, [_at_once(subject, avatars[:count], clips) for count in counts])


def _at_once(subject: Subject, avatars: Sequence[Avatar], clips: int) -> AtOnce:
    def speak(avatar: Avatar) -> float:
        return timed(lambda: sum(len(chunk.frames) for chunk in subject.animate(clips, avatar=avatar).chunks()))

    with ThreadPoolExecutor(len(avatars)) as threads:
        each: list[float] = []
        wall = timed(lambda: each.extend(threads.map(speak, avatars)))
    frames = len(avatars) * clips * subject.config.frames
    return AtOnce(len(avatars), wall, frames / wall, max(each), Samples(tuple(each)).median)
