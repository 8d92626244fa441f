"""Pictures twice as large, with the latents that the model for 128×128 has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emo_rt.export.networks.vae import encode
from training.borrowed.pictures import to_unit
from training.borrowed.sharpness import turn_hues
from training.larger.base import base, config
from training.world import Clip

SIZE, LATENT, CHANNELS = 256, 16, 8
"""Side of a picture and of its latents, and the latents' channels."""
SCALE = SIZE // LATENT
VAE = config().vae
PER_CLIP = 6
"""Frames of each person that are drawn."""
CROP, MARGIN = 10, 16
"""Latents along the side of a crop, and its pixels without a loss where the picture goes on: there the convolutions
see zeros that a run does not."""
BATCH = 4


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
    """``PER_CLIP`` frames of each person, of the training split some with all hues turned, and what the encoder
    for 128×128 makes of them at half the size."""
    vae = base(folder).vae
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
