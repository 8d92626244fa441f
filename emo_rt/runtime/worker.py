"""What computes: the buffers, bound graphs and captured loops that make clips on one device.

A worker is lent for a clip and used in slices. It keeps nothing of a talker: portrait features are bound (on a GPU
copied, 46 MB at full size, a fraction of a millisecond) when they change, motion frames live with the talker. What it
hands to the decoder lies in one of three slots, so that decoding overlaps with the next clip, whoever's it is.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from emo_rt.device.base import BoundGraph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.nvtx import marked
from emo_rt.device.stream import Download, Event, Timer
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.decoder import Decoder
from emo_rt.runtime.denoiser import FINAL_BUFFERS, Denoiser
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable


class Owned(Protocol):
    """What is given back."""

    def close(self) -> None:
        """Safe twice."""
        ...


P = TypeVar("P", bound=Owned)

STAGES = {"clip": "denoise", "step": "denoise", "motion": "denoise", "decode": "decode"}
"""Stages whose time is taken on the device → stream."""
MARKS = 3
"""Events that mark the ends of slices: more than slices that are under way at once."""


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
    latents_download: Download
    """Brings the finished latents to the host, with the pictures."""


@dataclass(frozen=True, eq=False)
class Slice:
    """A part of a clip that is enqueued."""

    steps: int
    """Solver steps of the clip up to its end."""
    done: Event
    """Passed once the device has done it."""


class Worker:
    """Makes one clip at a time. Not thread-safe, but :meth:`decode` may run beside everything else. Owners close."""

    def __init__(self, model: LoadedModel, table: StepTable, features: Mapping[str, Buffer]) -> None:
        """For this step table, and for all that need no other step graphs. ``features``: any portrait's."""
        self._motion_frames = model.family.motion_frames
        self.graphs = frozenset(table.graphs)
        """The step graphs that are bound."""
        self._owned = ExitStack()
        try:
            self._make(model, table, features)
        except BaseException:
            self._owned.close()
            raise

    def _make(self, model: LoadedModel, table: StepTable, features: Mapping[str, Buffer]) -> None:
        backend, config = model.backend, model.config
        self._denoise, self._decode = backend.stream("denoise"), backend.stream("decode")
        self._streams = [self._denoise, self._decode, backend.stream("side")]
        steps = {name: model.graph(name) for name in sorted(self.graphs)}
        specs = [step.spec for step in steps.values()]
        clip = model.serving("clip", specs[0].variant)
        names = model.family.constants(AnimateOptions()).keys()
        constants = [tensor for tensor in specs[0].inputs if tensor.name in names]
        self._buffers = self._own(Buffers(backend, [*clip.spec.inputs, *clip.spec.outputs, *constants]))
        self._portrait = self._own(Buffers(backend, self._copied_features(model, features)))
        self._features: weakref.ref[Buffers] | None = None
        self.denoiser = self._own(Denoiser(backend, specs))
        bound = {**self._buffers, **features, **self._portrait}
        self._clip = self._own(clip.bind(bound))
        self._clip_inputs = {tensor.name for tensor in clip.spec.inputs}
        self.denoiser.bind(steps, bound, table)
        self._windows = self._own(self._denoise.upload(self._buffers["audio_windows"]))
        held = [name for name in names if name in self._buffers]
        self._constants = {name: self._own(self._denoise.upload(self._buffers[name])) for name in held}
        self._values: dict[str, Array] = {}
        self._motion = self._bind_motion(model) if model.family.carry else None
        self._fresh = config.frames - sum(len(call.frames) for call in model.family.carry)
        self._decoder = self._own(Decoder(backend, model.serving("vae_decoder"), self.denoiser.finals[0], self._fresh))
        self._hearing = self._own(Hearing(backend, model.serving("audio_encoder"), config))
        self._tails = [(stream, self._own(stream.event())) for stream in self._streams]
        self._marks = deque(self._own(self._denoise.event()) for _ in range(MARKS))
        self._slots = [self._slot(index) for index in range(FINAL_BUFFERS)]
        self._free = deque(self._slots)

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        parts = (self._buffers, self._portrait, self.denoiser, self._decoder, self._hearing)
        return sum(part.nbytes for part in parts)

    @property
    def free_slots(self) -> int:
        """How many more clips may be begun before one is decoded."""
        return len(self._free)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it waits for the decoder."""
        return len(self._free) == len(self._slots)

    def buffer(self, name: str) -> Buffer:
        """An input or output of the ``clip`` graph."""
        return self._buffers[name]

    # A clip, in the order of the calls

    def load(self, features: Buffers, constants: Mapping[str, Any]) -> None:
        """Whose portrait is animated, and how. ``features``: by tensor name, of an avatar; ``constants``: values of the
        family's inputs that stay the same during a clip, by tensor name."""
        if self._features is None or self._features() is not features:
            self._load_features(features)
            self._features = weakref.ref(features)
        for name, upload in self._constants.items():
            value = np.full(self._buffers[name].shape, constants[name], np.float32)
            if name not in self._values or not np.array_equal(self._values[name], value):
                upload.write(value)
                self._values[name] = value

    def begin_motion(self, first: str, features: Mapping[str, Buffer], motion: Buffer) -> None:
        """The motion frames in front of a first clip, (N, 4, S, S). ``first``: ``portrait``, N times, or ``zeros``."""
        if first == "zeros":
            self._denoise.clear(motion)
            return
        for frame in range(motion.shape[0]):
            self._denoise.copy(features["portrait_latent"].row(0), motion.row(frame))

    def resume_motion(self, latents: Sequence[Buffer], motion: Buffer, scratch: Buffer) -> None:
        """Motion frames of a clip that continues these ``latents``, N of (4, S, S), finished ones of any clips.

        They are decoded and encoded again where :meth:`carry` does so. ``scratch``: (N, 4, S, S), overwritten.
        """
        target = motion if self._motion is None else scratch
        for frame, one in enumerate(latents):
            self._denoise.copy(one, target.row(frame))
        if self._motion is not None:
            self._motion.rebind("last_latents", scratch)
            self._motion.rebind("motion_latents", motion)
            self._motion.rebind("motion_pixels_rgb", self._unseen_pixels)
            self._motion.run()

    def keep(self, slot: Slot, kept: Buffer) -> None:
        """Copy the finished latents of a clip, (F, 4, S, S), to where a later clip may continue any frame of them."""
        self._denoise.copy(slot.final, kept)

    def hear(self, waveform: Array) -> Array:
        """(samples,) float32 at 16 kHz → hidden states (frames, layers, hidden) float32, a new array."""
        with marked("audio"):
            return self._hearing(waveform)

    def take_slot(self) -> Slot:
        """A place for a clip's result; :meth:`free` gives it back. There must be one."""
        return self._free.popleft()

    def begin_clip(self, windows: Array, motion: Buffer, slot: Slot) -> None:
        """Enqueue the ``clip`` graph. ``windows``: (F, 2m+1, layers, hidden); ``motion``: (N, 4, S, S)."""
        self._denoise.wait(slot.decoded)
        with slot.timers["clip"], marked("clip"):
            self._windows.write(windows)
            self._clip.rebind("motion_latents", motion)
            self._clip.run()

    def denoise(self, table: StepTable, noise: Array, guidance: float, slot: Slot) -> Iterator[Slice]:
        """Enqueue the solver loop slice by slice: unit ``noise`` (F, 4, S, S) → ``slot.final``."""
        self.denoiser.prepare(table)
        timer = slot.timers["step"]
        timer.start()
        for steps in self.denoiser.slices(table, noise, guidance, slot.final):
            if steps == table.steps:
                timer.stop()
            mark = self._marks[0]
            self._marks.rotate(-1)
            self._denoise.record(mark)
            yield Slice(steps, mark)

    def carry(self, slot: Slot, motion: Buffer) -> None:
        """The end of this clip becomes the next one's ``motion``, decoded and encoded again where that is due."""
        last = slot.final.rows(self._motion_frames.start, self._motion_frames.stop)
        if self._motion is None or slot.motion_pixels is None:
            self._denoise.copy(last, motion)
        else:
            with slot.timers["motion"], marked("motion"):
                self._motion.rebind("last_latents", last)
                self._motion.rebind("motion_latents", motion)
                self._motion.rebind("motion_pixels_rgb", slot.motion_pixels)
                self._motion.run()
        self._denoise.record(slot.ready)

    def decode(self, slot: Slot, frames: int) -> Array:
        """The first ``frames`` pictures of a finished clip, (frames, size, size, 3) uint8; waits for them."""
        wanted = min(frames, self._fresh)
        self._decode.wait(slot.ready)
        try:
            with slot.timers["decode"], marked("decode"):
                self._decoder.start(slot.final, wanted)
                slot.latents_download.start()
                if slot.motion_download is not None:
                    slot.motion_download.start()
        finally:  # a part of it may be enqueued, and read the slot
            self._decode.record(slot.decoded)
        pictures = self._decoder.result(wanted)
        if slot.motion_download is not None:
            pictures = np.concatenate([pictures, slot.motion_download.result()])
        return pictures[:frames]

    def latents(self, slot: Slot) -> Array:
        """(F, 4, S, S) float32: what was decoded last from this slot, a new array."""
        return slot.latents_download.result()

    def times(self, slot: Slot) -> dict[str, tuple[float, float]]:
        """(start, seconds) of each stage of the clip that was decoded last from this slot."""
        stages = [stage for stage in STAGES if stage != "motion" or slot.motion_download is not None]
        return {stage: slot.timers[stage].read() for stage in stages}

    def free(self, slot: Slot) -> None:
        """Give a slot back, decoded or not."""
        self._free.append(slot)

    def close(self) -> None:
        """Wait for everything that is enqueued and give everything back. Safe twice."""
        tails, self._tails = self._tails, []
        try:
            for stream, tail in tails:
                stream.record(tail)
                tail.synchronize()
        finally:
            self._owned.close()

    # Making it

    def _copied_features(self, model: LoadedModel, features: Mapping[str, Buffer]) -> list[TensorSpec]:
        """On a GPU captured graphs know addresses, so features are copied; on the CPU they are bound where they are."""
        if not self._denoise.is_deferred:
            return []
        return [tensor for tensor in model.portrait_tensors() if tensor.name in features]

    def _load_features(self, features: Mapping[str, Buffer]) -> None:
        if self._denoise.is_deferred:
            for name, buffer in self._portrait.items():
                self._denoise.copy(features[name], buffer)
            return
        for name in self._clip_inputs & features.keys():
            self._clip.rebind(name, features[name])
        self.denoiser.rebind(features)

    def _bind_motion(self, model: LoadedModel) -> BoundGraph:
        """Pictures of the motion frames get one buffer per slot, because the next clip comes before they are read, and
        one for :meth:`resume_motion`, whose pictures nobody wants."""
        (call,) = model.family.carry
        encoder, final = model.serving(call.graph), self.denoiser.finals[0]
        target = encoder.spec.outputs[1]
        specs = [TensorSpec(f"{target.name}.{index}", target.dtype, target.shape) for index in range(FINAL_BUFFERS + 1)]
        self._motion_pixels = self._own(Buffers(model.backend, specs))
        self._unseen_pixels = list(self._motion_pixels.values())[FINAL_BUFFERS]
        last = final.rows(call.frames.start, call.frames.stop)
        pixels = self._motion_pixels[f"{target.name}.0"]
        bound = {"last_latents": last, "motion_latents": self._buffers["motion_latents"], target.name: pixels}
        return self._own(encoder.bind(bound))

    def _own(self, part: P) -> P:
        self._owned.callback(part.close)
        return part

    def _slot(self, index: int) -> Slot:
        pixels = None if self._motion is None else list(self._motion_pixels.values())[index]
        streams = {stream.name: stream for stream in self._streams}
        return Slot(
            final=self.denoiser.finals[index],
            ready=self._own(self._denoise.event()),
            decoded=self._own(self._decode.event()),
            timers={stage: self._own(streams[name].timer()) for stage, name in STAGES.items()},
            motion_pixels=pixels,
            motion_download=None if pixels is None else self._own(self._decode.download(pixels)),
            latents_download=self._own(self._decode.download(self.denoiser.finals[index])),
        )
