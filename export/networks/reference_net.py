"""ReferenceNet: a UNet run once on a picture; its feature maps tell the Backbone whom to draw (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from emo_rt.export.networks.attention import attend, make_attention, project
from emo_rt.export.networks.transformer import SpatialTransformer, from_tokens
from emo_rt.export.networks.unet import UNet
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Site


class ReferenceNet(UNet):
    """Same layout as the Backbone, without audio, temporal modules and output layers."""

    def __init__(self, config: ModelConfig) -> None:
        def parts(site: Site) -> Mapping[str, nn.Module]:
            if not site.attention:
                return {}
            return {"attentions": SpatialTransformer(config.unet, site.channels, ReferenceBlock(config, site))}

        super().__init__(config.unet, config.vae.latent_channels, parts)

    def features(self, latents: Tensor, face_tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Feature maps by site: ``latents`` (B, 4, S, S), ``face_tokens`` (B, tokens, dim) → each (B, C, h, w).

        At attention sites that is the input of the self-attention (after its norm), elsewhere the residual block's
        output. The timestep is 0: the picture has no noise.
        """
        collected: dict[str, Tensor] = {}

        def visit(site: Site, hidden: Tensor, parts: Mapping[str, nn.Module]) -> Tensor:
            if "attentions" not in parts:
                collected[site.name] = hidden
                return hidden
            transformer = parts["attentions"]
            assert isinstance(transformer, SpatialTransformer)
            tokens = transformer.enter(hidden)
            tokens, normed = transformer.block(tokens, face_tokens)
            collected[site.name] = from_tokens(normed, hidden)
            return transformer.leave(tokens, hidden)

        self.walk(self.enter(latents), self.time_shifts(latents.new_zeros(1, dtype=torch.float32)), visit)
        return collected


class ReferenceBlock(nn.Module):
    """Self-attention, attention to face tokens if there are any, feed-forward."""

    def __init__(self, config: ModelConfig, site: Site) -> None:
        super().__init__()
        channels, heads = site.channels, config.unet.attention_heads
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = make_attention(channels, heads)
        if config.reference.face_tokens:
            self.norm2 = nn.LayerNorm(channels)
            self.attn2 = make_attention(channels, heads, config.reference.face_token_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, hidden: Tensor, face_tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, C) → the same, and the output of ``norm1``: the reference feature."""
        normed = self.norm1(hidden)
        hidden = hidden + attend(self.attn1, normed, project(self.attn1, normed))
        if face_tokens is not None:
            hidden = hidden + attend(self.attn2, self.norm2(hidden), project(self.attn2, face_tokens))
        return hidden + self.ff(self.norm3(hidden)), normed
