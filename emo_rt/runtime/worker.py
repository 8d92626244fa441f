"""The worker of families that make clip after clip: one launch of the ``clip`` graph, then the solver loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emo_rt.device.base import BoundGraph, Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.nvtx import marked
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.base import Plan
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.denoiser import FINAL_BUFFERS, Denoiser
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable
from emo_rt.runtime.worker_base import STAGES, BaseWorker, Slice, Slot

__all__ = ["STAGES", "Slice", "Slot", "Worker"]


class Worker(BaseWorker):
    """Makes one clip at a time from motion frames, sound and noise."""

    denoiser: Denoiser

    def _bind(
        self, model: LoadedModel, steps: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable
    ) -> None:
        backend, specs = model.backend, [step.spec for step in steps.values()]
        self._motion_frames = model.family.motion_frames
        clip = model.serving("clip", specs[0].variant)
        names = model.family.constants(AnimateOptions()).keys()
        constants = [tensor for tensor in specs[0].inputs if tensor.name in names]
        self._buffers = self._own(Buffers(backend, [*clip.spec.inputs, *clip.spec.outputs, *constants]))
        self.denoiser = self._own(Denoiser(backend, specs))
        bound = {**self._buffers, **features}
        self._clip = self._own(clip.bind(bound))
        self._clip_inputs = {tensor.name for tensor in clip.spec.inputs}
        self.denoiser.bind(steps, bound, table)
        self._windows = self._own(self._denoise.upload(self._buffers["audio_windows"]))
        held = [name for name in names if name in self._buffers]
        self._constants = {name: self._own(self._denoise.upload(self._buffers[name])) for name in held}
        self._values: dict[str, Array] = {}
        self._motion = self._bind_motion(model) if model.family.carry else None
        self.stages = ("clip", "step", *(("motion",) if self._motion else ()), "decode")

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._buffers.nbytes

    def buffer(self, name: str) -> Buffer:
        """An input or output of the ``clip`` graph."""
        return self._buffers[name]

    # A clip, in the order of the calls

    def load(self, features: Buffers, constants: Mapping[str, Any]) -> None:
        super().load(features, constants)
        for name, upload in self._constants.items():
            value = np.full(self._buffers[name].shape, constants[name], np.float32)
            if name not in self._values or not np.array_equal(self._values[name], value):
                upload.write(value)
                self._values[name] = value

    def begin(self, plan: Plan, state: Buffers, heard: Callable[[], Array], slot: Slot) -> None:
        self.begin_clip(heard(), state["motion_latents"], slot)

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
            yield self._slice(steps)

    def finish(self, slot: Slot, state: Buffers) -> None:
        self.carry(slot, state["motion_latents"])

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

    # Making it

    def _rebind(self, features: Mapping[str, Buffer]) -> None:
        for name in self._clip_inputs & features.keys():
            self._clip.rebind(name, features[name])
        self.denoiser.rebind(features)

    def _motion_pixels_of(self, index: int) -> Buffer | None:
        return None if self._motion is None else list(self._motion_pixels.values())[index]

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
