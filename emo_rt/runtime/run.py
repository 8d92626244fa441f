"""One run: the clips of one animation, from what is heard to finished pictures.

:class:`Run` owns the buffers of a run, so that several runs may go on side by side in one model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from emo_rt.device.nvtx import marked
from emo_rt.errors import Cancelled, ClosedError, InputError
from emo_rt.media.portrait import Paster
from emo_rt.model.contract import Array
from emo_rt.model.families.base import ClipState
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.clip_buffers import STAGES, ClipBuffers, Slot
from emo_rt.runtime.clips import ClipAudio, noise_for_clip, split_into_clips
from emo_rt.runtime.denoiser import FINAL_BUFFERS
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.pipeline import Closed, Pipeline
from emo_rt.runtime.trace import Trace

Noise = Callable[[int], Array]
"""Clip index → unit noise (F, 4, S, S)."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after a solver step."""

    clip: int
    """Clip that is being made, from 0."""
    clips: int | None
    """Clips in all; ``None`` in a stream."""
    step: int
    """Steps done in this clip, 1 … steps."""
    steps: int
    """Steps per clip."""


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
    """How long a run took."""

    frames: int = 0
    """Frames made."""
    wall_s: float = 0.0
    """Seconds from the start of the run to its end; with :meth:`emo_rt.Video.save` the encoding is in."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: audio, clip, step, motion, decode, paste. They overlap: their sum may exceed the wall.

    On a GPU, clip, step, motion and decode are times between CUDA events."""
    loop: str = ""
    """How the solver loop was launched, in words: one launch per clip, or one per step and why."""

    def add(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Control:
    """How a caller watches, stops and steers a run."""

    progress: Callable[[Progress], None] | None = None
    """Called after every solver step, from a thread of the run; where the steps of a clip are one launch, after each
    clip. An exception ends the run."""
    cancel: threading.Event | None = None
    """Set it to stop: the run raises :class:`Cancelled` after the current step. Where the steps of a clip are one
    launch, that cannot be broken off: the device may still be busy with at most two clips."""
    noise: Noise | None = None
    """Noise to use instead of the seed's: for tests and comparisons."""
    trace: Trace | None = None
    """Takes a span for each stage of each clip."""


@dataclass(frozen=True, eq=False)
class _Finished:
    """A denoised clip on its way to the decoder."""

    clip: ClipAudio
    slot: Slot


class Run:
    """Makes the clips of one animation. Not restartable; :meth:`chunks` is called once. A context manager.

    On a GPU the threads only enqueue: ``denoise`` and ``decode`` are streams that work side by side, and each slot's
    two events keep one from touching what the other still uses.
    """

    def __init__(
        self, model: LoadedModel, avatar: Avatar, options: AnimateOptions, control: Control, clips: int | None
    ) -> None:
        """``clips``: how many there will be, for progress, if that is known."""
        self.stats = RunStats()
        self._model, self._avatar, self._control = model, avatar, control
        self._options = model.resolve(options)
        self._clips = clips
        self._stop = threading.Event()
        self._table, self._guidance = model.step_table(options)
        buffers = model.pool.take(model, self._table, avatar.features)
        self._lent: ClipBuffers | None = buffers
        try:
            first = model.family.plan(ClipState(index=0))
            self._motion = buffers.begin(self._table, avatar.features, self._options, first.motion)
            self._paster = Paster(avatar.portrait) if avatar.is_pasted_back(options.paste_back) else None
        except BaseException:
            self.close()
            raise
        self.stats.loop = buffers.denoiser.description

    def chunks(self, blocks: Iterable[Array]) -> Pipeline[Chunk]:
        """Start: 16 kHz ``blocks`` → chunks. The caller closes the pipeline, and then the run."""
        stages = (self._decoded, self._pasted)
        return Pipeline(self._denoised(blocks), *stages, depth=FINAL_BUFFERS - 2, stop=self._stop)

    def check_cancelled(self) -> None:
        """Raise :class:`Cancelled` if the caller asked to stop."""
        if self._control.cancel is not None and self._control.cancel.is_set():
            raise Cancelled("the animation was cancelled")

    @property
    def nbytes(self) -> int:
        """Memory of the run's buffers."""
        return 0 if self._lent is None else self._lent.nbytes

    def close(self) -> None:
        """Wait for what is still enqueued and give the buffers back. Safe twice."""
        buffers, self._lent = self._lent, None
        if buffers is not None:
            self._model.pool.give_back(buffers)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _buffers(self) -> ClipBuffers:
        if self._lent is None:
            raise ClosedError("the run was closed; animate again")
        return self._lent

    def _check_wanted(self) -> None:
        """As :meth:`check_cancelled`, and raise :class:`Closed` if the pipeline was closed or has failed."""
        self.check_cancelled()
        if self._stop.is_set():
            raise Closed

    def _denoised(self, blocks: Iterable[Array]) -> Iterator[_Finished]:
        for clip in split_into_clips(self._model.config, self._encode_audio, blocks):
            yield self._denoise(clip)

    def _encode_audio(self, waveform: Array) -> Array:
        self._check_wanted()
        with self._timed("audio"):
            return self._buffers.hearing(waveform)

    def _denoise(self, clip: ClipAudio) -> _Finished:
        work, slots = self._buffers, self._buffers.slots
        slot = slots[clip.index % FINAL_BUFFERS]
        slots[(clip.index - 2) % FINAL_BUFFERS].ready.synchronize()  # no more than two clips wait on the device
        self._check_wanted()
        work.denoise.wait(slot.decoded)
        with slot.timers["clip"], marked("clip"):
            work.windows.write(clip.windows)
            work.clip.rebind("motion_latents", self._motion)
            work.clip.run()
        with slot.timers["step"], marked("step"):
            work.denoiser.run(
                self._table,
                self._noise(clip.index),
                self._guidance,
                slot.final,
                lambda step: self._after_step(clip.index, step),
            )
        self._carry_motion(slot)
        work.denoise.record(slot.ready)
        return _Finished(clip, slot)

    def _noise(self, index: int) -> Array:
        shape = self._buffers.slots[0].final.shape
        if self._control.noise is None:
            return noise_for_clip(self._options.seed, index, shape)
        noise = np.asarray(self._control.noise(index), np.float32)
        if noise.shape != shape:
            raise InputError(f"noise of clip {index} has shape {noise.shape}; expected {shape}")
        return noise

    def _after_step(self, clip: int, step: int) -> None:
        self._check_wanted()
        if self._control.progress is not None:
            self._control.progress(Progress(clip, self._clips, step + 1, self._table.steps))

    def _carry_motion(self, slot: Slot) -> None:
        """The end of this clip becomes the next one's motion frames, decoded and encoded again where that is due."""
        frames, work = self._model.family.motion_frames, self._buffers
        last = slot.final.rows(frames.start, frames.stop)
        if work.motion is None or slot.motion_pixels is None:
            self._motion = last
            return
        self._motion = work.buffers["motion_latents"]
        with slot.timers["motion"], marked("motion"):
            work.motion.rebind("last_latents", last)
            work.motion.rebind("motion_pixels_rgb", slot.motion_pixels)
            work.motion.run()

    def _decoded(self, finished: _Finished) -> Chunk:
        self._check_wanted()
        config, clip, slot, work = self._model.config, finished.clip, finished.slot, self._buffers
        fresh = config.frames if slot.motion_download is None else config.frames - config.motion_frames
        wanted = min(clip.frames, fresh)
        work.decode.wait(slot.ready)
        with slot.timers["decode"], marked("decode"):
            work.decoder.start(slot.final, wanted)
            if slot.motion_download is not None:
                slot.motion_download.start()
        work.decode.record(slot.decoded)
        if work.denoiser.is_one_launch:
            slot.ready.synchronize()
            self._after_step(clip.index, self._table.steps - 1)
        frames = work.decoder.result(wanted)
        if slot.motion_download is not None:
            frames = np.concatenate([frames, slot.motion_download.result()])
        self._note_times(clip.index, slot)
        return Chunk(frames[: clip.frames], clip.index * config.frames / config.fps, clip.index)

    def _note_times(self, clip: int, slot: Slot) -> None:
        """What the timers of a clip say; its work is done."""
        stages = [stage for stage in STAGES if stage != "motion" or slot.motion_download is not None]
        for stage in stages:
            start, seconds = slot.timers[stage].read()
            self.stats.add(stage, seconds)
            if self._control.trace is not None:
                self._control.trace.add(stage, STAGES[stage], start, seconds, clip=clip)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Time a stage of the host."""
        start = time.perf_counter()
        try:
            with marked(stage):
                yield
        finally:
            seconds = time.perf_counter() - start
            self.stats.add(stage, seconds)
            if self._control.trace is not None:
                self._control.trace.add(stage, stage, start, seconds)

    def _pasted(self, chunk: Chunk) -> Chunk:
        self.stats.frames += len(chunk.frames)
        if self._paster is None:
            return chunk
        with self._timed("paste"):
            return Chunk(self._paster(chunk.frames), chunk.start_s, chunk.index)
