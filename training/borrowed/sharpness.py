"""Losses of pictures, a discriminator of patches, and how sharp a picture is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.judge import Judge

COLOUR_SIDE = 16
"""Side of what one latent stands for, pixels."""
FEATURE_LAYERS = 3
"""Convolutions of the judge whose features are compared."""


def unlikeness(made: Tensor, wanted: Tensor, judge: Judge | None) -> dict[str, Tensor]:
    """How far pictures (B, 3, H, W) are from what they should be: pixels, edges at two scales, mean colours, and what
    the judge's first layers see."""
    made, wanted = made.float(), wanted.float()
    difference = made - wanted
    pixel, square = difference.abs().mean(), difference.square().mean()
    coarse = F.avg_pool2d(difference, 2)
    edge = _edges(difference) + 0.5 * _edges(coarse)
    colour = F.avg_pool2d(difference, COLOUR_SIDE).square().mean()
    total = pixel + edge + 4 * square + 40 * colour
    parts = {"pixel": pixel, "edge": edge, "square": square, "colour": colour}
    if judge is not None:
        parts["seen"] = _seen(judge, made, wanted)
        total = total + 0.1 * parts["seen"]
    return {"total": total, **parts}


def _edges(difference: Tensor) -> Tensor:
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()


def _seen(judge: Judge, made: Tensor, wanted: Tensor) -> Tensor:
    total = made.new_zeros(())
    for conv in judge.convs[:FEATURE_LAYERS]:
        made, wanted = F.relu(conv(made)), F.relu(conv(wanted))
        total = total + (made - wanted).abs().mean() / (wanted.abs().mean() + 1e-3)
    return total


class Critic(nn.Module):
    """Tells drawn patches from decoded ones: (B, 3, H, W) → (B, 1, H / 8, W / 8)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = (12, width, 2 * width, 2 * width)
        convs = [nn.Conv2d(widths[i], widths[i + 1], 4, stride=2 if i < 2 else 1, padding=1) for i in range(3)]
        self.convs = nn.ModuleList(spectral_norm(conv) for conv in convs)
        self.told = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels in −1 … 1."""
        hidden = F.pixel_unshuffle(pixels, 2)
        for conv in self.convs:
            hidden = F.leaky_relu(conv(hidden), 0.2)
        told: Tensor = self.told(hidden)
        return told


def critic_loss(critic: Critic, real: Tensor, made: Tensor) -> Tensor:
    """Hinge."""
    return F.relu(1 - critic(real)).mean() + F.relu(1 + critic(made.detach())).mean()


def with_critic(loss: Tensor, made: Tensor, critic: Critic, share: float) -> Tensor:
    """Gradient of the pixels ``made``: of ``loss``, and of the critic's word scaled to ``share`` of that."""
    own = torch.autograd.grad(loss, made, retain_graph=True)[0]
    told = torch.autograd.grad(-critic(made).mean(), made)[0]
    return own + told * (share * own.float().norm() / (told.float().norm() + 1e-8)).to(told.dtype)


@torch.no_grad()
def fine_energy(made: Tensor, wanted: Tensor) -> float:
    """Energy of what a blur of 2 pixels takes away, made over wanted: 1 is as sharp."""
    made, wanted = made.float(), wanted.float()
    energies = [(p - F.interpolate(F.avg_pool2d(p, 2), scale_factor=2.0)).square().mean() for p in (made, wanted)]
    return float(energies[0] / energies[1])


@torch.no_grad()
def psnr(made: Tensor, wanted: Tensor) -> float:
    """Peak signal-to-noise ratio, dB."""
    return float(10 * torch.log10(4 / (made.float().clamp(-1, 1) - wanted.float()).square().mean()))


def turn_hues(pixels: Tensor, share: float = 0.25) -> Tensor:
    """(B, 3, H, W) in −1 … 1 → the same, all hues of some pictures turned around the axis of the greys."""
    count = len(pixels)
    angle = 2 * torch.pi * torch.rand(count, device=pixels.device) * (torch.rand(count, device=pixels.device) < share)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=pixels.device) / 3**0.5
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turns = cosine * torch.eye(3, device=pixels.device) + (1 - cosine) / 3 + sine * cross
    return torch.einsum("bij,bjhw->bihw", turns, pixels).clamp(-1, 1)
