"""The shell around every spatial attention block: norm, projection in, block, projection out, residual."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from emo_rt.model.config import UNetConfig


class SpatialTransformer(nn.Module):
    """Feature map (B, C, h, w) ↔ tokens (B, h·w, inner) around one transformer block."""

    def __init__(self, config: UNetConfig, channels: int, block: nn.Module, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or channels
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(inner, channels, 1)

    @property
    def block(self) -> Any:
        """The one transformer block (a list in checkpoints of the family)."""
        return self.transformer_blocks[0]

    def enter(self, hidden: Tensor) -> Tensor:
        """(B, C, h, w) → tokens (B, h·w, inner)."""
        return to_tokens(self.proj_in(self.norm(hidden)))

    def leave(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Tokens back to a feature map, added to what came in."""
        output: Tensor = self.proj_out(from_tokens(tokens, hidden)) + hidden
        return output


def to_tokens(hidden: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h·w, C)."""
    # Channels last at once: nothing is left to move where a runtime keeps its maps so.
    return hidden.permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, h·w, C) → (B, C, h, w) with the height and width of ``like``."""
    return tokens.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)
