"""Backbone: the denoising UNet with reference-attention, audio-attention, temporal modules and speed layers.

Everything that does not depend on the solver step comes in projected, in ``features`` under the names of
:mod:`emo_rt.model.contract`. With guidance the batch is [unconditional F, conditional F]: the first half sees
neither portrait nor voice, and nothing is computed for it only to be thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from emo_rt.export.networks.attention import (
    KeyValue,
    attend,
    attend_shared,
    leave,
    make_attention,
    mix,
    null_output,
    project,
)
from emo_rt.export.networks.audio_module import AudioModule
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.export.networks.transformer import SpatialTransformer
from emo_rt.export.networks.unet import UNet, Visit
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Site, has_temporal

Features = Mapping[str, Tensor]


class Backbone(UNet):
    """The network that runs at every solver step."""

    def __init__(self, config: ModelConfig) -> None:
        def parts(site: Site) -> Mapping[str, nn.Module]:
            modules: dict[str, nn.Module] = {}
            if site.attention:
                modules["attentions"] = SpatialTransformer(config.unet, site.channels, BackboneBlock(config, site))
                if config.audio.attention == "hierarchical":
                    modules["audio_modules"] = AudioModule(config, site)
            modules["temporal_modules"] = TemporalModule(config, site.channels)
            return modules

        super().__init__(config.unet, config.vae.latent_channels, parts)
        width = config.unet.block_out_channels[0]
        self.model_config = config
        self.still = False
        """Leave the temporal modules out, and audio where ``features`` has none: for training on single pictures (EMO,
        section 3.3, stage 1)."""
        self.conv_norm_out = nn.GroupNorm(config.unet.norm_groups, width, eps=1e-5)
        self.conv_out = nn.Conv2d(width, config.vae.latent_channels, 3, padding=1)

    def forward(self, latents: Tensor, time_shifts: Tensor, features: Features, guided: bool) -> Tensor:
        """``latents`` (F, 4, S, S) → prediction (halves·F, 4, S, S), unconditional half first."""
        return self.full(latents, time_shifts, features, guided, None)[0]

    def full(
        self, latents: Tensor, time_shifts: Tensor, features: Features, guided: bool, kept: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """The prediction, and what :meth:`cached` needs at the steps that follow."""
        visit = self._visitor(features, guided)
        hidden, deep = self.walk(self._located(latents, features, guided), time_shifts, visit, kept)
        return self._leave(hidden), deep

    def cached(
        self, latents: Tensor, time_shifts: Tensor, features: Features, guided: bool, kept: int, deep: Tensor
    ) -> Tensor:
        """The prediction with the inner blocks' result of an earlier step; see :meth:`UNet.walk_outside`."""
        visit = self._visitor(features, guided)
        return self._leave(self.walk_outside(self._located(latents, features, guided), time_shifts, visit, kept, deep))

    def _located(self, latents: Tensor, features: Features, guided: bool) -> Tensor:
        hidden = self.enter(latents)
        located = hidden + features["face_feature"]
        if not guided:
            return located
        return torch.cat([located if self.model_config.locator.in_unconditional else hidden, located])

    def _visitor(self, features: Features, guided: bool) -> Visit:
        return lambda site, hidden, parts: self._visit(site, hidden, parts, features, guided)

    def _leave(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.conv_out(F.silu(self.conv_norm_out(hidden)))
        return output

    def _visit(
        self, site: Site, hidden: Tensor, parts: Mapping[str, nn.Module], features: Features, guided: bool
    ) -> Tensor:
        if "attentions" in parts:
            transformer = parts["attentions"]
            assert isinstance(transformer, SpatialTransformer)
            tokens = transformer.block(transformer.enter(hidden), site, features, guided)
            hidden = transformer.leave(tokens, hidden)
        if "audio_modules" in parts:
            hidden = parts["audio_modules"](hidden, site, features, guided)
        if self.still or not has_temporal(self.model_config, site):
            return hidden
        motion = _motion(site, features, guided)
        speed = key_value(features, "speed", site) if self.model_config.speed else None
        output: Tensor = parts["temporal_modules"](hidden, motion, speed, guided)
        return output


class BackboneBlock(nn.Module):
    """Self-attention, reference- or face-token-attention, audio-attention, feed-forward."""

    def __init__(self, config: ModelConfig, site: Site) -> None:
        super().__init__()
        channels, heads, reference = site.channels, config.unet.attention_heads, config.reference
        self.config = config
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = make_attention(channels, heads)
        if reference.mode == "cross" or reference.face_tokens:
            self.norm2 = nn.LayerNorm(channels)
            self.attn2 = make_attention(
                channels, heads, reference.face_token_dim if reference.face_tokens else channels
            )
        if reference.mode == "cross" and reference.null == "learned":
            self.null_reference = nn.Parameter(torch.randn(1, 1, channels) * 0.02)
        if config.audio.attention == "single":
            self.norm_audio = nn.LayerNorm(channels)
            self.attn_audio = make_attention(channels, heads, config.audio.token_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def reference_attention(self) -> nn.Module:
        """The attention whose k and v projections the portrait's features go through."""
        return self.attn2 if self.config.reference.mode == "cross" else self.attn1

    def forward(self, hidden: Tensor, site: Site, features: Features, guided: bool) -> Tensor:
        """``hidden`` (halves·F, h·w, C) → the same."""
        hidden = hidden + self._self_attention(self.norm1(hidden), site, features, guided)
        if guided:
            alone, told = hidden.chunk(2)
            hidden = torch.cat([self._hear_nothing(alone, site, features), self._hear(told, site, features)])
        else:
            hidden = self._hear(hidden, site, features)
        output: Tensor = hidden + self.ff(self.norm3(hidden))
        return output

    def _self_attention(self, normed: Tensor, site: Site, features: Features, guided: bool) -> Tensor:
        own = project(self.attn1, normed)
        if self.config.reference.mode == "cross":
            return attend(self.attn1, normed, own)
        queries = self.attn1.to_q(normed)
        reference = key_value(features, "reference", site)
        frames = normed.shape[0] // 2 if guided else 0
        both = [
            torch.cat([mine[frames:], _dealt_out(other, self.config.frames, guided)], dim=1)
            for mine, other in zip(own, reference, strict=True)
        ]
        mixed = mix(queries[frames:], (both[0], both[1]), self.attn1.heads)
        if guided:
            alone = mix(queries[:frames], (own[0][:frames], own[1][:frames]), self.attn1.heads)
            mixed = torch.cat([alone, mixed])
        return leave(self.attn1, mixed)

    def _hear(self, hidden: Tensor, site: Site, features: Features) -> Tensor:
        """Add portrait (or face) and voice to the conditional half, (F, h·w, C)."""
        if self.config.reference.mode == "cross":
            reference = key_value(features, "reference", site)
            hidden = hidden + attend_shared(self.attn2, self.norm2(hidden), reference)
        elif self.config.reference.face_tokens:
            hidden = hidden + attend_shared(self.attn2, self.norm2(hidden), key_value(features, "face", site))
        if self._has_audio(site, features):
            hidden = hidden + attend(self.attn_audio, self.norm_audio(hidden), key_value(features, "audio", site))
        return hidden

    def _hear_nothing(self, hidden: Tensor, site: Site, features: Features) -> Tensor:
        """Add to the unconditional half what the checkpoint has in place of portrait, face and voice."""
        if self.config.reference.mode == "cross":
            if self.config.reference.null == "learned":
                hidden = hidden + features[f"reference_null.{site.name}"]
        elif self.config.reference.face_tokens:
            hidden = hidden + attend_shared(self.attn2, self.norm2(hidden), key_value(features, "face_null", site))
        if not self._has_audio(site, features):
            return hidden
        if self.config.audio.null == "learned":
            null = key_value(features, "audio_null", site)
            return hidden + attend_shared(self.attn_audio, self.norm_audio(hidden), null)
        return hidden + null_output(self.attn_audio)

    def _has_audio(self, site: Site, features: Features) -> bool:
        """Whether this block hears the voice; while still, there is none."""
        return self.config.audio.attention == "single" and f"audio_key.{site.name}" in features


def key_value(features: Features, kind: str, site: Site) -> KeyValue:
    """The projected pair of one kind at one site."""
    return features[f"{kind}_key.{site.name}"], features[f"{kind}_value.{site.name}"]


def _dealt_out(reference: Tensor, frames: int, guided: bool) -> Tensor:
    """Reference keys or values (R, tokens, C) for each frame of the conditional half, (F, tokens, C).

    Where the guidance halves have sets of their own (Hallo), the original deals them out in turn over all frames of
    both halves, so that the conditional half's frames see the one, the other, the one … The released weights are used
    with exactly this.
    """
    if reference.shape[0] == 1 or not guided:
        return reference[-1:].expand(frames, -1, -1)
    return torch.cat([reference[(frames + frame) % 2].unsqueeze(0) for frame in range(frames)])


def _motion(site: Site, features: Features, guided: bool) -> Tensor | None:
    """Motion tokens for all halves: (halves·h·w, N, C)."""
    conditional = features.get(f"motion.{site.name}")
    if conditional is None or not guided:
        return conditional
    return torch.cat([features.get(f"motion_unconditional.{site.name}", conditional), conditional])
