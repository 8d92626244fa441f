"""Training on many clips at once computes what one clip alone computes."""

from dataclasses import fields, replace

import pytest
import torch

from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from training.borrowed import PRESET
from training.borrowed.footage import Batch
from training.borrowed.told import denoise, features, predict, quick_norms

CLIPS = 2


@pytest.fixture(scope="module")
def small() -> ModelConfig:
    """The networks that are trained, with fewer frames."""
    return replace(preset(PRESET), frames=4, motion_frames=2, decode_frames=4)


@pytest.fixture(scope="module")
def model(small: ModelConfig) -> EmoModel:
    made = build_model(small, seed=2)
    for _, block in made.blocks():  # as training keeps it
        block.attn2.to_out[0].bias.data.zero_()
    return made


@pytest.fixture(scope="module")
def batch(small: ModelConfig) -> Batch:
    torch.manual_seed(1)
    f, n, c, s = small.frames, small.motion_frames, small.vae.latent_channels, small.latent_size
    layers, width = small.audio.encoder.num_hidden_layers, small.audio.encoder.hidden_size
    return Batch(
        latents=torch.randn(CLIPS, f, c, s, s),
        motion=torch.randn(CLIPS, n, c, s, s),
        reference=torch.randn(CLIPS, c, s, s),
        windows=torch.randn(CLIPS, f, 1, layers, width),
        mask=(torch.rand(CLIPS, 1, small.size, small.size) > 0.5).float(),
        speed=torch.tensor([0.3, 1.1]),
        weight=torch.ones(CLIPS, f, 1, s, s),
        keep=torch.ones(CLIPS, 3),
    )


def alone(model: EmoModel, batch: Batch, clip: int, noisy: torch.Tensor, timestep: float) -> torch.Tensor:
    """Both guidance halves as the runtime's graphs have them, (2, F, C, S, S)."""
    told = model.portrait_features(batch.reference[clip][None], batch.mask[clip][None], None)
    speed = batch.speed[clip].expand(noisy.shape[0])
    told |= model.clip_features(batch.motion[clip], batch.windows[clip], speed, None) | model.null_features()
    shifts = model.backbone.time_shifts(torch.tensor([timestep]))
    return model.backbone(noisy, shifts, told, guided=True).reshape(2, *noisy.shape)


@torch.no_grad()
def test_a_batch_is_its_clips(model: EmoModel, batch: Batch):
    noisy, timesteps = torch.randn_like(batch.latents), torch.tensor([500, 999])
    guided = predict(model, noisy, timesteps, features(model, batch), guided=True).reshape(2, *noisy.shape)
    single = predict(model, noisy, timesteps, features(model, batch))
    left_out = replace(batch, keep=torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
    mixed = predict(model, noisy, timesteps, features(model, left_out))
    for clip in range(CLIPS):
        halves = alone(model, batch, clip, noisy[clip], float(timesteps[clip]))
        torch.testing.assert_close(guided[:, clip], halves, rtol=0, atol=1e-5)
        torch.testing.assert_close(single[clip], halves[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(mixed[clip], halves[clip], rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_step_without_guidance_is_the_first_prediction(model: EmoModel, batch: Batch):
    noise = torch.randn_like(batch.latents)
    last = torch.full((CLIPS,), 999)
    made = denoise(model, batch, noise, "ddim", 1, 1.0)
    torch.testing.assert_close(made, -predict(model, noise, last, features(model, batch)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_quick_norms_compute_the_same_in_float32(small: ModelConfig, batch: Batch):
    fresh, quick = build_model(small, seed=2), build_model(small, seed=2)
    quick_norms(quick)
    noisy, timesteps = torch.randn_like(batch.latents), torch.tensor([10, 700])
    told = [predict(one, noisy, timesteps, features(one, batch)) for one in (fresh, quick)]
    torch.testing.assert_close(told[0], told[1], rtol=0, atol=1e-6)


def test_buffers_take_over_every_value(batch: Batch):
    buffers = batch.clone()
    other = Batch(*(getattr(batch, part.name) + 1 for part in fields(batch)))
    buffers.copy_from(other)
    for part in fields(batch):
        torch.testing.assert_close(getattr(buffers, part.name), getattr(other, part.name))
