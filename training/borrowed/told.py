"""What the Backbone is told of several clips at once, the prediction of v, and rollouts of many videos at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo_rt.export.networks.attention import project
from emo_rt.export.networks.model import EmoModel, Features
from emo_rt.export.networks.transformer import to_tokens
from emo_rt.model.contract import has_temporal
from emo_rt.model.solvers import solver_table
from training.borrowed.footage import Batch, Footage, Place, with_motion


def features(model: EmoModel, batch: Batch) -> Features:
    """As ``portrait_features`` and ``clip_features`` of :class:`EmoModel`, for B clips; what ``batch.keep`` leaves out
    has keys and values of zero, as in the unconditional half of guidance."""
    count = len(batch.motion)
    frames = batch.windows.shape[1]
    reference, voice, speed = (batch.keep[:, column, None, None] for column in range(3))
    result: Features = {"face_feature": model.face_locator(batch.mask).repeat_interleave(frames, 0)}
    maps = model.reference_net.features(torch.cat([batch.reference, batch.motion.flatten(0, 1)]))
    heard = model.audio_projector(batch.windows.flatten(0, 1))
    told = _speed_tokens(model, batch.speed, frames)
    for site, block in model.blocks():
        _store(result, "reference", site.name, project(block.attn2, to_tokens(maps[site.name][:count])), reference)
        _store(result, "audio", site.name, project(block.attn_audio, heard), voice.repeat_interleave(frames, 0))
    for site in model.sites:
        if has_temporal(model.config, site):
            module = model.temporal(site)
            result[f"motion.{site.name}"] = module.motion_tokens(maps[site.name][count:], count)
            _store(result, "speed", site.name, project(module.transformer_blocks[0].attn_speed, told), speed)
    return result


def _store(result: Features, kind: str, site: str, pair: tuple[Tensor, Tensor], keep: Tensor) -> None:
    for name, value in zip(("key", "value"), pair, strict=True):
        result[f"{kind}_{name}.{site}"] = value * keep.to(value.dtype)


def _speed_tokens(model: EmoModel, speed: Tensor, frames: int) -> Tensor:
    """(B,) → (B, F, token_dim): as the speed encoder, one speed for a whole clip."""
    encoder = model.speed_encoder
    buckets = torch.tanh((speed[:, None] - encoder.centres) / encoder.config.radius * 3)
    tokens: Tensor = encoder.mlp(buckets.repeat(1, 2 * encoder.neighbours + 1))
    return tokens[:, None].expand(-1, frames, -1)


def predict(model: EmoModel, noisy: Tensor, timesteps: Tensor, told: Features, guided: bool = False) -> Tensor:
    """v of noisy latents (B, F, C, S, S) at timesteps (B,): (halves · B, F, C, S, S)."""
    frames = noisy.shape[1]
    shifts = model.backbone.time_shifts(timesteps.float()).repeat_interleave(frames, 0)
    shifts = shifts.repeat(2, 1) if guided else shifts
    flat = model.backbone(noisy.flatten(0, 1), shifts, told, guided=guided)
    return flat.reshape(-1, *noisy.shape[1:])


@torch.no_grad()
def denoise(model: EmoModel, batch: Batch, noise: Tensor, solver: str, steps: int, guidance: float) -> Tensor:
    """Latents (B, F, C, S, S) as the runtime makes them; ``guidance`` 1 runs without the unconditional half."""
    device = noise.device.type
    table = solver_table(model.config.schedule, solver, steps)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        told = features(model, batch)
    latents, history = noise, [torch.zeros_like(noise)] * 2
    for timestep, row in zip(table.timesteps, table.coefficients, strict=True):
        at = torch.full((len(noise),), float(timestep), device=noise.device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            v = predict(model, latents, at, told, guidance != 1).float()
        if guidance != 1:
            without, with_ = v.chunk(2)
            v = without + guidance * (with_ - without)
        p, q, a, b, c, d = (float(number) for number in row)
        x0 = p * latents + q * v
        latents = a * latents + b * x0 + c * history[0] + d * history[1]
        history = [x0, history[0]]
    return latents


@torch.no_grad()
def roll_out(
    model: EmoModel, footage: Footage, clips: Tensor, count: int, how: tuple[str, int, float], seed: int = 0
) -> Tensor:
    """Videos of some clips from their starts, ``count`` clips in a row on motion frames of the network's own making:
    latents (B, count · F, C, S, S). ``how``: solver, steps, guidance."""
    generator = torch.Generator(footage.device).manual_seed(seed)
    made: list[Tensor] = []
    for index in range(count):
        place = Place(clips, torch.full_like(clips, index * footage.config.frames))
        batch = footage.batch(place, drop=False, plain=True)
        if made:
            batch = with_motion(
                batch, made[-1][:, -footage.config.motion_frames :], torch.ones_like(clips, dtype=torch.bool)
            )
        noise = torch.randn(batch.latents.shape, generator=generator, device=footage.device)
        made.append(denoise(model, batch, noise, *how))
    return torch.cat(made, dim=1)


def quick_norms(model: nn.Module) -> None:
    """Let the norms work in the type that they are given: under autocast torch runs them in float32, at twice the
    memory traffic. For training on a GPU only."""
    import types

    def group_norm(self: nn.GroupNorm, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.group_norm(
                hidden, self.num_groups, self.weight.to(hidden.dtype), self.bias.to(hidden.dtype), self.eps
            )

    def layer_norm(self: nn.LayerNorm, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.layer_norm(
                hidden, self.normalized_shape, self.weight.to(hidden.dtype), self.bias.to(hidden.dtype), self.eps
            )

    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = types.MethodType(group_norm, module)  # type: ignore[method-assign]
        elif isinstance(module, nn.LayerNorm):
            module.forward = types.MethodType(layer_norm, module)  # type: ignore[method-assign]
