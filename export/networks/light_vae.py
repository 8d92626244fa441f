"""An autoencoder for CPUs: ReLU convolutions without norms or attention, and pixel shuffles at the fine end.

Norms, SiLU and shuffles between the levels cost a CPU half as much again as the convolutions themselves; most of the
arithmetic sits at the coarse resolutions, where convolutions are wide and fast. Modules are named and used as those
of diffusers' ``AutoencoderKL``.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from emo_rt.model.config import VaeConfig

BRANCH_SCALE = 0.25
"""First size of what a block adds, as a share of the usual: without norms, a deep stack starts calmer."""


class LightVae(nn.Module):
    """Pixels (B, 3, H, W) ↔ latents (B, channels, H / f, W / f), f = ``config.downsampling``."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.config = config
        self.encoder = LightEncoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.decoder = LightDecoder(config)


class LightEncoder(nn.Module):
    """Pixels → mean and log variance of the latents, (B, 2 · channels, H / f, W / f)."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths, depth = config.block_out_channels, config.layers_per_block
        self.shuffle = config.shuffle
        layers: list[nn.Module] = [nn.Conv2d(3 * config.shuffle**2, widths[0], 3, padding=1), nn.ReLU()]
        layers += [Block(widths[0]) for _ in range(depth)]
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1, stride=2), nn.ReLU()]
            layers += [Block(wide) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in −1 … 1."""
        output: Tensor = self.conv_out(self.layers(F.pixel_unshuffle(pixels, self.shuffle)))
        return output


class LightDecoder(nn.Module):
    """Latents → pixels (B, 3, H, W), −1 … 1 and a little beyond."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = config.decoder_channels
        self.shuffle = config.shuffle
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1), nn.ReLU()]
        layers += [Block(widths[0]) for _ in range(config.decoder_blocks[0])]
        for (wide, narrow), depth in zip(pairwise(widths), config.decoder_blocks[1:], strict=True):
            layers += [nn.Conv2d(wide, narrow, 1), nn.Upsample(scale_factor=2.0, mode="nearest")]
            layers += [Block(narrow) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(widths[-1], 3 * config.shuffle**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, channels, h, w)."""
        return F.pixel_shuffle(self.conv_out(self.layers(latents)), self.shuffle)


class Block(nn.Module):
    """Two convolutions beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2.weight.data.mul_(BRANCH_SCALE)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, width, H, W) → the same."""
        return F.relu(hidden + self.conv2(F.relu(self.conv1(hidden))))
