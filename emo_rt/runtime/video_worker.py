"""The worker of families that make a whole video at once: its first clip is the work, the others are parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from emo_rt.device.base import Graph
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import Array
from emo_rt.model.families.base import Plan
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable
from emo_rt.runtime.window_denoiser import WindowDenoiser
from emo_rt.runtime.worker_base import BaseWorker, Slice, Slot


class VideoWorker(BaseWorker):
    """Denoises a video in the talker's own buffers, and hands its frames to the decoder clip by clip."""

    denoiser: WindowDenoiser

    def _bind(
        self, model: LoadedModel, steps: Mapping[str, Graph], features: Mapping[str, Buffer], table: StepTable
    ) -> None:
        update = model.serving("update")
        self.denoiser = WindowDenoiser(model.backend, [step.spec for step in steps.values()], update.spec)
        self._own(self.denoiser).bind(steps, update, features)
        self._plan: Plan | None = None
        self._state: Buffers | None = None

    def begin(self, plan: Plan, state: Buffers, heard: Callable[[], Array], slot: Slot) -> None:
        """With the first clip the audio tokens of the whole video are brought to the device."""
        self._plan, self._state = plan, state
        self._denoise.wait(slot.decoded)
        if plan.step:
            rows = heard()
            self.denoiser.write("audio_tokens", rows.reshape(len(rows), -1, rows.shape[-1]), state["audio_tokens"])

    def denoise(self, table: StepTable, noise: Array, guidance: float, slot: Slot) -> Iterator[Slice]:
        """``noise``: of the whole video; of other clips than the first it is not looked at."""
        plan, state = self._plan, self._state
        assert plan is not None, "begin() comes first"
        assert state is not None, "begin() comes first"
        timer = slot.timers["step"]
        timer.start()
        if plan.step:
            self.denoiser.write("latents", noise, state["latents"])
            for steps, part in self.denoiser.slices(table, guidance, plan, state):
                if steps < table.steps:
                    yield self._slice(steps, part)
        self.denoiser.take(state, plan.first, slot.final)
        timer.stop()
        yield self._slice(table.steps)

    def finish(self, slot: Slot, state: Buffers) -> None:
        self._plan = self._state = None
        self._denoise.record(slot.ready)

    def _rebind(self, features: Mapping[str, Buffer]) -> None:
        self.denoiser.rebind(features)
