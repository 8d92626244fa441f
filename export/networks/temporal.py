"""Temporal modules: self-attention along frames behind motion features, and speed layers (EMO, section 3.2).

The layout is AnimateDiff v2's: norm, linear in, several self-attentions along frames with sinusoidal positions, feed
forward, linear out. Motion features join in front of the frames and are dropped once no later layer attends to them.
"""

from __future__ import annotations

import math

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from emo_rt.export.networks.attention import (
    KeyValue,
    attend,
    attend_shared,
    make_attention,
    null_output,
    project,
)
from emo_rt.model.config import ModelConfig


class TemporalModule(nn.Module):
    """One temporal module at one site of the Backbone."""

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        self.frames = config.frames
        self.norm = nn.GroupNorm(config.unet.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(config, channels)])
        self.proj_out = nn.Linear(channels, channels)

    def motion_tokens(self, features: Tensor, clips: int = 1) -> Tensor:
        """ReferenceNet features of the motion frames (clips·N, C, h, w) → (clips·h·w, N, C), as the first attention
        takes them."""
        return self._enter(features, features.shape[0] // clips)

    def forward(self, hidden: Tensor, motion: Tensor | None, speed: KeyValue | None, guided: bool = False) -> Tensor:
        """``hidden`` (halves·F, C, h, w); ``motion`` (halves·h·w, N, C); ``speed`` (1, F, C) each."""
        tokens = self._enter(hidden, self.frames)
        tokens = self.transformer_blocks[0](tokens, motion, speed, guided)
        return hidden + self._leave(self.proj_out(tokens), hidden)

    def _enter(self, hidden: Tensor, frames: int) -> Tensor:
        batch, channels, height, width = hidden.shape
        tokens = self.norm(hidden).reshape(batch // frames, frames, channels, height * width)
        tokens = tokens.permute(0, 3, 1, 2).reshape(-1, frames, channels)
        output: Tensor = self.proj_in(tokens)
        return output

    def _leave(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        batch, channels, height, width = hidden.shape
        tokens = tokens.reshape(batch // self.frames, height * width, self.frames, channels)
        return tokens.permute(0, 2, 3, 1).reshape(hidden.shape)


class TemporalBlock(nn.Module):
    """Self-attentions along frames, cross-attention to the speed tokens, feed-forward."""

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        temporal = config.temporal
        layers = range(temporal.attention_layers)
        self.attention_blocks = nn.ModuleList([make_attention(channels, temporal.heads) for _ in layers])
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in layers])
        for attention in self.attention_blocks:
            attention.pos_encoder = PositionTable(channels, temporal.max_positions)
        self.conditional_speed = bool(config.speed and not config.speed.in_unconditional)
        if config.speed:
            self.norm_speed = nn.LayerNorm(channels)
            self.attn_speed = make_attention(channels, temporal.heads, config.speed.token_dim)
        self.ff_norm = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, tokens: Tensor, motion: Tensor | None, speed: KeyValue | None, guided: bool = False) -> Tensor:
        """``tokens`` (halves·pixels, F, C) → the same. The last attention asks for frames only: motion ends there."""
        offset = 0 if motion is None else motion.shape[1]
        hidden = tokens if motion is None else torch.cat([motion, tokens], dim=1)
        last = len(self.attention_blocks) - 1
        for index, (attention, norm) in enumerate(zip(self.attention_blocks, self.norms, strict=True)):
            context = attention.pos_encoder(norm(hidden))
            kept = offset if index == last else 0
            hidden = hidden[:, kept:] + attend(attention, context[:, kept:], project(attention, context))
        if speed is not None:
            hidden = self._add_speed(hidden, speed, guided)
        output: Tensor = hidden + self.ff(self.ff_norm(hidden))
        return output

    def _add_speed(self, hidden: Tensor, speed: KeyValue, guided: bool) -> Tensor:
        if not (guided and self.conditional_speed):
            return hidden + attend_shared(self.attn_speed, self.norm_speed(hidden), speed)
        alone, told = hidden.chunk(2)
        told = told + attend_shared(self.attn_speed, self.norm_speed(told), speed)
        return torch.cat([alone + null_output(self.attn_speed), told])


class PositionTable(nn.Module):
    """Sinusoidal positions along frames, as AnimateDiff stores them: ``pe`` (1, max_positions, channels)."""

    pe: Tensor

    def __init__(self, channels: int, max_positions: int) -> None:
        super().__init__()
        position = torch.arange(max_positions).unsqueeze(1)
        rate = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
        table = torch.zeros(1, max_positions, channels)
        table[0, :, 0::2] = torch.sin(position * rate)
        table[0, :, 1::2] = torch.cos(position * rate)
        self.register_buffer("pe", table)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions to ``tokens`` (pixels, frames, C)."""
        return tokens + self.pe[:, : tokens.shape[1]]
