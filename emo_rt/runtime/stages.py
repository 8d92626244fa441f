"""What a caller sees of the stages of a session, and how a caller steers them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from emo_rt.checks import check
from emo_rt.device.nvtx import marked
from emo_rt.model.contract import Array
from emo_rt.runtime.trace import Trace
from emo_rt.runtime.worker import STAGES
from emo_rt.schema.option import require_type

Noise = Callable[[int], Array]
"""Clip index → unit noise (F, 4, S, S)."""


@dataclass(frozen=True)
class Progress:
    """Where a session stands, after a slice of solver steps. A video that is made at once counts as one clip."""

    clip: int
    """Clip that is being made, from 0."""
    clips: int | None
    """Clips in all; ``None`` in a stream."""
    step: int
    """Steps done in this clip, 1 … steps; from 0 with overlapping windows."""
    steps: int
    """Steps per clip."""
    part: float = 0.0
    """Share of the next step that is done, 0 … 1: overlapping windows report each of them."""

    @property
    def of_all(self) -> tuple[float, int]:
        """Steps that are done and steps in all, over the clips that are known."""
        return self.clip * self.steps + self.step + self.part, (self.clips or self.clip + 1) * self.steps


@dataclass(frozen=True, eq=False)
class Chunk:
    """Finished frames of one clip."""

    frames: Array
    """(n, H, W, 3) uint8 RGB."""
    start_s: float
    """Time of the first frame in the video, in seconds."""
    index: int
    """Number of the clip, from 0."""


@dataclass
class RunStats:
    """How long a session took."""

    frames: int = 0
    """Frames made."""
    wall_s: float = 0.0
    """Seconds from the start of the run to its end; with :meth:`emo_rt.Video.save` the encoding is in."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: audio, clip, step, motion, decode, paste. They overlap: their sum may exceed the wall.

    On a GPU, clip, step, motion and decode are times between CUDA events. Where a session of higher priority came in
    between, its slices are in."""
    loop: str = ""
    """How the solver loop was launched, in words: in how many launches per clip, or one per step and why."""

    def add(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Control:
    """How a caller watches, stops and steers a session."""

    progress: Callable[[Progress], None] | None = None
    """Called after every solver step, on a GPU after every slice of steps, from the thread that all sessions of the
    device share: it must be quick. An exception ends this session."""
    cancel: threading.Event | None = None
    """Set it to stop: the session raises :class:`Cancelled` after the present slice."""
    noise: Noise | None = None
    """Noise to use instead of the seed's: for tests and comparisons."""
    trace: Trace | None = None
    """Takes a span for each stage of each clip."""

    def __post_init__(self) -> None:
        check(self.progress is None or callable(self.progress), "progress", self.progress, "a function, or None")
        heard = self.cancel is None or callable(getattr(self.cancel, "is_set", None))
        check(heard, "cancel", self.cancel, "an event like threading.Event, or None")
        check(self.noise is None or callable(self.noise), "noise", self.noise, "a function, or None")
        require_type("trace", self.trace, Trace)


class Watch:
    """Notes the times of the stages of one session."""

    def __init__(self, trace: Trace | None) -> None:
        self.stats = RunStats()
        self._trace = trace

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage of the host."""
        start = time.perf_counter()
        try:
            with marked(stage):
                yield
        finally:
            seconds = time.perf_counter() - start
            self.stats.add(stage, seconds)
            if self._trace is not None:
                self._trace.add(stage, stage, start, seconds)

    def note(self, clip: int, times: dict[str, tuple[float, float]]) -> None:
        """Stages of the device: (start, seconds) by name."""
        for stage, (start, seconds) in times.items():
            self.stats.add(stage, seconds)
            if self._trace is not None:
                self._trace.add(stage, STAGES[stage], start, seconds, clip=clip)
