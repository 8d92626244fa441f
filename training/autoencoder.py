"""Stage 0a: the autoencoder learns to draw.

Pictures of the corpus, mostly crops around the face, some with all hues turned; L1 on pixels and on their differences
(lines matter in a drawing), squares of the colour that each latent stands for, a weak Kullback-Leibler term. At the end
every latent channel is given zero mean and unit variance by changing the two 1×1 convolutions around the latents:
exact, and the diffusion then needs no scaling factor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from training.corpus import Recording, available, clip_path
from training.loop import Loss, Stage

STAGE = Stage("vae", steps=10000, learning_rate=8e-4, warmup=100, ema=0.995, weight_decay=0.0)
BATCH = 8
CROP = 64
"""Side of the crops; the last part of the stage sees whole pictures."""
WHOLE_FROM = 0.8
"""Share of the stage after which it sees whole pictures, fewer at a time."""
KL_WEIGHT = 1e-3
EDGE_WEIGHT = 1.0
SQUARE_WEIGHT = 4.0
"""Of the squared error of single pixels."""
COLOUR_WEIGHT = 40.0
"""Of the squared error of a latent's mean colour. With pixels' errors alone, the latents kept brightness and lines, and
gave up the axis from green to red: fair hair came back as ginger."""
COLOUR_SIDE = 8
"""Side of what one latent stands for, pixels."""
TURNED = 0.25
"""Share of the pictures with all hues turned by one angle, since people's hair, skin and clothes favour few hues."""


class Pictures:
    """Frames of the corpus, a few clips at a time in memory."""

    def __init__(self, folder: Path, kept: int = 192) -> None:
        self._folder, self._kept = folder, kept
        self._clips: list[tuple[np.ndarray, np.ndarray]] = []

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A frame (size, size, 3) uint8 and its face box (4,) in shares."""
        if len(self._clips) < self._kept or rng.random() < 0.02:
            self._load(rng)
        frames, boxes = self._clips[rng.integers(len(self._clips))]
        index = rng.integers(len(frames))
        return frames[index], boxes[index]

    def _load(self, rng: np.random.Generator) -> None:
        seeds = available(self._folder)
        path = clip_path(self._folder, int(rng.choice(seeds)))
        clip = Recording.load(path, ("frames", "face_box"))
        chosen = rng.choice(len(clip.frames), 8, replace=False)
        self._clips.append((clip.frames[chosen], clip.face_box[chosen]))
        if len(self._clips) > self._kept:
            self._clips.pop(int(rng.integers(self._kept)))


def crop(frame: np.ndarray, box: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    """A square of ``side`` pixels, mostly with its middle in the face."""
    size = frame.shape[0]
    share = rng.uniform(0, 1, 2)
    if rng.random() < 0.7:
        share = box[:2] + share * (box[2:] - box[:2])
    left, top = np.clip(np.round(share * size - side / 2), 0, size - side).astype(int)
    piece = frame[top : top + side, left : left + side]
    return piece[:, ::-1] if rng.random() < 0.5 else piece


def to_pixels(frames: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in −1 … 1."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def turn_hues(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, 3, H, W) in −1 … 1 → the same, the hues of some pictures turned around the axis of the greys."""
    angles = rng.uniform(0, 2 * np.pi, len(pixels)) * (rng.random(len(pixels)) < TURNED)
    turns = Rotation.from_rotvec(angles[:, None] * np.full(3, 3**-0.5)).as_matrix()
    turned = torch.einsum("bij,bjhw->bihw", torch.from_numpy(turns).float(), pixels)
    return turned.clamp(-1, 1)


def vae_loss(vae: AutoencoderKL, pictures: Pictures, whole: bool, device: str) -> Loss:
    """What the stage minimises."""

    def loss(rng: np.random.Generator) -> dict[str, Tensor]:
        drawn = [pictures.draw(rng) for _ in range(BATCH // 2 if whole else BATCH)]
        frames = [frame if whole else crop(frame, box, rng, CROP) for frame, box in drawn]
        pixels = turn_hues(to_pixels(np.stack(frames)), rng).to(device)
        mean, log_variance = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        parts = unlikeness(vae.decoder(vae.post_quant_conv(latents)), pixels)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return {**parts, "kl": kl, "total": parts["total"] + KL_WEIGHT * kl}

    return loss


def unlikeness(decoded: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """How far pictures are from what they should be."""
    difference = decoded - pixels
    pixel, square = difference.abs().mean(), difference.square().mean()
    edge = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    colour = functional.avg_pool2d(difference, COLOUR_SIDE).square().mean()
    total = pixel + EDGE_WEIGHT * edge + SQUARE_WEIGHT * square + COLOUR_WEIGHT * colour
    return {"total": total, "pixel": pixel, "edge": edge, "square": square, "colour": colour}


@torch.no_grad()
def standardise(vae: AutoencoderKL, pictures: Pictures, device: str, count: int = 512) -> None:
    """Give each latent channel zero mean and unit variance over the corpus, without changing what is decoded."""
    rng = np.random.default_rng(7)
    batches = [np.stack([pictures.draw(rng)[0] for _ in range(32)]) for _ in range(count // 32)]
    latents = torch.cat([vae.quant_conv(vae.encoder(to_pixels(b).to(device))).chunk(2, 1)[0] for b in batches])
    mean, scale = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= scale[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / scale
    quant.bias[channels:] -= 2 * scale.log()  # the log variances of the posterior
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= scale[None, :, None, None]


@torch.no_grad()
def fidelity(vae: AutoencoderKL, pictures: Pictures, device: str, count: int = 64) -> float:
    """Peak signal-to-noise ratio of decoded pictures, dB."""
    rng = np.random.default_rng(11)
    pixels = to_pixels(np.stack([pictures.draw(rng)[0] for _ in range(count)])).to(device)
    decoded = vae.decoder(vae.post_quant_conv(vae.quant_conv(vae.encoder(pixels)).chunk(2, 1)[0])).clamp(-1, 1)
    return float(10 * torch.log10(4 / functional.mse_loss(decoded, pixels)))
