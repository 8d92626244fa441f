"""Pictures twice as large from the latents that the demo model has: ``python -m training.larger STAGE``, on a CPU.

The denoiser stays as it is. Its latents come from an autoencoder for 128×128, with 24 numbers of a picture for each of
theirs; drawn people have edges that those numbers imply, so a new decoder can draw them sharply at 256×256, in a
shape that a CPU runs in a third of the time. A new encoder gives the same latents from the larger picture.

``draw`` makes pictures and their latents, ``decoder`` and ``encoder`` train; each goes on where it stopped.
``keep`` writes what the two have come to into :data:`KEPT`, from which they start where there is no checkpoint.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from emo_rt.export.networks.light_vae import LightDecoder, LightEncoder
from emo_rt.export.networks.vae import Vae, encode
from emo_rt.export.read_back import read_back
from emo_rt.files import whole_file
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import VaeConfig
from training.borrowed.clock import Clock, Log, Trainer
from training.borrowed.pictures import to_unit
from training.borrowed.sharpness import Critic, critic_loss, fine_energy, psnr, turn_hues, unlikeness, with_critic
from training.world import Clip

SIZE, LATENT, CHANNELS = 256, 16, 8
"""Side of a picture and of its latents, and the latents' channels."""
SCALE = SIZE // LATENT
VAE = VaeConfig(
    kind="light",
    block_out_channels=(32, 48, 80, 96),
    layers_per_block=1,
    decoder_channels=(128, 96, 48, 16),
    decoder_blocks=(2, 2, 1, 1),
    shuffle=2,
    latent_channels=CHANNELS,
    scaling_factor=1.0,
)
"""What is trained. The decoder is shape B of the timed ones: 0.78 GMAC a frame, where today's takes 1.36 at 128×128."""
PER_CLIP = 6
"""Frames of each person that are drawn."""
KEPT = Path(__file__).with_name("larger.npz")
"""Averaged weights so far, fp16."""
CROP, MARGIN = 10, 16
"""Latents along the side of a crop, and its pixels without a loss where the picture goes on: there the convolutions
see zeros that a run does not."""
BATCH = 4
WRONG = 0.1
"""Most noise on latents, in their standard deviations: generated ones are a little wrong."""
PEAK = 1e-3
CRITIC_FROM, CRITIC_SHARE, CRITIC_WIDTH = 0.55, 0.3, 24
"""Share of the budget when the critic joins, its gradient as a share of the other losses', and its width."""
SAVED_S = 240.0


@dataclass(frozen=True)
class Drawn:
    """Pictures with their latents, on disk. Rows of clips that are not drawn yet are zero."""

    pictures: NDArray[np.uint8]
    """(n, 256, 256, 3)."""
    latents: NDArray[np.float16]
    """(n, 8, 16, 16)."""
    count: Callable[[], int]
    """Rows that are there by now."""

    @classmethod
    def open(cls, folder: Path, name: str) -> Drawn:
        """What ``draw`` has made or is making."""
        pictures, latents = (np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("pics", "lats"))
        return cls(pictures, latents, lambda: int((folder / f"{name}.count").read_text()))

    def units(self) -> tuple[Tensor, Tensor]:
        """All that is there: pixels (n, 3, 256, 256) in −1 … 1, and latents."""
        count = self.count()
        pictures, latents = np.array(self.pictures[:count]), np.array(self.latents[:count])
        return to_unit(torch.from_numpy(pictures)), torch.from_numpy(latents).float()


def draw(folder: Path, name: str, split: str, seeds: Sequence[int]) -> None:
    """``PER_CLIP`` frames of each person, of the training split some with all hues turned, and what the packaged
    encoder makes of them at half the size."""
    vae = packaged_vae()
    open_array, rows = np.lib.format.open_memmap, len(seeds) * PER_CLIP
    pictures = open_array(folder / f"{name}.pics.npy", "w+", np.uint8, (rows, SIZE, SIZE, 3))
    latents = open_array(folder / f"{name}.lats.npy", "w+", np.float16, (rows, CHANNELS, LATENT, LATENT))
    torch.manual_seed(seeds[0])
    rng = np.random.default_rng(seeds[0])
    for index, seed in enumerate(seeds):
        clip = Clip.sample(seed=seed, seconds=1.2, fps=25, split=split)
        chosen = rng.choice(30, PER_CLIP, replace=False)
        pixels = to_unit(torch.from_numpy(np.stack([clip.frame(int(frame), size=SIZE) for frame in chosen])))
        pixels = turn_hues(pixels) if split == "train" else pixels
        own = slice(index * PER_CLIP, (index + 1) * PER_CLIP)
        pictures[own] = ((pixels.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        with torch.no_grad():
            latents[own] = encode(vae, F.avg_pool2d(pixels, 2)).numpy()
        if index % 50 == 0 or index == len(seeds) - 1:
            (folder / f"{name}.count").write_text(str(own.stop))


def packaged_vae() -> Vae:
    """The autoencoder of the model that the package brings. It has to be the one for 128×128."""
    return read_back(Bundle.open("demo")).vae.eval().requires_grad_(False)


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

    _train(folder, "decoder", decoder, seconds, step, look, now)


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

    _train(folder, "encoder", encoder, seconds, step, look, now)


def crops(drawn: Drawn, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B, 3, 160, 160), latents (B, 8, 10, 10), and (B, 1, 160, 160) 1 where the loss counts."""
    pixels, latents, counted = [], [], []
    last = LATENT - CROP
    for row in rng.integers(drawn.count(), size=BATCH):
        top, left = rng.integers(-2, last + 3, 2).clip(0, last)
        pixels.append(drawn.pictures[row, SCALE * top : SCALE * (top + CROP), SCALE * left : SCALE * (left + CROP)])
        latents.append(drawn.latents[row, :, top : top + CROP, left : left + CROP])
        inside = np.ones((1, SCALE * CROP, SCALE * CROP), np.float32)
        inside[:, : MARGIN * (top > 0)] = inside[:, :, : MARGIN * (left > 0)] = 0
        inside[:, SCALE * CROP - MARGIN * (top < last) :] = 0
        inside[:, :, SCALE * CROP - MARGIN * (left < last) :] = 0
        counted.append(inside)
    unit, coded = to_unit(torch.from_numpy(np.stack(pixels))), torch.from_numpy(np.stack(latents)).float()
    return unit, coded, torch.from_numpy(np.stack(counted))


def started(network: nn.Module, name: str) -> nn.Module:
    """With the weights in :data:`KEPT`, if it has some of that name."""
    if KEPT.exists():
        with np.load(KEPT) as kept:
            own = {key.partition("/")[2]: kept[key] for key in kept.files if key.startswith(f"{name}/")}
        if own:
            network.load_state_dict({key: torch.from_numpy(value).float() for key, value in own.items()})
    return network.to(memory_format=torch.channels_last)


def keep(folder: Path) -> None:
    """The averaged weights of both, as far as there are any, into :data:`KEPT`."""
    arrays = dict[str, NDArray[np.float16]]()
    for name, fresh in (("decoder", LightDecoder(VAE)), ("encoder", LightEncoder(VAE))):
        network = started(fresh, name)
        if (folder / f"{name}.pt").exists():
            Trainer(folder / f"{name}.pt", list(network.parameters()), PEAK).use_average()
        elif not KEPT.exists():
            continue
        arrays |= {f"{name}/{key}": value.half().numpy() for key, value in network.state_dict().items()}
    with whole_file(KEPT) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)


def show(path: Path, pixels: Tensor, made: Tensor, people: int = 4) -> None:
    """True pictures above decoded ones, as PNG."""
    every = max(1, len(pixels) // people)
    rows = torch.stack([part[::every][:people] for part in (pixels, made)])
    sheet = ((rows.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray(sheet.numpy()).save(path)


def _train(
    folder: Path,
    name: str,
    network: nn.Module,
    seconds: float,
    step: Callable[[float, np.random.Generator], dict[str, Tensor]],
    look: Callable[[], dict[str, float]],
    now: Callable[[], float],
) -> None:
    log, trainer = Log(folder, name), Trainer(folder / f"{name}.pt", list(network.parameters()), PEAK)
    clock, saved = Clock(seconds, trainer.used, now), now()
    share = clock.share
    while share < 1:
        share = clock.share  # read once a step: the step that uses the budget up also saves
        trainer.forget()
        torch.manual_seed(trainer.step)
        parts = step(share, np.random.default_rng(trainer.step))
        trainer.update(share)
        if trainer.step % 100 == 0:
            log(step=trainer.step, share=share, **{key: value.detach() for key, value in parts.items()})
        if now() - saved > SAVED_S or share >= 1:
            trainer.save(share * clock.seconds)
            log(step=trainer.step, **trainer.averaged(look))
            saved = now()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.larger", description=__doc__)
    parser.add_argument("stage", choices=("draw", "decoder", "encoder", "keep"))
    parser.add_argument("--folder", type=Path, default=Path("runs/larger"))
    parser.add_argument("--clips", type=int, default=1800, help="people to draw; 24 unseen ones besides")
    parser.add_argument("--minutes", type=float, default=150.0, help="for decoder or encoder, in all sittings together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.stage == "draw":
        draw(given.folder, "unseen", "test", range(5_000, 5_024))
        draw(given.folder, "train", "train", range(500_000, 500_000 + given.clips))
    elif given.stage == "keep":
        keep(given.folder)
    else:
        train = train_decoder if given.stage == "decoder" else train_encoder
        train(given.folder, 60 * given.minutes)


if __name__ == "__main__":
    main()
