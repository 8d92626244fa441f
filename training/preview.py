"""Look at a model that is still in training: ``python -m training.preview --net video-so-far --output preview.png``.

Plain torch, a few DDIM steps, people and voices of the test split: truth above, generated below.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emo_rt.export.graph_modules import clamp_unit, to_rgb
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.vae import decode, encode
from emo_rt.model.solvers import solver_table
from training.autoencoder import to_pixels
from training.corpus import Recording, record
from training.encoded import hear
from training.stages import load_model
from training.world import Clip
from training.world.sheet import grid


@torch.no_grad()
def generate(model: EmoModel, clip: Recording, clips: int, steps: int, seed: int = 0) -> np.ndarray:
    """Frames (clips · F, size, size, 3) uint8 of the person in the first frame, speaking the clip's sound."""
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    portrait = encode(model.vae, to_pixels(clip.frames[:1]))
    mask = torch.zeros(1, 1, config.size, config.size)
    least, most = clip.face_box[:, :2].min(axis=0) * config.size, clip.face_box[:, 2:].max(axis=0) * config.size
    mask[:, :, int(least[1]) : int(most[1]) + 1, int(least[0]) : int(most[0]) + 1] = 1
    fixed = model.portrait_features(portrait, mask, None, guided=False)
    hidden = hear(model, clip.waveform, len(clip.frames), "cpu")
    first = portrait if config.first_motion == "portrait" else torch.zeros_like(portrait)
    motion, frames = first.expand(config.motion_frames, -1, -1, -1), []
    for index in range(clips):
        features = {**fixed, **_clip_features(model, clip, hidden, motion, index)}
        latents = _denoise(model, features, steps, generator)
        motion = latents[-config.motion_frames :]
        frames.append(to_rgb(clamp_unit(decode(model.vae, latents))).numpy())
    return np.concatenate(frames)


def _clip_features(model: EmoModel, clip: Recording, hidden: Tensor, motion: Tensor, index: int) -> dict[str, Tensor]:
    if model.backbone.still:
        return {}
    config = model.config
    rows = torch.arange(index * config.frames, (index + 1) * config.frames)[:, None]
    reach = config.audio.context_frames
    around = (rows + torch.arange(-reach, reach + 1)).clamp(0, len(hidden) - 1)
    speed = torch.full((config.frames,), float(clip.speed.mean()))
    return model.clip_features(motion, hidden[around], speed, None, guided=False)


def _denoise(model: EmoModel, features: dict[str, Tensor], steps: int, generator: torch.Generator) -> Tensor:
    config, size = model.config, model.config.latent_size
    table = solver_table(config.schedule, "ddim", steps)
    latents = torch.randn(config.frames, config.vae.latent_channels, size, size, generator=generator)
    for timestep, row in zip(table.timesteps, table.coefficients, strict=True):
        shifts = model.backbone.time_shifts(torch.tensor([float(timestep)]))
        prediction = model.backbone(latents, shifts, features, guided=False)
        x0 = float(row[0]) * latents + float(row[1]) * prediction
        latents = float(row[2]) * latents + float(row[3]) * x0
    return latents


def sheet(model: EmoModel, seeds: Sequence[int], clips: int, steps: int, stride: int) -> np.ndarray:
    """Two rows a person: the truth, then what the model makes of it."""
    rows = []
    for seed in seeds:
        count = clips * model.config.frames
        clip = record(Clip.sample(seed, count / model.config.fps, model.config.fps, "test"), model.config.size)
        made = generate(model, clip, clips, steps)
        for frames in (clip.frames, made):
            rows.append(np.concatenate(list(frames[::stride]), axis=1))
    return grid(rows, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"))
    parser.add_argument("--net", default="video-so-far", help="image, video, speed, or one of them with -so-far")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--stride", type=int, default=2)
    given = parser.parse_args(arguments)
    model = load_model(given.folder, "vae", "hearing", given.net)
    model.backbone.still = given.net.startswith("image")
    picture = sheet(model, range(given.people), given.clips, given.steps, given.stride)
    Image.fromarray(picture).save(given.output)


if __name__ == "__main__":
    main()
