"""How long will an animation take, and how much memory? Found out by making a few clips of it.

The first clip takes longest; every further clip takes the same time. Stages overlap, so this time is not the sum of the
stages and must be measured. It grows linearly with the number of solver steps: where there are many, two runs with few
steps are enough. Memory does not grow with the length of the video.

Where a model makes the whole video at once, the first clip brings all of the solver's work. That and memory grow with
the length; three short videos tell how much.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from emo_rt.checks import check, within
from emo_rt.media.video_file import VideoWriter
from emo_rt.memory import resident_memory
from emo_rt.model.config import ModelConfig
from emo_rt.runtime.clips import clip_count
from emo_rt.runtime.result import Video

CALIBRATION_CLIPS = 5
"""Clips of a calibration run. The pipeline holds fewer, so the last clips come at the steady pace."""
FEW_STEPS = 12
"""Most solver steps of a calibration run. For more, it makes a run with this number and one with half of it."""
INDEX_BYTES = 80
"""Memory of the index of an MP4 file, per frame."""

Make = Callable[[int, int], Video]
"""(clips, steps) → a video of that many clips with so many steps."""


@dataclass(frozen=True)
class Estimate:
    """What an animation will take; from :meth:`emo_rt.Animator.estimate`."""

    frames: int
    """Frames of the video."""
    clips: int
    """Clips in which they are made."""
    wall_s: float
    """Seconds from the start to the finished MP4 file, on this machine with its present load."""
    first_frames_s: float
    """Seconds until the first clip's frames are there."""
    clip_s: float
    """Seconds for every further clip."""
    memory_bytes: int | None
    """Largest resident memory of this process on the way; ``None`` where the system does not say."""
    calibration_s: float
    """Seconds that the calibration took."""

    @property
    def frames_per_second(self) -> float:
        """Frames per second of work, over the whole video."""
        return self.frames / self.wall_s


@dataclass(frozen=True)
class Pace:
    """How a short video was made."""

    first_s: float
    """Seconds until the first clip."""
    clip_s: float
    """Seconds for every further clip, median."""
    end_s: float
    """Seconds from the last clip to the finished file."""
    memory_bytes: int | None
    """Largest resident memory between clips."""

    def onwards(self, further: Pace, share: float) -> Pace:
        """Linear extrapolation from this pace to ``further`` and beyond: share 0 is this, 1 is ``further``."""

        def along(here: float, there: float) -> float:
            return max(here + share * (there - here), 0.0)

        return Pace(
            first_s=along(self.first_s, further.first_s),
            clip_s=along(self.clip_s, further.clip_s),
            end_s=further.end_s,
            memory_bytes=further.memory_bytes,
        )


def estimate(seconds: float, config: ModelConfig, steps: int, make: Make, state_bytes: int | None = None) -> Estimate:
    """What a video of ``seconds`` with ``steps`` solver steps will take. ``make`` makes the videos of the calibration.

    ``state_bytes``: memory that each clip takes until the end, where the model makes a whole video at once; ``None`` =
    it makes clip after clip. Raises :class:`ConfigError` unless ``seconds`` is more than 0 and finite, and what making
    a video raises.
    """
    check(within(seconds, 1e-9, 1e9), "seconds", seconds, "more than 0, up to 1e9")
    start = perf_counter()
    frames = max(1, round(seconds * config.fps))
    clips = clip_count(frames, config)
    pace = calibrate(steps, make) if state_bytes is None else calibrate_whole(clips, steps, make)
    memory = None if pace.memory_bytes is None else pace.memory_bytes + clips * (state_bytes or 0)
    return Estimate(
        frames=frames,
        clips=clips,
        wall_s=pace.first_s + (clips - 1) * pace.clip_s + pace.end_s,
        first_frames_s=pace.first_s,
        clip_s=pace.clip_s,
        memory_bytes=None if memory is None else memory + INDEX_BYTES * frames,
        calibration_s=perf_counter() - start,
    )


def calibrate(steps: int, make: Make) -> Pace:
    """The pace with ``steps`` solver steps, measured or continued from two runs with fewer."""
    pace_of(make(1, 1))  # the warm-up
    if steps <= FEW_STEPS:
        return pace_of(make(CALIBRATION_CLIPS, steps))
    few = FEW_STEPS // 2
    fewer, further = (pace_of(make(CALIBRATION_CLIPS, count)) for count in (few, FEW_STEPS))
    return fewer.onwards(further, (steps - few) / (FEW_STEPS - few))


def calibrate_whole(clips: int, steps: int, make: Make) -> Pace:
    """The pace of a video of ``clips`` that is made at once.

    The time to its first clip is base + clips · (own + steps · step); three short videos tell these three.
    """
    few, many, further = 2, 6, 3
    pace_of(make(few, 1))  # the warm-up
    short, stepped, long = (pace_of(make(n, count)) for n, count in ((few, 1), (few, further), (many, 1)))
    step = max(stepped.first_s - short.first_s, 0.0) / (few * (further - 1))
    own = max((long.first_s - short.first_s) / (many - few) - step, 0.0)
    base = max(short.first_s - few * (own + step), 0.0)
    return Pace(base + clips * (own + steps * step), long.clip_s, long.end_s, long.memory_bytes)


def pace_of(video: Video) -> Pace:
    """Make a video into a temporary file and look at the clock after every clip."""
    times, memory = [perf_counter()], [resident_memory()]
    with tempfile.TemporaryDirectory(prefix="emo_rt-") as folder:
        target = Path(folder) / "estimate.mp4"
        with VideoWriter(target, width=video.width, height=video.height, fps=video.fps) as writer:
            for chunk in video.chunks():
                writer.write(chunk.frames)
                times.append(perf_counter())
                memory.append(resident_memory())
        end = perf_counter() - times[-1]
    gaps = [after - before for before, after in pairwise(times)]
    known = [count for count in memory if count is not None]
    return Pace(gaps[0], median(gaps[1:] or gaps), end, max(known) if known else None)
