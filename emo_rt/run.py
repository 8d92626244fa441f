"""One run: the clips of one animation, from what is heard to finished pictures.

:class:`Run` owns the buffers of a run, so that several runs may go on side by side in one engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from emo_rt.arena import Arena, Array, Buffer
from emo_rt.avatar import Avatar
from emo_rt.clips import ClipAudio, noise_for_clip, split_into_clips
from emo_rt.denoiser import FINAL_BUFFERS, Denoiser
from emo_rt.engine import Engine
from emo_rt.errors import Cancelled, InputError
from emo_rt.options import AnimateOptions
from emo_rt.pipeline import Closed, Pipeline
from emo_rt.portrait import Paster

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
    """Seconds by stage: audio, clip, step, motion, decode, paste. They overlap: their sum may exceed the wall."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Control:
    """How a caller watches, stops and steers a run."""

    progress: Callable[[Progress], None] | None = None
    """Called after every solver step, from a thread of the run. An exception ends the run."""
    cancel: threading.Event | None = None
    """Set it to stop: the run raises :class:`Cancelled` after the current step."""
    noise: Noise | None = None
    """Noise to use instead of the seed's: for tests and comparisons."""


@dataclass(frozen=True, eq=False)
class _Finished:
    """A denoised clip on its way to the decoder."""

    clip: ClipAudio
    latents: Buffer
    motion_pixels: Buffer | None


class Run:
    """Makes the clips of one animation. Not restartable; :meth:`chunks` is called once."""

    def __init__(
        self, engine: Engine, avatar: Avatar, options: AnimateOptions, control: Control, clips: int | None
    ) -> None:
        """``clips``: how many there will be, for progress, if that is known."""
        self.stats = RunStats()
        self._engine, self._avatar, self._options, self._control = engine, avatar, options, control
        self._clips = clips
        self._stop = threading.Event()
        name, self._guidance = engine.step_graph(options)
        step, clip = engine.session(name), engine.session("clip")
        self._schedule = engine.scheduler.schedule(options.solver, options.steps)
        self._denoiser = Denoiser(engine.backend, step.spec)
        constants = [tensor for tensor in step.spec.inputs if tensor.name == "motion_scale"]
        self._arena = Arena(engine.backend, [*clip.spec.inputs, *clip.spec.outputs, *constants])
        self._write_constants()
        features = {**self._arena, **avatar.features}
        self._step_launch = self._denoiser.bind(step, features, self._schedule)
        self._clip_launch = clip.bind(features)
        self._motion = self._first_motion()
        self._paster = Paster(avatar.portrait) if avatar.is_pasted_back(options.paste_back) else None

    def chunks(self, blocks: Iterable[Array]) -> Pipeline[Chunk]:
        """Start: 16 kHz ``blocks`` → chunks. The caller closes the pipeline."""
        stages = (self._decoded, self._pasted)
        return Pipeline(self._denoised(blocks), *stages, depth=FINAL_BUFFERS - 2, stop=self._stop)

    def check_cancelled(self) -> None:
        """Raise :class:`Cancelled` if the caller asked to stop."""
        if self._control.cancel is not None and self._control.cancel.is_set():
            raise Cancelled("the animation was cancelled")

    @property
    def nbytes(self) -> int:
        """Memory of the run's buffers."""
        return self._arena.nbytes + self._denoiser.nbytes

    def _check_wanted(self) -> None:
        """As :meth:`check_cancelled`, and raise :class:`Closed` if the pipeline was closed or has failed."""
        self.check_cancelled()
        if self._stop.is_set():
            raise Closed

    def _denoised(self, blocks: Iterable[Array]) -> Iterator[_Finished]:
        for clip in split_into_clips(self._engine.config, self._encode_audio, blocks):
            yield self._denoise(clip)

    def _encode_audio(self, waveform: Array) -> Array:
        self._check_wanted()
        with self.stats.timed("audio"):
            return self._engine.encode_audio(waveform)

    def _denoise(self, clip: ClipAudio) -> _Finished:
        self._check_wanted()
        final = self._denoiser.finals[clip.index % FINAL_BUFFERS]
        with self.stats.timed("clip"):
            self._arena["audio_windows"].write(clip.windows)
            self._clip_launch.rebind("motion_latents", self._motion)
            self._clip_launch.run()
        with self.stats.timed("step"):
            self._denoiser.run(
                self._step_launch,
                self._schedule,
                self._noise(clip.index),
                self._guidance,
                final,
                lambda step: self._after_step(clip.index, step),
            )
        return _Finished(clip, final, self._carry_motion(final))

    def _noise(self, index: int) -> Array:
        shape = self._denoiser.finals[0].shape
        if self._control.noise is None:
            return noise_for_clip(self._options.seed, index, shape)
        noise = np.asarray(self._control.noise(index), np.float32)
        if noise.shape != shape:
            raise InputError(f"noise of clip {index} has shape {noise.shape}; expected {shape}")
        return noise

    def _after_step(self, clip: int, step: int) -> None:
        self._check_wanted()
        if self._control.progress is not None:
            self._control.progress(Progress(clip, self._clips, step + 1, self._schedule.steps))

    def _carry_motion(self, final: Buffer) -> Buffer | None:
        """The end of this clip becomes the next one's motion frames; their pictures, if they were decoded for that."""
        config = self._engine.config
        last = final.rows(config.frames - config.motion_frames, config.frames)
        if config.motion_source == "latents":
            self._motion = last
            return None
        encoder = self._engine.session("motion_encoder")
        pixels = Arena(self._engine.backend, encoder.spec.outputs[1:])
        with self.stats.timed("motion"):
            self._motion = self._arena["motion_latents"]
            encoder.bind({"last_latents": last, "motion_latents": self._motion, **pixels}).run()
        return pixels["motion_pixels_rgb"]

    def _decoded(self, finished: _Finished) -> Chunk:
        self._check_wanted()
        config, clip = self._engine.config, finished.clip
        with self.stats.timed("decode"):
            if finished.motion_pixels is None:
                frames = self._engine.decode(finished.latents, clip.frames)
            else:
                fresh = config.frames - config.motion_frames
                frames = self._engine.decode(finished.latents, min(clip.frames, fresh))
                frames = np.concatenate([frames[:fresh], finished.motion_pixels.read()])
        return Chunk(frames[: clip.frames], clip.index * config.frames / config.fps, clip.index)

    def _pasted(self, chunk: Chunk) -> Chunk:
        self.stats.frames += len(chunk.frames)
        if self._paster is None:
            return chunk
        with self.stats.timed("paste"):
            return Chunk(self._paster(chunk.frames), chunk.start_s, chunk.index)

    def _write_constants(self) -> None:
        if "speed" in self._arena:
            self._arena["speed"].write(np.full(self._arena["speed"].shape, self._options.speed, np.float32))
        if "motion_scale" in self._arena:
            self._arena["motion_scale"].write(np.array(self._options.motion_scale, np.float32))

    def _first_motion(self) -> Buffer:
        first = self._arena["motion_latents"]
        if self._engine.config.first_motion == "portrait":
            latent = self._avatar.features["portrait_latent"].read()
            first.write(np.repeat(latent, self._engine.config.motion_frames, axis=0))
        return first
