"""Everything that a run needs on the device, made once and lent to one run at a time.

On the CPU it is made for each run, around the avatar's own buffers. On a GPU, where making one includes the capture of
the solver loop, it is kept for the next run; then it has its own copy of the portrait's features (46 MB at full size,
a fraction of a millisecond), so that what was captured serves every avatar.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.stream import Download, Event, Timer
from emo_rt.errors import EmoRtError
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import TensorSpec
from emo_rt.model.families.base import Family
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.runtime.decoder import Decoder
from emo_rt.runtime.denoiser import Denoiser
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.step_tables import StepTable

STAGES = {"clip": "denoise", "step": "denoise", "motion": "denoise", "decode": "decode"}
"""Stages whose time is taken on the device → stream."""


class OpenedGraphs(Protocol):
    """What clip buffers need of a :class:`~emo_rt.runtime.loaded_model.LoadedModel`, which owns their pool."""

    backend: Backend
    """Where its graphs run."""
    family: Family
    """The checkpoint's family."""

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        ...

    def graph(self, name: str) -> Graph:
        """An opened graph."""
        ...

    def serving(self, role: str, variant: str | None = None) -> Graph:
        """The opened graph for a role."""
        ...

    def portrait_tensors(self) -> list[TensorSpec]:
        """The features of an avatar."""
        ...


@dataclass(frozen=True, eq=False)
class Slot:
    """What belongs to one of the clips that exist at once."""

    final: Buffer
    """Finished latents (F, 4, S, S)."""
    ready: Event
    """Recorded in ``denoise`` behind the last write to this slot."""
    decoded: Event
    """Recorded in ``decode`` behind the last read of this slot."""
    timers: Mapping[str, Timer]
    """Timer of each stage."""
    motion_pixels: Buffer | None
    """Pictures of the motion frames, where those are decoded and encoded again."""
    motion_download: Download | None
    """Brings them to the host."""


class ClipBuffers:
    """Buffers, bound graphs and the captured loop of a run. Owners close."""

    def __init__(self, model: OpenedGraphs, table: StepTable, features: Mapping[str, Buffer]) -> None:
        """For this step table, and for all that need no other graphs; ``features``: the avatar's."""
        backend, config = model.backend, model.config
        self.graphs = frozenset(table.graphs)
        """The step graphs that are bound."""
        self._owned = ExitStack()
        try:
            self._make(model, table, features)
        except BaseException:
            self.close()
            raise
        self.denoise, self.decode = backend.stream("denoise"), backend.stream("decode")
        self.windows = self.denoise.upload(self.buffers["audio_windows"])
        self._constants = {name: self.denoise.upload(self.buffers[name]) for name in self._constant_names(model)}
        self._tails = [(stream, stream.event()) for stream in map(backend.stream, ("denoise", "decode", "side"))]
        self._motion_frames = config.motion_frames

    def _make(self, model: OpenedGraphs, table: StepTable, features: Mapping[str, Buffer]) -> None:
        backend, config = model.backend, model.config
        steps = {name: model.graph(name) for name in sorted(self.graphs)}
        specs = [step.spec for step in steps.values()]
        clip = model.serving("clip", specs[0].variant)
        names = self._constant_names(model)
        constants = [tensor for tensor in specs[0].inputs if tensor.name in names]
        self.buffers = self._own(Buffers(backend, [*clip.spec.inputs, *clip.spec.outputs, *constants]))
        self.portrait: Buffers | None = None
        if backend.kept_clip_buffers:
            features = self.portrait = self._own(Buffers(backend, _specs(features, model.portrait_tensors())))
        self.denoiser = Denoiser(backend, specs)
        self._owned.callback(self.denoiser.close)
        bound = {**self.buffers, **features}
        self.clip = self._own_graph(clip.bind(bound))
        self.denoiser.bind(steps, bound, table)
        self.motion: BoundGraph | None = None
        pixels = self._make_motion(model) if model.family.carry else [None] * 3
        fresh = config.frames - sum(len(call.frames) for call in model.family.carry)
        first = self.denoiser.finals[0]
        self.decoder = Decoder(backend, model.serving("vae_decoder"), first, fresh)
        self._owned.callback(self.decoder.close)
        self.hearing = Hearing(backend, model.serving("audio_encoder"), config)
        self._owned.callback(self.hearing.close)
        self.slots = [_slot(model, final, pixel) for final, pixel in zip(self.denoiser.finals, pixels, strict=True)]

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        portrait = self.portrait.nbytes if self.portrait is not None else 0
        return self.buffers.nbytes + portrait + self.denoiser.nbytes + self.decoder.nbytes

    def begin(self, table: StepTable, features: Mapping[str, Buffer], options: ResolvedOptions, first: str) -> Buffer:
        """Make it ready for the first clip of a run. ``first``: ``portrait`` or ``zeros``. Gives the motion latents."""
        self.denoiser.prepare(table)
        if self.portrait is not None:
            for name, buffer in self.portrait.items():
                self.denoise.copy(features[name], buffer)
        for name, upload in self._constants.items():
            upload.write(np.full(self.buffers[name].shape, options.constants[name], np.float32))
        motion = self.buffers["motion_latents"]
        if first == "portrait":
            for frame in range(self._motion_frames):
                self.denoise.copy(features["portrait_latent"].row(0), motion.row(frame))
        else:
            self.denoise.clear(motion)
        self.denoise.synchronize()  # the avatar may be closed from now on
        return motion

    def drain(self) -> None:
        """Wait for everything that a run may have enqueued."""
        for stream, tail in self._tails:
            stream.record(tail)
            tail.synchronize()

    def close(self) -> None:
        """Give everything back. Nothing of it may be running. Safe twice."""
        self._owned.close()

    def _make_motion(self, model: OpenedGraphs) -> list[Buffer]:
        """Pictures of the motion frames: one buffer per slot, because the next clip comes before they are read."""
        (call,) = model.family.carry
        encoder, final = model.serving(call.graph), self.denoiser.finals[0]
        target = encoder.spec.outputs[1]
        names = [f"{target.name}.{index}" for index in range(len(self.denoiser.finals))]
        pixels = self._own(Buffers(model.backend, [TensorSpec(name, target.dtype, target.shape) for name in names]))
        last = final.rows(call.frames.start, call.frames.stop)
        bound = {"last_latents": last, "motion_latents": self.buffers["motion_latents"], target.name: pixels[names[0]]}
        self.motion = self._own_graph(encoder.bind(bound))
        return [pixels[name] for name in names]

    @staticmethod
    def _constant_names(model: OpenedGraphs) -> tuple[str, ...]:
        """Inputs that stay the same during a run."""
        return tuple(model.family.constants(AnimateOptions()))

    def _own(self, buffers: Buffers) -> Buffers:
        self._owned.callback(buffers.close)
        return buffers

    def _own_graph(self, bound: BoundGraph) -> BoundGraph:
        self._owned.callback(bound.close)
        return bound


class ClipBuffersPool:
    """Clip buffers that wait for their next run. Thread-safe."""

    def __init__(self, kept: int) -> None:
        """``kept``: how many may wait."""
        self._kept, self._idle = kept, list[ClipBuffers]()
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def nbytes(self) -> int:
        """Memory of those that wait."""
        with self._lock:
            return sum(one.nbytes for one in self._idle)

    @property
    def captured_loops(self) -> int:
        """Solver loops that wait as one launch each."""
        with self._lock:
            return sum(one.denoiser.captured_loops for one in self._idle)

    def take(self, model: OpenedGraphs, table: StepTable, features: Mapping[str, Buffer]) -> ClipBuffers:
        """One that nobody else has."""
        with self._lock:
            found = next((one for one in self._idle if one.graphs >= set(table.graphs)), None)
            if found is not None:
                self._idle.remove(found)
        return found or ClipBuffers(model, table, features)

    def give_back(self, returned: ClipBuffers) -> None:
        """After the run: keep it, or close the one that waited longest. Never fails: the run is over."""
        try:
            returned.drain()
        except EmoRtError:  # closed or lost: the run itself has said so
            self._close([returned])
            return
        with self._lock:
            self._idle.append(returned)
            keep = 0 if self._is_closed else self._kept
            surplus = self._idle[: len(self._idle) - keep]
            self._idle = self._idle[len(surplus) :]
        self._close(surplus)

    def close(self) -> None:
        """Close those that wait, and from now on every one that comes back. Safe twice."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        self._close(idle)

    def _close(self, surplus: list[ClipBuffers]) -> None:
        for one in surplus:
            with suppress(EmoRtError):
                one.close()


def _specs(features: Mapping[str, Buffer], tensors: list[TensorSpec]) -> list[TensorSpec]:
    return [tensor for tensor in tensors if tensor.name in features]


def _slot(model: OpenedGraphs, final: Buffer, motion_pixels: Buffer | None) -> Slot:
    backend = model.backend
    decode = backend.stream("decode")
    return Slot(
        final=final,
        ready=backend.stream("denoise").event(),
        decoded=decode.event(),
        timers={stage: backend.stream(name).timer() for stage, name in STAGES.items()},
        motion_pixels=motion_pixels,
        motion_download=None if motion_pixels is None else decode.download(motion_pixels),
    )
