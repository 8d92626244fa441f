"""The decoder for larger pictures, and the encoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emo_rt.export.networks.light_vae import LightDecoder, LightEncoder
from training.borrowed.sharpness import Critic, critic_loss, fine_energy, psnr, unlikeness, with_critic
from training.larger.kept import started
from training.larger.loop import train
from training.larger.pictures import BATCH, CHANNELS, SCALE, VAE, Drawn, crops

WRONG = 0.1
"""Most noise on latents, in their standard deviations: generated ones are a little wrong."""
CRITIC_FROM, CRITIC_SHARE, CRITIC_WIDTH = 0.55, 0.3, 24
"""Share of the budget when the critic joins, its gradient as a share of the other losses', and its width."""


def train_decoder(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Until the budget is used; leaves ``decoder.pt``, ``decoder.jsonl`` and ``decoder.png``."""
    decoder = started(LightDecoder(VAE), "decoder")
    critic = Critic(CRITIC_WIDTH).to(memory_format=torch.channels_last)
    critics = torch.optim.AdamW(critic.parameters(), lr=3e-4, betas=(0.5, 0.9), weight_decay=0.0)
    seen, unseen = Drawn.open(folder, "train"), Drawn.open(folder, "unseen").units()

    def step(share: float, rng: np.random.Generator) -> dict[str, Tensor]:
        wanted, latents, counted = crops(seen, rng)
        latents = latents + WRONG * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(latents)
        made, wanted = decoder(latents.contiguous(memory_format=torch.channels_last)) * counted, wanted * counted
        parts = unlikeness(made, wanted, None)
        if share < CRITIC_FROM:
            parts["total"].backward()
            return parts
        critics.zero_grad(set_to_none=True)
        critic_loss(critic, wanted, made).backward()
        critics.step()
        critic.requires_grad_(False).eval()
        strength = CRITIC_SHARE * min(1.0, (share - CRITIC_FROM) / 0.05)
        made.backward(with_critic(parts["total"], made, critic, strength))
        critic.requires_grad_(True).train()
        return parts

    def look() -> dict[str, float]:
        pixels, latents = unseen
        with torch.no_grad():
            made = torch.cat([decoder(part) for part in latents.split(8)])
        show(folder / "decoder.png", pixels, made)
        return {"psnr": psnr(made, pixels), "fine": fine_energy(made, pixels)}

    train(folder, "decoder", decoder, seconds, step, look, now)


def train_encoder(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Until the budget is used; leaves ``encoder.pt`` and ``encoder.jsonl``."""
    encoder = started(LightEncoder(VAE), "encoder")
    seen, unseen = Drawn.open(folder, "train"), Drawn.open(folder, "unseen").units()

    def step(share: float, rng: np.random.Generator) -> dict[str, Tensor]:
        pixels, latents, counted = crops(seen, rng)
        made = encoder(pixels.contiguous(memory_format=torch.channels_last))[:, :CHANNELS]
        error = (made - latents) * counted[:, :, ::SCALE, ::SCALE]
        total = error.abs().mean() + error.square().mean()
        total.backward()
        return {"total": total}

    def look() -> dict[str, float]:
        pixels, latents = unseen
        with torch.no_grad():
            made = torch.cat([encoder(part)[:, :CHANNELS] for part in pixels.split(8)])
        return {"error": float((made - latents).square().mean().sqrt()), "spread": float(latents.std())}

    train(folder, "encoder", encoder, seconds, step, look, now)


def show(path: Path, pixels: Tensor, made: Tensor, people: int = 4) -> None:
    """True pictures above decoded ones, as PNG."""
    every = max(1, len(pixels) // people)
    rows = torch.stack([part[::every][:people] for part in (pixels, made)])
    sheet = ((rows.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray(sheet.numpy()).save(path)
