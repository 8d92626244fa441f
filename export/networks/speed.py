"""Speed encoder: head-rotation speed → soft buckets → MLP → one token per frame (EMO, section 3.2, Speed Layers)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo_rt.model.config import SpeedConfig


class SpeedEncoder(nn.Module):
    """Speeds (F,) → tokens (F, token_dim); each frame sees its m neighbours on both sides, clamped at the ends."""

    centres: Tensor

    def __init__(self, config: SpeedConfig, neighbours: int) -> None:
        super().__init__()
        self.config, self.neighbours = config, neighbours
        self.register_buffer("centres", torch.tensor(config.centres), persistent=False)
        width = (2 * neighbours + 1) * len(config.centres)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden_dim), nn.SiLU(), nn.Linear(config.hidden_dim, config.token_dim)
        )

    def forward(self, speed: Tensor) -> Tensor:
        """Soft one-hot vectors tanh((w − c) / r · 3), neighbours side by side, through the MLP."""
        frames = speed.shape[0]
        buckets = torch.tanh((speed[:, None] - self.centres) / self.config.radius * 3)
        around = torch.arange(frames)[:, None] + torch.arange(-self.neighbours, self.neighbours + 1)
        tokens: Tensor = self.mlp(buckets[around.clamp(0, frames - 1)].flatten(1))
        return tokens
