"""How soon and how steadily does a stream give frames?

The sound is handed over as fast as it is taken, so that what is measured is the machine: the first clip of a
microphone's stream also waits for ``audio_needed_s`` seconds of sound. Playing begins with the first frame; a frame is
late if it comes after its time, at the model's frame rate or ``--fps``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

from emo_rt.benchmarks.harness import Samples
from emo_rt.benchmarks.subject import Subject
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of


@dataclass(frozen=True)
class Streaming:
    """One stream."""

    first_frame_s: float
    audio_needed_s: float | None
    """See :func:`audio_needed`."""
    clip_p50_s: float
    """Seconds from clip to clip: median, and what 90 and 99 % stay below."""
    clip_p90_s: float
    clip_p99_s: float
    clips: int
    frames: int
    fps: float
    """Frames per second at which it is played."""
    late_frames: int


def stream(subject: Subject) -> Streaming:
    """One stream of ``setting.clips`` clips: first frame, times between clips, late frames."""
    options, fps = subject.setting.options(), subject.setting.fps or subject.config.fps
    subject.run()
    start, arrivals, sizes = perf_counter(), [], []
    for chunk in subject.animator.stream(subject.avatar, subject.chunks(subject.setting.clips), options=options):
        arrivals.append(perf_counter() - start)
        sizes.append(len(chunk.frames))
    gaps = Samples(tuple(b - a for a, b in pairwise([0.0, *arrivals])))
    return Streaming(
        first_frame_s=arrivals[0],
        audio_needed_s=audio_needed(subject.config),
        clip_p50_s=gaps.percentile(50),
        clip_p90_s=gaps.percentile(90),
        clip_p99_s=gaps.percentile(99),
        clips=len(arrivals),
        frames=sum(sizes),
        fps=fps,
        late_frames=late_frames(arrivals, sizes, fps),
    )


def late_frames(arrivals: list[float], sizes: list[int], fps: float) -> int:
    """How many frames come after their time, if playing begins with the first. ``arrivals``: seconds, by clip."""
    late, index = 0, 0
    for arrival, size in zip(arrivals, sizes, strict=True):
        due = [arrivals[0] + (index + frame) / fps for frame in range(size)]
        late += sum(arrival > time for time in due)
        index += size
    return late


def audio_needed(config: ModelConfig) -> float | None:
    """Seconds of sound before the first clip is certain; ``None`` where the whole sound is needed."""
    if family_of(config).hearing.is_whole_file:
        return None
    heard = config.frames + config.audio.context_frames + config.audio.right_context_frames
    return max(heard, config.frames + 1) / config.fps
