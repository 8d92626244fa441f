"""The student: the teacher's network, taught to give at once, without guidance, what the teacher's guided run gives.

First the teacher fills a pool: noise, what it was told, and where its run ended, clip after clip in rows on its own
motion frames. Then the network learns from the pool at the first timestep only, where the input is pure noise: on
latents, and on decoded pictures with their edges, a critic in the end. Most clips follow on the student's own motion
frames. A quarter of each batch has the teacher's own loss at any timestep, so that more steps and guidance still work.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.vae import decode
from emo_rt.model.solvers import alphas_cumprod
from training import diffusion
from training.borrowed.clock import Clock, Log, Now, Trainer
from training.borrowed.footage import Batch, Footage, Place, kept, with_motion
from training.borrowed.look import Scores
from training.borrowed.sharpness import Critic, critic_loss, unlikeness, with_critic
from training.borrowed.teacher import Step, timesteps
from training.borrowed.told import denoise, features, predict
from training.diffusion import FLICKER_WEIGHT
from training.judge import trained
from training.stages import save_parts

PEAK = 5e-4
ROW = 3
"""Clips in a row in the pool."""
PICTURES = 2
"""Frames per clip that are decoded."""
PIXEL_WEIGHT = 0.5
POOL_SHARE, POOL_BYTES, SOLVER_STEPS = 0.35, 20e9, 5
"""Of the pool: most of the budget that it may take, bytes, and the steps of the teacher's runs in it."""
CRITIC_FROM, CRITIC_SHARE = 0.4, 0.25
HALF = torch.float16


class Pool:
    """Rows of clips that the teacher made. What was told is drawn again from the places, with the same seed."""

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        self.rows: list[tuple[list[Batch], list[Tensor], list[Tensor]]] = []
        """Per batch of rows: what was told, noise, result; ``ROW`` of each."""

    @torch.no_grad()
    def fill(self, teacher: EmoModel, batch: int, steps: int, guidance: float) -> None:
        """One more batch of rows."""
        footage, f = self.footage, self.footage.config.frames
        place = footage.places(batch)
        room = footage.lengths[place.clip] - ROW * f
        place = Place(place.clip, torch.minimum(place.first, room.clamp_min(0)))
        told, noises, results = list[Batch](), list[Tensor](), list[Tensor]()
        reference: Batch | None = None
        for index in range(ROW):
            given = footage.batch(Place(place.clip, place.first + index * f), drop=False)
            if reference is not None:
                given = _same_person(given, reference)
                every = torch.ones(batch, dtype=torch.bool, device=footage.device)
                given = with_motion(given, results[-1][:, -footage.config.motion_frames :], every)
            reference = given
            noise = torch.randn_like(given.latents)
            results.append(denoise(teacher, given, noise, "unipc", steps, guidance).to(HALF))
            told.append(_halved(given))
            noises.append(noise.to(HALF))
        self.rows.append((told, noises, results))


def _same_person(batch: Batch, other: Batch) -> Batch:
    """Portrait, mask and speed as in the clip before."""
    return Batch(
        batch.latents, batch.motion, other.reference, batch.windows, other.mask, batch.speed, batch.weight, batch.keep
    )


def _halved(batch: Batch) -> Batch:
    return Batch(*(getattr(batch, name).to(HALF) for name in batch.__dataclass_fields__))


class Distillation:
    """The student's loss, in buffers that a recorded graph reads."""

    def __init__(self, model: EmoModel, pool: Pool, batch: int) -> None:
        self.model, self.pool, self.batch, self.device = model, pool, batch, pool.footage.device
        told, noises, results = pool.rows[0]
        self.given = Batch(*(getattr(told[0], n)[:batch].float() for n in told[0].__dataclass_fields__)).clone()
        self.noise, self.wanted = noises[0][:batch].float().clone(), results[0][:batch].float().clone()
        signal = torch.from_numpy(alphas_cumprod(model.config.schedule)).float().to(self.device)
        self._alpha, self._sigma = signal.sqrt(), (1 - signal).sqrt()
        self.timesteps = torch.full((batch,), len(signal) - 1, device=self.device)
        self.taught = batch - batch // 4
        """Clips of a batch that learn from the pool, the first ones; the others denoise the truth."""
        self.frames = torch.zeros(self.taught, PICTURES, dtype=torch.long, device=self.device)
        self.judge, self.critic = trained().to(self.device).requires_grad_(False), Critic().to(self.device)
        self.critic_share = torch.zeros((), device=self.device)
        self._row, self._index, self._picked = 0, ROW, torch.zeros(0, dtype=torch.long)
        self.made: Tensor | None = None

    def next(self) -> None:
        """The next clips of the rows at hand, on the student's own motion frames half of the time; else new rows."""
        self._index += 1
        if self._index >= ROW:
            self._row, self._index = int(torch.randint(len(self.pool.rows), (1,))), 0
            count = len(self.pool.rows[self._row][1][0])
            self._picked = torch.randperm(count, device=self.device)[: self.batch]
        told, noises, results = self.pool.rows[self._row]
        given = Batch(*(getattr(told[self._index], n)[self._picked].float() for n in told[0].__dataclass_fields__))
        if self._index and self.made is not None:
            given = with_motion(given, self.made, torch.rand(self.batch, device=self.device) < 0.7)
        self.given.copy_from(given)
        self.noise.copy_(noises[self._index][self._picked])
        self.wanted.copy_(results[self._index][self._picked])
        free = slice(self.taught, None)
        count = self.batch - self.taught
        self.wanted[free], self.given.keep[free] = self.given.latents[free], kept(count, self.device)
        self.timesteps[free] = timesteps(count, len(self._alpha), self.device)
        self.frames.copy_(torch.randint(self.noise.shape[1], self.frames.shape, device=self.device))

    def losses(self) -> dict[str, Tensor]:
        """On latents and on some decoded frames; leaves the gradients."""
        given, device = self.given, self.device.type
        alpha, sigma = (level[self.timesteps][:, None, None, None, None] for level in (self._alpha, self._sigma))
        noisy = alpha * self.wanted + sigma * self.noise
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            v = predict(self.model, noisy, self.timesteps, features(self.model, given)).float()
        error, made = v - (alpha * self.noise - sigma * self.wanted), alpha * noisy - sigma * v
        square, flicker = error.square(), error.diff(dim=1).square()
        latent = (square * given.weight).mean() + FLICKER_WEIGHT * (flicker * given.weight[:, 1:]).mean()
        rows = torch.arange(self.taught, device=self.device)[:, None] * made.shape[1] + self.frames
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            pixels = decode(self.model.vae, made.flatten(0, 1).index_select(0, rows.flatten()))
            with torch.no_grad():
                wanted = decode(self.model.vae, self.wanted.flatten(0, 1).index_select(0, rows.flatten()))
                true = decode(self.model.vae, given.latents.flatten(0, 1).index_select(0, rows.flatten()))
            parts = unlikeness(pixels, wanted, self.judge)
            pull = with_critic(PIXEL_WEIGHT * parts["total"], pixels, self.critic, self.critic_share)
        torch.autograd.backward([latent, pixels], [None, pull])
        n = given.motion.shape[1]
        return {
            "latent": latent.detach(), "square": square.detach().mean(), "pixel": parts["pixel"].detach(),
            "edge": parts["edge"].detach(), "made": made[:, -n:].detach(), "pixels": pixels.detach(),
            "true": true.detach(),
        }  # fmt: skip


def train(
    model: EmoModel, footage: Footage, scores: Scores, folder: Path, seconds: float, batch: int, record: bool,
    now: Now = time.monotonic,
) -> None:  # fmt: skip
    """Until the budget is used, one step at least; leaves ``student.weights.pt`` on the way, too."""
    log = Log(folder, "student")
    clock = Clock(seconds, now=now)
    pool = filled(model, footage, batch, clock)
    used = clock.used  # more than its share where one batch of rows takes long: steps have theirs all the same
    log(pool=sum(len(part) for _, noises, _ in pool.rows for part in noises), seconds=used)
    trainer = Trainer(folder / "student.pt", diffusion.trainable(model, "joint"), PEAK, keep=0.998)
    work = Distillation(model, pool, batch)
    critics = torch.optim.AdamW(work.critic.parameters(), lr=3e-4, betas=(0.5, 0.9), weight_decay=0.0)
    clock, saved = Clock(max(seconds - used, (1 - POOL_SHARE) * seconds), trainer.used, now), time.monotonic()
    share = clock.share
    work.next()
    work.critic.eval().requires_grad_(False)
    step = Step(work.losses, trainer, record)
    begun, first = time.monotonic(), trainer.step
    while share < 1:
        share = clock.share  # read once a step: the step that uses the budget up also saves
        work.next()
        values = step.run()
        work.made = values["made"].clone()
        norm = trainer.update(share)
        if share >= CRITIC_FROM:
            blame = _teach(work.critic, critics, values)
            work.critic_share.fill_(CRITIC_SHARE * min(1.0, (share - CRITIC_FROM) / 0.1))
        if trainer.step % 50 == 0:
            told = {name: values[name] for name in ("latent", "square", "pixel", "edge")}
            pace = (trainer.step - first) / (time.monotonic() - begun)
            critic = blame if share >= CRITIC_FROM else 0.0
            log(step=trainer.step, share=share, pace=pace, gradient=norm, critic=critic, **told)
        if time.monotonic() - saved > 30 or share >= 1:
            trainer.save(share * clock.seconds)

            def keep() -> dict[str, float]:
                save_parts(model, folder, "student")
                return scores.of(model, ("ddim", 1, 1.0))

            log(step=trainer.step, **trainer.averaged(keep))
            saved = time.monotonic()
    trainer.use_average()
    save_parts(model, folder, "student")


def filled(teacher: EmoModel, footage: Footage, batch: int, clock: Clock) -> Pool:
    """As many rows as fit into their share of the budget and into memory, one batch of them at least."""
    pool, teacher = Pool(footage), copy.deepcopy(teacher).requires_grad_(False)
    rows = max(batch, min(120, 2 * batch))  # attention takes at most 65,535 rows of pixels, both halves together
    most = max(2, int(POOL_BYTES / max(1, rows * ROW * 8 * footage.latents[0].numel() * footage.config.frames)))
    longest, before = 0.0, clock.share
    while not pool.rows or (before + longest <= POOL_SHARE and len(pool.rows) < most):
        pool.fill(teacher, rows, SOLVER_STEPS, footage.config.guidance)
        share = clock.share
        longest, before = max(longest, share - before), share
    return pool


def _teach(critic: Critic, optimizer: torch.optim.Optimizer, values: dict[str, Tensor]) -> Tensor:
    """One step of the critic."""
    critic.train().requires_grad_(True)
    device = values["true"].device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        blame = critic_loss(critic, values["true"], values["pixels"])
    optimizer.zero_grad(set_to_none=True)
    blame.backward()
    optimizer.step()
    critic.eval().requires_grad_(False)
    return blame.detach()
