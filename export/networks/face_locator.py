"""Face locator: a light convolutional encoder of the face mask, added behind the Backbone's first convolution."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from emo_rt.model.config import LocatorConfig


class FaceLocator(nn.Module):
    """Mask (1, channels, size, size) → feature (1, C0, S, S) (EMO, section 3.2, Face Locator)."""

    def __init__(self, config: LocatorConfig, out_channels: int) -> None:
        super().__init__()
        widths = config.channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, mask: Tensor) -> Tensor:
        """Convolutions with SiLU between them."""
        hidden = F.silu(self.conv_in(mask))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        output: Tensor = self.conv_out(hidden)
        return output
