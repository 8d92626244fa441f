"""Stages 1 to 4 in one: batches of clips; half of them follow the clips before, on motion frames that the network
itself made there. The whole forward and backward pass is recorded as a CUDA graph where that works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.model.solvers import alphas_cumprod
from training import diffusion
from training.borrowed.clock import Clock, Log, Now, Trainer
from training.borrowed.footage import Batch, Footage, Place, with_motion
from training.borrowed.look import Scores
from training.borrowed.told import features, predict
from training.diffusion import FLICKER_WEIGHT
from training.stages import save_parts

PEAK = 1e-3
TERMINAL = 0.12
"""Share of the clips that start from pure noise: the first step decides nearly everything."""


class Step:
    """Losses and gradients of one batch, as often as called; recorded once on a GPU."""

    def __init__(self, compute: Callable[[], dict[str, Tensor]], trainer: Trainer, record: bool) -> None:
        self._compute, self._trainer, self._graph = compute, trainer, None
        self.values: dict[str, Tensor] = {}
        if record:
            self._record()

    def run(self) -> dict[str, Tensor]:
        """Values by name; the gradients are in the parameters."""
        self._trainer.forget()
        if self._graph is not None:
            self._graph.replay()
            return self.values
        return self._compute()

    def _record(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._trainer.forget()
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.values = self._compute()
            self._graph = graph
        except RuntimeError as error:
            sys.stderr.write(f"no CUDA graph, one kernel after another instead: {error}\n")
            torch.cuda.synchronize()


class Denoising:
    """The network's loss on clips with noise, in buffers that a recorded graph reads."""

    def __init__(self, model: EmoModel, footage: Footage, batch: int) -> None:
        self.model, self.footage, self.batch = model, footage, batch
        self.device = footage.device
        signal = torch.from_numpy(alphas_cumprod(model.config.schedule)).float().to(self.device)
        self._alpha, self._sigma = signal.sqrt(), (1 - signal).sqrt()
        self.place = footage.places(batch)
        self.given = footage.batch(self.place).clone()
        self.noise = torch.randn_like(self.given.latents)
        self.timesteps = torch.zeros(batch, dtype=torch.long, device=self.device)
        self.own = torch.zeros(batch, dtype=torch.bool, device=self.device)
        self._made: Tensor | None = None

    def next(self, share: float) -> None:
        """Other clips into the buffers. ``share`` of the stage that is over: at first all motion frames are true."""
        half = self.batch // 2
        following, there = self.footage.following(self.place)
        fresh = self.footage.places(self.batch)
        follow = (
            there & (torch.arange(self.batch, device=self.device) < half) & (share > 0.15) & (self._made is not None)
        )
        order = torch.randperm(self.batch, device=self.device)  # who follows changes places, so that all get their turn
        place = Place(
            torch.where(follow, following.clip, fresh.clip), torch.where(follow, following.first, fresh.first)
        )
        batch = self.footage.batch(place)
        if self._made is not None:
            batch = with_motion(batch, self._made, follow)
        self.place = Place(place.clip[order], place.first[order])
        self.given.copy_from(_reordered(batch, order))
        self.own.copy_(follow[order])
        self.noise.normal_()
        self.timesteps.copy_(timesteps(self.batch, len(self._alpha), self.device))

    def losses(self) -> dict[str, Tensor]:
        """Squared error of v, with more weight on the mouth; squared change of the error from frame to frame; leaves
        the gradients and what it made."""
        given, device = self.given, self.device.type
        alpha, sigma = (level[self.timesteps][:, None, None, None, None] for level in (self._alpha, self._sigma))
        noisy = alpha * given.latents + sigma * self.noise
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            v = predict(self.model, noisy, self.timesteps, features(self.model, given))
        error = v.float() - (alpha * self.noise - sigma * given.latents)
        square, flicker = error.square(), error.diff(dim=1).square()
        total = (square * given.weight).mean() + FLICKER_WEIGHT * (flicker * given.weight[:, 1:]).mean()
        total.backward()
        made = (alpha * noisy - sigma * v.float())[:, -given.motion.shape[1] :].detach()
        by_clip = square.detach().mean(dim=(1, 2, 3, 4))
        inside = (given.weight > 5).float()
        mouth = (square.detach() * inside).sum() / (inside.sum() * square.shape[2] + 1)
        return {"total": total.detach(), "picture": by_clip.mean(), "mouth": mouth, "by_clip": by_clip, "made": made}

    def keep(self, made: Tensor) -> None:
        """Motion frames for the clips that follow."""
        self._made = made


def timesteps(count: int, total: int, device: torch.device) -> Tensor:
    """(count,) of 0 … total − 1: half of them leaning towards noise, some at the very end."""
    chance = torch.rand(3, count, device=device)
    place = torch.where(chance[0] < 0.5, chance[1].sqrt(), chance[1])
    place = torch.where(chance[2] < TERMINAL, torch.ones_like(place), place)
    return (place * total).long().clamp(0, total - 1)


def _reordered(batch: Batch, order: Tensor) -> Batch:
    return Batch(*(getattr(batch, name)[order] for name in batch.__dataclass_fields__))


def train(
    model: EmoModel, footage: Footage, scores: Scores, folder: Path, seconds: float, batch: int, record: bool,
    now: Now = time.monotonic,
) -> None:  # fmt: skip
    """Until the budget is used; leaves ``teacher.weights.pt`` every minute, too."""
    log = Log(folder, "teacher")
    trainer = Trainer(folder / "teacher.pt", diffusion.trainable(model, "joint"), PEAK)
    clock, work = Clock(seconds, trainer.used, now), Denoising(model, footage, batch)
    share = clock.share
    work.next(share)
    step = Step(work.losses, trainer, record)
    saved, begun, first = time.monotonic(), time.monotonic(), trainer.step
    while share < 1:
        share = clock.share  # read once a step: the step that uses the budget up also saves
        work.next(share)
        values = step.run()
        work.keep(values["made"])
        norm = trainer.update(share)
        if trainer.step % 100 == 0:
            told = {name: values[name] for name in ("total", "picture", "mouth")}
            own = values["by_clip"][work.own].mean()
            pace = (trainer.step - first) / (time.monotonic() - begun)
            log(step=trainer.step, share=share, pace=pace, own=own, gradient=norm, **told)
        if time.monotonic() - saved > 60 or share >= 1:
            trainer.save(share * clock.seconds)

            def keep() -> dict[str, float]:
                save_parts(model, folder, "teacher")
                return scores.of(model, ("unipc", 4, model.config.guidance))

            log(step=trainer.step, **trainer.averaged(keep))
            saved = time.monotonic()
    trainer.use_average()
    save_parts(model, folder, "teacher")
    for guidance in (1.0, 2.0):
        log(guidance=guidance, steps=8, **scores.of(model, ("unipc", 8, guidance)))
