"""Stage 0a: the autoencoder. Pieces of pictures first, then whole ones; a critic joins in the second half; at last the
encoder stands still, and the decoder learns to forgive latents that are a little wrong, as generated ones are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from emo_rt.export.networks.model import build_model
from emo_rt.export.networks.vae import Vae
from emo_rt.export.presets import preset
from training.borrowed import PRESET
from training.borrowed.clock import Clock, Log, Trainer, wait_for
from training.borrowed.pictures import Pictures
from training.borrowed.sharpness import Critic, critic_loss, fine_energy, psnr, turn_hues, unlikeness, with_critic
from training.judge import trained
from training.stages import save_parts

WHOLE_FROM, CRITIC_FROM, FROZEN_FROM = 0.4, 0.55, 0.8
"""Shares of the stage: when it sees whole pictures, when the critic joins, when the encoder stands still."""
KL_WEIGHT = 1e-3
CRITIC_SHARE = 0.3
"""Size of the critic's gradient in the pixels, as a share of the other losses'."""
WRONG = 0.15
"""Most noise on latents while the encoder stands still, in their standard deviations."""


def train(folder: Path, device: str, seconds: float, batch: int, enough: int, capacity: int) -> None:
    """Until the budget is used; leaves ``vae.weights.pt``. Starts once ``enough`` pictures are there."""
    log = Log(folder, "vae")
    model = build_model(preset(PRESET)).to(device)
    size = model.config.size
    vae = model.vae.to(memory_format=torch.channels_last).requires_grad_(True)
    judge, critic = trained().to(device).requires_grad_(False), Critic().to(device, memory_format=torch.channels_last)
    trainer = Trainer(folder / "vae.pt", list(vae.parameters()), 8e-4)
    critics = torch.optim.AdamW(critic.parameters(), lr=3e-4, betas=(0.5, 0.9), weight_decay=0.0)
    pictures, unseen = Pictures(folder / "corpus", size, device, capacity), None
    wait_for(lambda: pictures.count >= enough, "pictures")
    clock, saved, latest = Clock(seconds, trainer.used), time.monotonic(), dict[str, Tensor]()
    log(pictures=pictures.count, waited=True)
    while clock.share < 1:
        whole, frozen = clock.share >= WHOLE_FROM, clock.share >= FROZEN_FROM
        pixels = turn_hues(pictures.draw(batch if whole else 4 * batch, size if whole else size // 2))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            decoded, kl = _through(vae, pixels, frozen)
            parts = unlikeness(decoded, pixels, judge)
            loss = parts["total"] + KL_WEIGHT * kl
            trainer.forget()
            if clock.share >= CRITIC_FROM:
                blame = critic_loss(critic, pixels, decoded)
                critics.zero_grad(set_to_none=True)
                blame.backward()
                critics.step()
                pull = with_critic(parts["total"], decoded, critic, CRITIC_SHARE)
                rest = [] if frozen else [(KL_WEIGHT * kl, None)]
                torch.autograd.backward([decoded, *(t for t, _ in rest)], [pull, *(g for _, g in rest)])
                parts["critic"] = blame.detach()
            else:
                loss.backward()
        norm = trainer.update(clock.share)
        latest = {**parts, "kl": kl, "gradient": norm}
        if trainer.step % 50 == 0:
            log(
                step=trainer.step,
                share=clock.share,
                pictures=pictures.count,
                **{k: v.detach() for k, v in latest.items()},
            )
        if time.monotonic() - saved > 30 or clock.share >= 1:
            if unseen is None and (folder / "unseen").exists() and list((folder / "unseen").glob("*.npz")):
                unseen = Pictures(folder / "unseen", size, device, 200, stride=20)
                time.sleep(0.5)
            trainer.save(clock.used)
            fidelity = partial(_fidelity, vae, unseen or pictures, size, device)
            log(step=trainer.step, **trainer.averaged(fidelity))
            saved = time.monotonic()
    trainer.use_average()
    standardise(vae, pictures, size)
    log(final=True, steps=trainer.step, **_fidelity(vae, unseen or pictures, size, device))
    save_parts(model, folder, "vae")
    pictures.close()


def _through(vae: Vae, pixels: Tensor, frozen: bool) -> tuple[Tensor, Tensor]:
    """Decoded pictures and the Kullback-Leibler term; the gradient stops at the latents where the encoder is frozen."""
    with torch.set_grad_enabled(not frozen):
        mean, log_variance = vae.quant_conv(vae.encoder(pixels)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    spread = torch.exp(0.5 * log_variance)
    if frozen:
        wrong = WRONG * torch.rand(len(mean), 1, 1, 1, device=mean.device) * mean.std(dim=(0, 2, 3), keepdim=True)
        spread = (spread**2 + wrong**2).sqrt()
    latents = mean + spread * torch.randn_like(mean)
    return vae.decoder(vae.post_quant_conv(latents)), kl


@torch.no_grad()
def standardise(vae: Vae, pictures: Pictures, size: int, count: int = 1024) -> None:
    """Give each latent channel zero mean and unit variance, exactly, by changing the two 1×1 convolutions."""
    count = min(count, max(32, pictures.count))
    batches: Iterator[Tensor] = (pictures.draw(32, size) for _ in range(count // 32))
    latents = torch.cat([vae.quant_conv(vae.encoder(pixels)).chunk(2, 1)[0] for pixels in batches])
    mean, scale = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels, quant, post = len(mean), vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= scale[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / scale
    quant.bias[channels:] -= 2 * scale.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= scale[None, :, None, None]


@torch.no_grad()
def _fidelity(vae: Vae, pictures: Pictures, size: int, device: str) -> dict[str, float]:
    """On whole pictures, of unseen people where there are some."""
    torch.manual_seed(11)
    pixels = pictures.draw(min(64, max(2, pictures.count)), size)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        decoded = vae.decoder(vae.post_quant_conv(vae.quant_conv(vae.encoder(pixels)).chunk(2, 1)[0]))
    torch.manual_seed(int(torch.seed() % 2**31))
    return {"psnr_db": psnr(decoded, pixels), "fine_energy": fine_energy(decoded, pixels)}
