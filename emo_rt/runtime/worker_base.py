"""What computes: the buffers, bound graphs and captured loops that make clips on one device.

A worker is lent for a clip and used in slices. It keeps nothing of a talker: portrait features are bound (on a GPU
copied, 46 MB at full size, a fraction of a millisecond) when they change, and what must survive a clip lives with the
talker. What it hands to the decoder lies in one of three slots, so that decoding overlaps with the next clip, whoever's
it is. There are two kinds: :mod:`emo_rt.runtime.worker` makes clip after clip, :mod:`emo_rt.runtime.video_worker` a
whole video with its first clip.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from emo_rt.device.base import Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.nvtx import marked
from emo_rt.device.stream import Download, Event, Timer
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.base import Plan
from emo_rt.runtime.decoder import Decoder
from emo_rt.runtime.hearing import Hearing
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable


class Owned(Protocol):
    """What is given back."""

    def close(self) -> None:
        """Safe twice."""
        ...


class Steps(Protocol):
    """What runs the solver loop: a denoiser of clips or of windows."""

    finals: list[Buffer]
    """Where finished latents go, each (F, 4, S, S)."""

    @property
    def nbytes(self) -> int:
        """Memory of its buffers."""
        ...

    @property
    def captured(self) -> int:
        """How many captured graphs it is launched with."""
        ...

    @property
    def description(self) -> str:
        """How it is launched, in words."""
        ...

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
    part: float
    """Share of the next step that is done, where steps take several slices."""
    done: Event
    """Passed once the device has done it."""


class BaseWorker(ABC):
    """Makes one clip at a time. Not thread-safe, but :meth:`decode` may run beside everything else. Owners close."""

    denoiser: Steps
    """Runs the solver loop."""
    stages: tuple[str, ...] = ("step", "decode")
    """Stages whose time :meth:`times` tells."""

    def __init__(self, model: LoadedModel, table: StepTable, features: Mapping[str, Buffer]) -> None:
        """For this step table, and for all that need no other step graphs. ``features``: any portrait's."""
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
        self._portrait = self._own(Buffers(backend, self._copied_features(model, features)))
        self._features: weakref.ref[Buffers] | None = None
        steps = {name: model.graph(name) for name in sorted(self.graphs)}
        self._bind(model, steps, {**features, **self._portrait}, table)
        self._fresh = config.frames - sum(len(call.frames) for call in model.family.carry)
        self._decoder = self._own(Decoder(backend, model.serving("vae_decoder"), self.denoiser.finals[0], self._fresh))
        self._hearing = self._own(Hearing(backend, model.serving("audio_encoder"), config))
        self._tails = [(stream, self._own(stream.event())) for stream in self._streams]
        self._marks = deque(self._own(self._denoise.event()) for _ in range(MARKS))
        self._slots = [self._slot(index) for index in range(len(self.denoiser.finals))]
        self._free = deque(self._slots)

    # What kinds differ in

    @abstractmethod
    def _bind(
        self, model: LoadedModel, steps: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable
    ) -> None:
        """Make the denoiser, and bind whatever takes portrait features."""

    @abstractmethod
    def _rebind(self, features: Mapping[str, Buffer]) -> None:
        """Put another portrait's features in the place of those of :meth:`_bind`. On the CPU only."""

    @abstractmethod
    def begin(self, plan: Plan, state: Buffers, heard: Callable[[], Array], slot: Slot) -> None:
        """What comes in front of the solver loop. ``state``: what the talker keeps; ``heard``: gives what a clip, or
        the whole video, hears: (frames, rows, layers, hidden)."""

    @abstractmethod
    def denoise(self, table: StepTable, noise: Array, guidance: float, slot: Slot) -> Iterator[Slice]:
        """Enqueue the solver loop slice by slice: unit ``noise`` (frames, 4, S, S) → ``slot.final``."""

    @abstractmethod
    def finish(self, slot: Slot, state: Buffers) -> None:
        """Keep what the next clip needs of this one, and mark its end."""

    def _motion_pixels_of(self, index: int) -> Buffer | None:
        """Pictures of the motion frames of a slot, where those are decoded and encoded again."""
        return None

    # What all kinds share

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(part.nbytes for part in (self._portrait, self.denoiser, self._decoder, self._hearing))

    @property
    def free_slots(self) -> int:
        """How many more clips may be begun before one is decoded."""
        return len(self._free)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it waits for the decoder."""
        return len(self._free) == len(self._slots)

    def load(self, features: Buffers, constants: Mapping[str, Any]) -> None:
        """Whose portrait is animated, and how. ``features``: by tensor name, of an avatar; ``constants``: values of the
        family's inputs that stay the same during a clip, by tensor name."""
        if self._features is None or self._features() is not features:
            if self._denoise.is_deferred:
                for name, buffer in self._portrait.items():
                    self._denoise.copy(features[name], buffer)
            else:
                self._rebind(features)
            self._features = weakref.ref(features)

    def begin_motion(self, first: str, features: Mapping[str, Buffer], motion: Buffer) -> None:
        """The motion frames in front of a first clip, (N, 4, S, S). ``first``: ``portrait``, N times, or ``zeros``."""
        if first == "zeros":
            self._denoise.clear(motion)
            return
        for frame in range(motion.shape[0]):
            self._denoise.copy(features["portrait_latent"].row(0), motion.row(frame))

    def resume_motion(self, latents: Sequence[Buffer], motion: Buffer, scratch: Buffer) -> None:
        """Motion frames of a clip that continues these ``latents``, N of (4, S, S), finished ones of any clips.

        Written to ``motion``; ``scratch``: (N, 4, S, S), overwritten.
        """
        raise NotImplementedError("a whole video has no motion frames")

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

    def decode(self, slot: Slot, frames: int) -> Generator[Array, None, None]:
        """The first ``frames`` pictures of a finished clip, (n, size, size, 3) uint8, part by part as they are there.

        Take all of them, or close the iterator.
        """
        wanted = min(frames, self._fresh)
        self._decode.wait(slot.ready)
        try:
            slot.latents_download.start()
            if slot.motion_download is not None:
                slot.motion_download.start()
            with slot.timers["decode"], marked("decode"):
                yield from self._decoder.parts(slot.final, wanted)
        finally:  # a part of it may be enqueued, and read the slot
            self._decode.record(slot.decoded)
        if slot.motion_download is not None and wanted < frames:
            yield slot.motion_download.result()[: frames - wanted]

    def latents(self, slot: Slot) -> Array:
        """(F, 4, S, S) float32: what is decoded of this slot, a new array; as soon as its first pictures are there."""
        return slot.latents_download.result()

    def times(self, slot: Slot) -> dict[str, tuple[float, float]]:
        """(start, seconds) of each stage of the clip that was decoded last from this slot."""
        return {stage: slot.timers[stage].read() for stage in self.stages}

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

    def _slice(self, steps: int, part: float = 0.0) -> Slice:
        """The end of what is enqueued now."""
        mark = self._marks[0]
        self._marks.rotate(-1)
        self._denoise.record(mark)
        return Slice(steps, part, mark)

    def _copied_features(self, model: LoadedModel, features: Mapping[str, Buffer]) -> list[TensorSpec]:
        """On a GPU captured graphs know addresses, so features are copied; on the CPU they are bound where they are."""
        if not self._denoise.is_deferred:
            return []
        return [tensor for tensor in model.portrait_tensors() if tensor.name in features]

    def _own(self, part: P) -> P:
        self._owned.callback(part.close)
        return part

    def _slot(self, index: int) -> Slot:
        pixels = self._motion_pixels_of(index)
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
