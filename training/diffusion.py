"""Stages 1 to 4: the denoising loss, what each stage trains, and how the networks begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from emo_rt.export.networks.model import EmoModel, Features
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.model.contract import has_temporal
from emo_rt.model.solvers import alphas_cumprod
from training.encoded import MOUTH_WEIGHT, Example, Footage
from training.loop import Loss, Stage

STAGES = {
    "image": Stage("image", steps=6000, learning_rate=6e-4, warmup=100, ema=0.998, cooldown=0.1),
    "video": Stage("video", steps=20000, learning_rate=4e-4, warmup=200, ema=0.999),
    "speed": Stage("speed", steps=8000, learning_rate=3e-4, warmup=100, ema=0.998),
    "joint": Stage("joint", steps=7200, learning_rate=4e-4, warmup=200, ema=0.998, cooldown=0.5),
}
DROP_REFERENCE, DROP_AUDIO, DROP_BOTH = 0.03, 0.05, 0.07
"""How often the portrait, the voice or both, and then the head speed, are left out, so that guidance has an
unconditional half."""
FROZEN = 0.4
"""How often motion frames stand still once the head speed is learned. A head that moves on as it did needs no label, so
what stands still in a generated clip would never start."""
OWN = 0.5
"""How often motion frames in the last stage are of the network's own making. Those of true clips have no mistakes; a
network that has seen no others trusts them more than the portrait, and in a run its mistakes grow from clip to
clip."""
FLICKER_WEIGHT = 2.0
"""Of the squared change of the error from frame to frame, in the last stage: an error that stays is seen less than one
that trembles, and the noise that a frame starts from should not show in it. The step from motion frames with mistakes
counts as the others: a clip should not jump back to the truth, but turn to it, by half of the mistake in each frame."""
MORE_NOISE = 0.5
"""Share of the clips whose timestep leans towards noise, where the mouth's shape is decided; the others' is uniform."""


def begin(model: EmoModel) -> None:
    """First weights.

    The ReferenceNet starts as a copy of the Backbone, as in the paper. Reference attention starts by looking for what
    is alike (equal projections of queries and keys). What later stages add starts as nothing: temporal modules and
    speed layers leave their input as it is.
    """
    own = model.backbone.state_dict()
    shared = {key: own[key] for key in model.reference_net.state_dict() if key in own}
    model.reference_net.load_state_dict(shared, strict=False)
    with torch.no_grad():
        for _, block in model.blocks():
            block.attn2.to_q.weight.mul_(2.0)
            block.attn2.to_k.weight.copy_(block.attn2.to_q.weight)
        for zero in [model.backbone.conv_out, *(module.proj_out for module in temporal_modules(model))]:
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)
        for bias in reference_biases(model):
            bias.zero_()
    silence_speed(model)


def silence_speed(model: EmoModel) -> None:
    """Speed layers add nothing until their own stage."""
    for module in temporal_modules(model):
        output = module.transformer_blocks[0].attn_speed.to_out[0]
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)


def temporal_modules(model: EmoModel) -> list[TemporalModule]:
    """Those of all sites."""
    return [model.temporal(site) for site in model.sites if has_temporal(model.config, site)]


def reference_biases(model: EmoModel) -> list[nn.Parameter]:
    """Output biases of the reference attention. They stay zero: without a portrait the attention then gives nothing,
    which is what the unconditional half gets (``reference.null = "zero"``)."""
    return [block.attn2.to_out[0].bias for _, block in model.blocks()]


def trainable(model: EmoModel, stage: str) -> list[nn.Parameter]:
    """What a stage trains: 1 all but sound and time; 2 all but speed; 3 temporal modules and the two weak controls;
    4 everything.

    The paper trains the face locator in stages 1 and 2 only. Stage 3 leaves the temporal modules' group normalisation
    alone: where its input needs no gradient (motion frames come from the ReferenceNet, which does not train any more),
    its backward pass ends torch 2.13 on the CPU.
    """
    temporal = [f"backbone.{name}" for name, part in model.backbone.named_modules() if isinstance(part, TemporalModule)]
    frozen = {id(bias) for bias in reference_biases(model)}
    chosen = []
    for name, parameter in model.named_parameters():
        in_time, in_speed = name.startswith(tuple(temporal)), "speed" in name
        in_sound = "audio" in name
        if name.startswith(("vae.", "audio_encoder.")) or id(parameter) in frozen:
            continue
        wanted = {
            "image": not (in_time or in_speed or in_sound),
            "video": not in_speed,
            "speed": in_speed
            or name.startswith("face_locator.")
            or (in_time and not name.endswith((".norm.weight", ".norm.bias"))),
            "joint": True,
        }
        if wanted[stage]:
            chosen.append(parameter)
    return chosen


def diffusion_loss(model: EmoModel, footage: Footage, stage: str, device: str) -> Loss:
    """Squared error of v with more weight on the mouth (arXiv 2202.00512; zero terminal SNR, arXiv 2305.08891).

    v with zero terminal SNR, because at few steps everything hangs on the first one, which starts from pure noise:
    there epsilon says nothing about the picture, and v is the picture.
    """
    signal = torch.from_numpy(alphas_cumprod(model.config.schedule)).float()
    model.backbone.still = stage == "image"

    def noised(latents: Tensor, places: np.ndarray) -> Noised:
        timesteps = torch.from_numpy((places * len(signal)).astype(np.int64))
        level = signal[timesteps][:, None, None, None].to(device)
        noise = torch.randn(latents.shape).to(device)
        shifts = model.backbone.time_shifts(timesteps.float().to(device))
        return Noised(latents, noise, level.sqrt(), (1 - level).sqrt(), shifts)

    @torch.no_grad()
    def after_own_clip(rng: np.random.Generator) -> Example:
        """A clip after one of the network's own making: guided as in a run, but in one step from more or less noise."""
        before, example = footage.clips_in_a_row(rng)
        clip = noised(before.latents, rng.uniform(0.3, 1, 1))
        features = told(model, before, stage) | model.null_features()
        halves = model.backbone(clip.noisy, clip.shifts, features, guided=True).float().chunk(2)
        made = clip.denoised(halves[0] + rng.uniform(1, model.config.guidance) * (halves[1] - halves[0]))
        motion = made[-model.config.motion_frames :]
        return replace(example, motion=motion, mistake=motion[-1:] - before.latents[-1:])

    def video_with_frozen(rng: np.random.Generator) -> Example:
        return footage.video(rng, frozen=FROZEN)

    draws: dict[str, Callable[[np.random.Generator], Example]] = {
        "image": footage.pictures,
        "video": footage.video,
        "speed": video_with_frozen,
        "joint": lambda rng: after_own_clip(rng) if rng.random() < OWN else video_with_frozen(rng),
    }
    draw = draws[stage]

    def loss(rng: np.random.Generator) -> dict[str, Tensor]:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            example = draw(rng)
            count = len(example.latents) if stage == "image" else 1  # the frames of a clip are denoised together
            places = (rng.permutation(count) + rng.random(count)) / count
            if stage != "image" and rng.random() < MORE_NOISE:
                places = np.sqrt(places)
            clip = noised(example.latents, places)
            prediction = model.backbone(clip.noisy, clip.shifts, features_of(model, example, rng, stage), guided=False)
        error = prediction.float() - clip.velocity
        changes = error.diff(dim=0)
        if example.mistake is not None:  # the latents are wrong by -sigma times what v is
            changes = torch.cat([clip.sigma * error[:1] + example.mistake, changes])
        return losses(error, changes, example.weight, FLICKER_WEIGHT if stage == "joint" else 0.0)

    return loss


def losses(error: Tensor, changes: Tensor, weight: Tensor, flicker_weight: float) -> dict[str, Tensor]:
    """Squares of an error (F, 4, S, S) of v by place, and of its changes (F or F - 1, 4, S, S) from frame to frame."""
    square, flicker = error**2, changes**2
    total = (square * weight).mean() + flicker_weight * (flicker * weight[-len(changes) :]).mean()
    inside = (weight > MOUTH_WEIGHT).float()
    mouth = (square * inside).sum() / (inside.sum() * error.shape[1])
    return {"total": total, "picture": square.mean(), "mouth": mouth, "flicker": flicker.mean()}


@dataclass(frozen=True, eq=False)
class Noised:
    """Latents (F, 4, S, S) on their way to noise."""

    latents: Tensor
    noise: Tensor
    alpha: Tensor
    """(F, 1, 1, 1) or (1, 1, 1, 1) level of the signal."""
    sigma: Tensor
    """Level of the noise."""
    shifts: Tensor
    """What the Backbone is told of the timesteps."""

    @property
    def noisy(self) -> Tensor:
        """What the Backbone sees."""
        return self.alpha * self.latents + self.sigma * self.noise

    @property
    def velocity(self) -> Tensor:
        """v: what it should say."""
        return self.alpha * self.noise - self.sigma * self.latents

    def denoised(self, velocity: Tensor) -> Tensor:
        """The latents that a prediction of v means."""
        return self.alpha * self.noisy - self.sigma * velocity


def features_of(model: EmoModel, example: Example, rng: np.random.Generator, stage: str) -> Features:
    """Everything that the Backbone is told, with the portrait and the voice sometimes left out."""
    features = told(model, example, stage)
    chance = rng.random()
    no_reference = chance < DROP_REFERENCE or chance > 1 - DROP_BOTH
    no_audio = DROP_REFERENCE <= chance < DROP_REFERENCE + DROP_AUDIO or chance > 1 - DROP_BOTH
    no_speed = no_reference and no_audio and not model.config.speed.in_unconditional
    gone = {"reference_": no_reference, "audio_": no_audio, "speed_": no_speed}
    left_out = tuple(prefix for prefix, is_gone in gone.items() if is_gone)
    for key in features:
        if key.startswith(left_out) and key != "audio_tokens":
            features[key] = torch.zeros_like(features[key])
    return features


def told(model: EmoModel, example: Example, stage: str) -> Features:
    """Everything that the Backbone is told."""
    features = model.portrait_features(example.reference, example.mask, None, guided=False)
    if stage != "image":
        speed = example.speed if model.config.speed else None
        features |= model.clip_features(example.motion, example.windows, speed, None, guided=False)
    return features
