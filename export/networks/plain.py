"""The plain formulation: every solver step computes everything again, one guidance half at a time.

This is how public implementations run, and what the split graphs are held against: the modules are the same, the
order of evaluation is written out on its own. Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.model.contract import AUDIO_REGIONS, Site, has_temporal


@dataclass
class PlainInputs:
    """Everything a clip is made from; shapes as in :mod:`emo_rt.model.contract`."""

    portrait_latent: Tensor
    face_mask: Tensor
    motion_latents: Tensor
    audio_windows: Tensor
    speed: Tensor | None = None
    face_embedding: Tensor | None = None
    audio_masks: Mapping[int, Tensor] | None = None
    motion_scale: Tensor | None = None


@torch.no_grad()
def plain_prediction(
    model: EmoModel, latents: Tensor, timestep: Tensor, inputs: PlainInputs, guided: bool = True
) -> Tensor:
    """``latents`` (F, 4, S, S), ``timestep`` (1,) → predictions (halves, F, 4, S, S), unconditional first."""
    halves = (False, True) if guided else (True,)
    return torch.stack([_Half(model, inputs, conditional, guided).predict(latents, timestep) for conditional in halves])


class _Half:
    def __init__(self, model: EmoModel, inputs: PlainInputs, conditional: bool, guided: bool) -> None:
        self.model, self.config, self.inputs = model, model.config, inputs
        self.conditional, self.guided = conditional, guided
        self.face_tokens = self._face_tokens()
        self.reference, self.motion = self._reference_features()
        self.audio = self._audio_tokens()

    def predict(self, latents: Tensor, timestep: Tensor) -> Tensor:
        backbone = self.model.backbone
        embedding = backbone.time_embedding(backbone.time_proj(timestep).to(latents.dtype))
        hidden = backbone.enter(latents)
        if self.conditional or self.config.locator.in_unconditional:
            hidden = hidden + self.model.face_locator(self.inputs.face_mask)
        skips = [hidden]
        for block in backbone.down_blocks:
            for resnet, site, parts in block.steps():
                hidden = self._site(site, resnet(hidden, embedding), parts)
                skips.append(hidden)
            for downsampler in getattr(block, "downsamplers", ()):
                hidden = downsampler(hidden)
                skips.append(hidden)
        for resnet, site, parts in backbone.mid_block.steps():
            hidden = self._site(site, resnet(hidden, embedding), parts)
        hidden = backbone.mid_block.resnets[1](hidden, embedding)
        for block in backbone.up_blocks:
            for resnet, site, parts in block.steps():
                hidden = self._site(site, resnet(torch.cat([hidden, skips.pop()], 1), embedding), parts)
            for upsampler in getattr(block, "upsamplers", ()):
                hidden = upsampler(hidden)
        prediction: Tensor = backbone.conv_out(F.silu(backbone.conv_norm_out(hidden)))
        return prediction

    def _site(self, site: Site, hidden: Tensor, parts: Mapping[str, Any]) -> Tensor:
        if "attentions" in parts:
            hidden = self._spatial(parts["attentions"], site, hidden)
        if "audio_modules" in parts:
            hidden = self._audio_module(parts["audio_modules"], site, hidden)
        return self._temporal(parts["temporal_modules"], site, hidden)

    def _spatial(self, shell: Any, site: Site, hidden: Tensor) -> Tensor:
        block, tokens = shell.transformer_blocks[0], shell.enter(hidden)
        frames = tokens.shape[0]
        normed = block.norm1(tokens)
        reference = self._dealt_out(self.reference[site.name].flatten(2).transpose(1, 2), frames)
        concatenated = self.config.reference.mode == "concat" and self.conditional
        context = torch.cat([normed, reference], dim=1) if concatenated else normed
        tokens = tokens + _attention(block.attn1, normed, context)
        if self.config.reference.mode == "cross":
            tokens = tokens + self._cross_reference(block, block.norm2(tokens), reference)
        elif self.face_tokens is not None:
            tokens = tokens + _attention(block.attn2, block.norm2(tokens), self.face_tokens.expand(frames, -1, -1))
        if self.config.audio.attention == "single":
            tokens = tokens + _attention(block.attn_audio, block.norm_audio(tokens), self.audio)
        tokens = tokens + block.ff(block.norm3(tokens))
        output: Tensor = shell.leave(tokens, hidden)
        return output

    def _cross_reference(self, block: Any, normed: Tensor, reference: Tensor) -> Tensor:
        if self.conditional:
            return _attention(block.attn2, normed, reference)
        if self.config.reference.null == "learned":
            return _attention(block.attn2, normed, block.null_reference.expand(normed.shape[0], -1, -1))
        return torch.zeros_like(normed)

    def _audio_module(self, shell: Any, site: Site, hidden: Tensor) -> Tensor:
        block, tokens = shell.transformer_blocks[0], shell.enter(hidden)
        normed = block.norm1(tokens)
        tokens = tokens + _attention(block.attn1, normed, normed)
        normed = block.norm2(tokens)
        assert self.inputs.audio_masks is not None
        assert self.inputs.motion_scale is not None
        total = torch.zeros_like(tokens)
        for index, region in enumerate(AUDIO_REGIONS):
            heard = _attention(getattr(block, f"attn2_{index}"), normed, self.audio)
            heard = heard * self.inputs.audio_masks[site.level][index][None, :, None]
            grid = heard.transpose(1, 2).reshape(*heard.shape[::2], *hidden.shape[2:])
            convolved = getattr(block, f"zero_conv_{region}")(grid)
            total = total + convolved.flatten(2).transpose(1, 2) * self.inputs.motion_scale[index]
        tokens = tokens + total
        tokens = tokens + block.ff(block.norm3(tokens))
        output: Tensor = shell.leave(tokens, hidden)
        return output

    def _temporal(self, module: Any, site: Site, hidden: Tensor) -> Tensor:
        if not has_temporal(self.config, site):
            return hidden
        frames, channels, height, width = hidden.shape
        joined = torch.cat([self.motion[site.name], hidden])
        tokens = module.norm(joined).permute(2, 3, 0, 1).reshape(height * width, -1, channels)
        tokens, block = module.proj_in(tokens), module.transformer_blocks[0]
        for attention, norm in zip(block.attention_blocks, block.norms, strict=True):
            normed = attention.pos_encoder(norm(tokens))
            tokens = tokens + _attention(attention, normed, normed)
        if self.inputs.speed is not None:
            assert self.config.speed is not None
            speed = self.model.speed_encoder(self.inputs.speed).expand(tokens.shape[0], -1, -1)
            if not (self.conditional or self.config.speed.in_unconditional):
                speed = torch.zeros_like(speed)
            tokens = tokens + _attention(block.attn_speed, block.norm_speed(tokens), speed)
        tokens = module.proj_out(tokens + block.ff(block.ff_norm(tokens)))[:, -frames:]
        return hidden + tokens.reshape(height, width, frames, channels).permute(2, 3, 0, 1)

    def _face_tokens(self) -> Tensor | None:
        if not self.config.reference.face_tokens:
            return None
        embedding = self.inputs.face_embedding
        assert embedding is not None
        tokens: Tensor = self.model.face_projector(embedding if self.conditional else torch.zeros_like(embedding))
        return tokens

    def _audio_tokens(self) -> Tensor:
        windows = self.inputs.audio_windows
        projected = self.config.audio.projector_dim > 0
        tokens: Tensor = self.model.audio_projector(windows) if projected else windows.flatten(1, 2)
        if self.conditional:
            return tokens
        if self.config.audio.null == "learned":
            return self.model.null_audio.expand_as(tokens)
        return torch.zeros_like(tokens)

    def _reference_features(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features of the portrait, of both halves if they differ, and of this half's motion frames.

        Hallo's batch is [portrait, motion 1 … N] twice, for the unconditional and for the conditional half, and the
        pair of face tokens (unconditional, conditional) is tiled over its rows.
        """
        pictures = torch.cat([self.inputs.portrait_latent, self.inputs.motion_latents])
        period, embedding, tokens = len(pictures), self.inputs.face_embedding, None
        if embedding is not None:
            tokens = self.model.face_projector(embedding).expand(period, -1, -1)
        if embedding is not None and self.guided:
            pair = torch.cat([embedding * 0, embedding])
            tokens = torch.cat([self.model.face_projector(half[None]) for half in pair]).repeat(period, 1, 1)
            pictures = pictures.repeat(2, 1, 1, 1)
        maps = self.model.reference_net.features(pictures, tokens)
        first = len(pictures) - period if self.conditional else 0
        motion = {name: m[first + 1 : first + period] for name, m in maps.items()}
        return {name: m[::period] for name, m in maps.items()}, motion

    def _dealt_out(self, reference: Tensor, frames: int) -> Tensor:
        """Rows of the halves in turn over the frames of both halves, of which this half has the last (or only)."""
        rows = reference.repeat(2 * frames, 1, 1) if len(reference) > 1 else reference.expand(2 * frames, -1, -1)
        return rows[frames : 2 * frames]


def _attention(attention: Attention, hidden: Tensor, context: Tensor) -> Tensor:
    """Softmax attention written out."""

    def split(tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    queries, keys, values = (
        split(attention.to_q(hidden)),
        split(attention.to_k(context)),
        split(attention.to_v(context)),
    )
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    output: Tensor = attention.to_out[0]((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
    return output
