"""Hierarchical audio attention of the public Hallo checkpoint: masked full, face and lip attentions in one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from emo_rt.export.networks.attention import (
    KeyValue,
    attend,
    attend_shared,
    make_attention,
    null_output,
    project,
)
from emo_rt.export.networks.transformer import SpatialTransformer
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import AUDIO_REGIONS, Site


class AudioModule(SpatialTransformer):
    """Works at the block's input width; sits between the spatial transformer and the temporal module."""

    def __init__(self, config: ModelConfig, site: Site) -> None:
        block = HierarchicalAudioBlock(config, site)
        super().__init__(config.unet, site.channels, block, site.audio_channels)

    def forward(self, hidden: Tensor, site: Site, features: Mapping[str, Tensor], guided: bool) -> Tensor:
        """``hidden`` (halves·F, C, h, w) → the same."""
        return self.leave(self.block(self.enter(hidden), site, features, guided), hidden)


class HierarchicalAudioBlock(nn.Module):
    """Self-attention, three masked audio attentions, feed-forward."""

    def __init__(self, config: ModelConfig, site: Site) -> None:
        super().__init__()
        channels, heads = site.audio_channels, config.unet.attention_heads
        self.learned_null = config.audio.null == "learned"
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = make_attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        for index, region in enumerate(AUDIO_REGIONS):
            self.add_module(f"attn2_{index}", make_attention(channels, heads, config.audio.token_dim))
            self.add_module(f"zero_conv_{region}", nn.Conv2d(channels, channels, 1))
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def region_attentions(self) -> list[tuple[str, Attention]]:
        """The three audio attentions by region."""
        return [(region, getattr(self, f"attn2_{index}")) for index, region in enumerate(AUDIO_REGIONS)]

    def forward(self, hidden: Tensor, site: Site, features: Mapping[str, Tensor], guided: bool) -> Tensor:
        """``hidden`` (halves·F, h·w, inner) → the same."""
        normed = self.norm1(hidden)
        hidden = hidden + attend(self.attn1, normed, project(self.attn1, normed))
        if guided:
            alone, told = hidden.chunk(2)
            told = self._hear(told, site, features)
            hidden = torch.cat([self._hear_nothing(alone, site, features), told])
        else:
            hidden = self._hear(hidden, site, features)
        output: Tensor = hidden + self.ff(self.norm3(hidden))
        return output

    def _hear(self, hidden: Tensor, site: Site, features: Mapping[str, Tensor]) -> Tensor:
        normed = self.norm2(hidden)
        outputs = [
            attend(attention, normed, _key_value(features, f"audio_{region}", site))
            for region, attention in self.region_attentions()
        ]
        return hidden + self._weigh(outputs, site, features)

    def _hear_nothing(self, hidden: Tensor, site: Site, features: Mapping[str, Tensor]) -> Tensor:
        """The unconditional half: learned tokens, or zero ones, of which each attention makes its output bias."""
        if self.learned_null:
            normed = self.norm2(hidden)
            outputs = [
                attend_shared(attention, normed, _key_value(features, f"audio_{region}_null", site))
                for region, attention in self.region_attentions()
            ]
        else:
            outputs = [null_output(attention).reshape(1, 1, -1) for _, attention in self.region_attentions()]
        return hidden + self._weigh(outputs, site, features)

    def _weigh(self, outputs: list[Tensor], site: Site, features: Mapping[str, Tensor]) -> Tensor:
        """Mask, 1×1 convolution and motion scale of each region, summed: (frames, h·w, inner)."""
        masks = features[f"audio_mask.{site.level}"].to(outputs[0].dtype)
        scale = features["motion_scale"].to(outputs[0].dtype)
        weighed = []
        for index, tokens in enumerate(outputs):
            convolution = self.get_submodule(f"zero_conv_{AUDIO_REGIONS[index]}")
            masked = tokens * masks[index][None, :, None]
            weighed.append(F.linear(masked, convolution.weight.flatten(1), convolution.bias) * scale[index])
        return torch.stack(weighed).sum(0)


def _key_value(features: Mapping[str, Tensor], kind: str, site: Site) -> KeyValue:
    return features[f"{kind}_key.{site.name}"], features[f"{kind}_value.{site.name}"]
