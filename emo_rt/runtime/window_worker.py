"""The worker of families that make a clip in one window of frames: finished ones, the clip's own, and some ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from emo_rt.device.base import Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.model.families.base import Plan
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable
from emo_rt.runtime.video_state import video_tensors
from emo_rt.runtime.window_denoiser import Frozen, WindowDenoiser
from emo_rt.runtime.worker_base import BaseWorker, Slice, Slot

NOISE, ONES = "noise", "ones"


class WindowWorker(BaseWorker):
    """Denoises one window for each clip. Of the talker it needs the finished latents in front of the clip."""

    denoiser: WindowDenoiser

    def _bind(
        self, model: LoadedModel, steps: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable
    ) -> None:
        update, config = model.serving("update"), model.config
        specs = [step.spec for step in steps.values()]
        self._clip_frames, self._back = config.frames, config.motion_frames
        batch = int(model.serving("vae_decoder").spec.inputs[0].shape[0])
        decoded = -(-config.frames // batch) * batch
        self.denoiser = self._own(WindowDenoiser(model.backend, specs, update.spec, decoded))
        self.denoiser.bind(steps, update, features)
        for final in self.denoiser.finals:  # what is decoded beside the clip may be no more than this
            self._denoise.clear(final)
        rows = video_tensors([*specs[0].inputs, *update.spec.inputs], self.denoiser.frames)
        shapes = {tensor.name: tensor.shape for tensor in rows}
        own = [TensorSpec(NOISE, "float32", shapes["latents"]), TensorSpec(ONES, "float32", shapes["frame_weights"])]
        self._window = self._own(Buffers(model.backend, [*rows, *own]))
        self._window[ONES].write(np.ones([int(size) for size in shapes["frame_weights"]], np.float32))
        self._plan: Plan | None = None
        self._frozen: Buffer | None = None

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._window.nbytes

    def begin(self, plan: Plan, state: Buffers, heard: Callable[[], Array], slot: Slot) -> None:
        self._plan = plan
        self._frozen = state["motion_latents"] if plan.motion == "carried" else None
        self._denoise.wait(slot.decoded)
        tokens = heard()
        self.denoiser.write(
            "audio_tokens", tokens.reshape(len(tokens), -1, tokens.shape[-1]), self._window["audio_tokens"]
        )

    def denoise(self, table: StepTable, noise: Array, guidance: float, slot: Slot) -> Iterator[Slice]:
        """``noise``: of the window, (frames, 4, S, S)."""
        plan, window = self._plan, self._window
        assert plan is not None, "begin() comes first"
        timer = slot.timers["step"]
        timer.start()
        self.denoiser.write("latents", noise, window["latents"])
        self._denoise.copy(window["latents"], window[NOISE])
        frozen = None if self._frozen is None else Frozen(self._frozen, window[NOISE], window[ONES])
        whole = Plan(plan.motion, (), plan.step, frames=self.denoiser.frames)
        for steps, part in self.denoiser.slices(table, guidance, whole, window, frozen):
            if steps < table.steps:
                yield self._slice(steps, part)
        wanted = min(slot.final.shape[0], self.denoiser.frames - self._back)
        self._denoise.copy(window["latents"].rows(self._back, self._back + wanted), slot.final.rows(0, wanted))
        timer.stop()
        yield self._slice(table.steps)

    def finish(self, slot: Slot, state: Buffers) -> None:
        self._plan = self._frozen = None
        self._denoise.copy(slot.final.rows(self._clip_frames - self._back, self._clip_frames), state["motion_latents"])
        self._denoise.record(slot.ready)

    def resume_motion(self, latents: Sequence[Buffer], motion: Buffer, scratch: Buffer) -> None:
        for frame, one in enumerate(latents):
            self._denoise.copy(one, motion.row(frame))

    def keep(self, slot: Slot, kept: Buffer) -> None:
        self._denoise.copy(slot.final.rows(0, self._clip_frames), kept)

    def _rebind(self, features: Mapping[str, Buffer]) -> None:
        self.denoiser.rebind(features)
