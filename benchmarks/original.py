"""One clip in the evaluation order of the public Hallo pipeline, on our modules: what the other files compare with.

Once per clip: audio tokens, face tokens, the face locator on all F frames, and the ReferenceNet on [portrait, motion
1 … N] for both guidance halves. Everything else again at every step, for both halves: keys and values of the reference
(for every frame), of audio and of face tokens; attention to the reference in the unconditional half too, which is then
thrown away and computed again without; motion rows through the whole of each temporal module.

EchoMimic's order is the same for one window, without motion frames and face tokens.

There is no public code of EMO itself. For its layout the same order is assumed, in its favour where there is a choice:
speed keys and values are projected once per step and half, not once per pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emo_rt.export.networks.attention import KeyValue, attend, attend_shared, project
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.plain import PlainInputs
from emo_rt.export.networks.transformer import from_tokens
from emo_rt.model.contract import AUDIO_REGIONS, Site, has_temporal

REFERENCE_KV = "reference K/V"
THROWN_AWAY = "thrown away"

Section = Callable[[str], AbstractContextManager[Any]]
"""Names a part of the work for whoever counts it."""


class OriginalClip:
    """Holds what the original keeps for a clip; :meth:`predict` is one step, with guidance."""

    @torch.no_grad()
    def __init__(self, model: EmoModel, inputs: PlainInputs, section: Section = nullcontext) -> None:
        self.model, self.config, self.inputs, self.section = model, model.config, inputs, section
        self.frames = model.config.frames
        pictures = self.frames if model.config.windows is None else 1  # EchoMimic: one for all frames
        self.face_feature = model.face_locator(inputs.face_mask.expand(pictures, -1, -1, -1))
        self.audio = self._audio_tokens(inputs.audio_windows)
        self.face = self._face_tokens()
        self.speed = None if inputs.speed is None else model.speed_encoder(inputs.speed)[None]
        self.reference, self.motion = self._reference_features()

    def hear(self, windows: Tensor) -> None:
        """Another window's sound, (F, rows, states, hidden), in the place of the inputs'."""
        self.audio = self._audio_tokens(windows)

    @torch.no_grad()
    def predict(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """``latents`` (F, 4, S, S), ``timestep`` (1,) → predictions (2, F, 4, S, S), unconditional first."""
        backbone = self.model.backbone
        shifts = backbone.time_shifts(timestep.expand(2))
        hidden = backbone.enter(latents.repeat(2, 1, 1, 1))
        in_unconditional = self.config.locator.in_unconditional
        unlocated = self.face_feature if in_unconditional else torch.zeros_like(self.face_feature)
        located = torch.cat([half.expand(self.frames, -1, -1, -1) for half in (unlocated, self.face_feature)])
        hidden, _ = backbone.walk(hidden + located, shifts[:1], self._visit)
        prediction: Tensor = backbone.conv_out(F.silu(backbone.conv_norm_out(hidden)))
        return prediction.unflatten(0, (2, -1))

    def _visit(self, site: Site, hidden: Tensor, parts: Mapping[str, Any]) -> Tensor:
        if "attentions" in parts:
            shell = parts["attentions"]
            hidden = shell.leave(self._spatial(shell.block, site, shell.enter(hidden)), hidden)
        if "audio_modules" in parts:
            shell = parts["audio_modules"]
            hidden = shell.leave(self._audio_module(shell.block, site, shell.enter(hidden), hidden), hidden)
        return self._temporal(parts["temporal_modules"], site, hidden) if has_temporal(self.config, site) else hidden

    def _spatial(self, block: Any, site: Site, tokens: Tensor) -> Tensor:
        reference, normed = self._for_every_frame(site), block.norm1(tokens)
        if self.config.reference.mode == "concat":
            tokens = tokens + self._self_attention(block.attn1, normed, reference)
        else:
            tokens = tokens + _attention(block.attn1, normed, normed)
            tokens = tokens + self._reference_attention(block, block.norm2(tokens), reference)
        if self.face is not None:
            tokens = tokens + _attention(block.attn2, block.norm2(tokens), self.face)
        if self.config.audio.attention == "single":
            tokens = tokens + _attention(block.attn_audio, block.norm_audio(tokens), self.audio)
        output: Tensor = tokens + block.ff(block.norm3(tokens))
        return output

    def _self_attention(self, attention: Any, normed: Tensor, reference: Tensor) -> Tensor:
        """Both halves with the reference; then the unconditional one again, without."""
        unconditional, conditional = normed.chunk(2)
        with self.section(REFERENCE_KV):
            null_context, context = _halves(project(attention, reference))
        with self.section(THROWN_AWAY):
            attend(attention, unconditional, _join(project(attention, unconditional), null_context))
        alone = _attention(attention, unconditional, unconditional)
        return torch.cat([alone, attend(attention, conditional, _join(project(attention, conditional), context))])

    def _reference_attention(self, block: Any, normed: Tensor, reference: Tensor) -> Tensor:
        unconditional, conditional = normed.chunk(2)
        with self.section(REFERENCE_KV):
            null_context, context = _halves(project(block.attn2, reference))
        with self.section(THROWN_AWAY):
            alone = torch.zeros_like(attend(block.attn2, unconditional, null_context))
        if self.config.reference.null == "learned":
            alone = _attention(block.attn2, unconditional, block.null_reference.expand(self.frames, -1, -1))
        return torch.cat([alone, attend(block.attn2, conditional, context)])

    def _audio_module(self, block: Any, site: Site, tokens: Tensor, like: Tensor) -> Tensor:
        normed = block.norm1(tokens)
        tokens = tokens + _attention(block.attn1, normed, normed)
        normed, total = block.norm2(tokens), torch.zeros_like(tokens)
        masks, scale = self.inputs.audio_masks, self.inputs.motion_scale
        assert masks is not None
        assert scale is not None
        for index, region in enumerate(AUDIO_REGIONS):
            heard = _attention(getattr(block, f"attn2_{index}"), normed, self.audio)
            grid = from_tokens(heard * masks[site.level][index][None, :, None], like)
            total = total + getattr(block, f"zero_conv_{region}")(grid).flatten(2).transpose(1, 2) * scale[index]
        tokens = tokens + total
        output: Tensor = tokens + block.ff(block.norm3(tokens))
        return output

    def _temporal(self, module: Any, site: Site, hidden: Tensor) -> Tensor:
        channels, height, width = hidden.shape[1:]
        rows = torch.cat([self.motion[site.name], hidden.unflatten(0, (2, -1))], dim=1)
        normed = torch.stack([module.norm(half) for half in rows])
        tokens = module.proj_in(normed.permute(0, 3, 4, 1, 2).reshape(2 * height * width, -1, channels))
        block = module.transformer_blocks[0]
        for attention, norm in zip(block.attention_blocks, block.norms, strict=True):
            context = attention.pos_encoder(norm(tokens))
            tokens = tokens + _attention(attention, context, context)
        if self.speed is not None:
            tokens = tokens + self._hear_speed(block, tokens)
        tokens = module.proj_out(tokens + block.ff(block.ff_norm(tokens)))[:, -self.frames :]
        moved = tokens.reshape(2, height, width, self.frames, channels).permute(0, 3, 4, 1, 2)
        return hidden + moved.reshape(hidden.shape)

    def _hear_speed(self, block: Any, tokens: Tensor) -> Tensor:
        attention, told = block.attn_speed, self.speed
        assert self.config.speed is not None
        assert told is not None
        both = (told if self.config.speed.in_unconditional else torch.zeros_like(told), told)
        halves = zip(block.norm_speed(tokens).chunk(2), both, strict=True)
        return torch.cat([attend_shared(attention, half, project(attention, speed)) for half, speed in halves])

    def _for_every_frame(self, site: Site) -> Tensor:
        """Reference tokens for each frame of both halves, dealt out in turn: (2F, h·w, C)."""
        return self.reference[site.name].flatten(2).transpose(1, 2).repeat(self.frames, 1, 1)

    def _audio_tokens(self, windows: Tensor) -> Tensor:
        heard: Tensor = (
            self.model.audio_projector(windows) if self.config.audio.projector_dim else windows.flatten(1, 2)
        )
        learned = self.config.audio.null == "learned"
        return torch.cat([self.model.null_audio.expand_as(heard) if learned else torch.zeros_like(heard), heard])

    def _face_tokens(self) -> Tensor | None:
        """(2F, tokens, dim), or ``None`` for a model without."""
        embedding = self.inputs.face_embedding
        if embedding is None:
            return None
        self.face_pair = torch.cat([self.model.face_projector(e) for e in (torch.zeros_like(embedding), embedding)])
        return self.face_pair.repeat_interleave(self.frames, dim=0)

    def _reference_features(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By site: features of the portrait (2, C, h, w) and of the motion frames (2, N, C, h, w), per half."""
        pictures = torch.cat([self.inputs.portrait_latent, self.inputs.motion_latents])
        period = len(pictures)
        tiled = None if self.face is None else self.face_pair.repeat(period, 1, 1)
        maps = self.model.reference_net.features(pictures.repeat(2, 1, 1, 1), tiled)
        halves = {name: feature.unflatten(0, (2, period)) for name, feature in maps.items()}
        return {name: half[:, 0] for name, half in halves.items()}, {name: half[:, 1:] for name, half in halves.items()}


def _attention(attention: Any, hidden: Tensor, context: Tensor) -> Tensor:
    return attend(attention, hidden, project(attention, context))


def _halves(pair: KeyValue) -> tuple[KeyValue, KeyValue]:
    (first_keys, keys), (first_values, values) = (tensor.chunk(2) for tensor in pair)
    return (first_keys, first_values), (keys, values)


def _join(own: KeyValue, reference: KeyValue) -> KeyValue:
    return torch.cat([own[0], reference[0]], dim=1), torch.cat([own[1], reference[1]], dim=1)
