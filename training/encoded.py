"""The corpus as the diffusion stages read it: latents instead of pictures, hidden states instead of sound."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.vae import encode
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of
from training.autoencoder import to_pixels
from training.corpus import Recording, available, clip_path, save_arrays
from training.disturb import disturb
from training.masks import draw_mask
from training.stages import CORPUS, ENCODED, load_model

Halves = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """One clip of T frames."""

    latents: Halves
    """(T, channels, S, S)."""
    hidden: Halves
    """(2, T, layers, hidden): of the clean sound, and of a disturbed one."""
    face_box: NDArray[np.float32]
    """(T, 4), shares of the side."""
    speed: NDArray[np.float32]
    """(T,) head speed."""

    @classmethod
    def load(cls, path: Path) -> EncodedClip:
        """Read one file."""
        with np.load(path) as data:
            return cls(**{field.name: data[field.name] for field in fields(cls)})


def encode_corpus(folder: Path, device: str) -> None:
    """Encode every clip of the corpus that is not encoded yet; pictures or sound anew where their weights are newer."""
    model = load_model(folder, "vae", "hearing").to(device)
    model.vae.to(memory_format=torch.channels_last)  # 1.4 times as fast on the CPU
    (folder / ENCODED).mkdir(exist_ok=True)
    seen_since, heard_since = ((folder / f"{part}.weights.pt").stat().st_mtime for part in ("vae", "hearing"))
    for done, seed in enumerate(available(folder / CORPUS), 1):
        path, source = clip_path(folder / ENCODED, seed), clip_path(folder / CORPUS, seed)
        encoded_at = path.stat().st_mtime if path.exists() else 0.0
        if encoded_at < max(seen_since, heard_since):
            clip, known = Recording.load(source), EncodedClip.load(path) if path.exists() else None
            latents = known.latents if known and encoded_at >= seen_since else see(model, clip.frames, device)
            hidden = known.hidden if known and encoded_at >= heard_since else hear_twice(model, clip, seed, device)
            save_arrays(EncodedClip(latents, hidden, clip.face_box, clip.speed), path)
        if done % 100 == 0:
            sys.stderr.write(f"{done} clips encoded" + "\n")


@torch.no_grad()
def see(model: EmoModel, frames: NDArray[np.uint8], device: str) -> Halves:
    """(T, size, size, 3) → latents (T, channels, S, S)."""
    parts = to_pixels(frames).split(16)
    return np.concatenate([encode(model.vae, part.to(device)).cpu().half().numpy() for part in parts])


@torch.no_grad()
def hear_twice(model: EmoModel, clip: Recording, seed: int, device: str) -> Halves:
    """Hidden states (2, T, layers, hidden) as the runtime has them: of the clean sound, and of a disturbed one."""
    sounds = (clip.waveform, disturb(clip.waveform, np.random.default_rng([0xD157, seed])))
    return np.stack([hear(model, sound, len(clip.frames), device).cpu().half().numpy() for sound in sounds])


def hear(model: EmoModel, sound: NDArray[np.float32], frames: int, device: str) -> Tensor:
    """(samples,) → (frames, layers, hidden), of each frame what its own clip hears in :mod:`emo_rt.runtime.clips`."""
    config, per_frame = model.config, AUDIO_SAMPLE_RATE // model.config.fps
    heard = family_of(config).hearing.length
    count = -(-frames // config.frames)
    first = config.audio.left_context_frames + config.audio.context_frames
    after = ((count - 1) * config.frames + heard - first) * per_frame - len(sound)
    padded = np.pad(sound, (first * per_frame, max(after, 0)))
    length = heard * per_frame
    starts = [index * config.frames * per_frame for index in range(count)]
    windows = torch.from_numpy(np.stack([padded[start : start + length] for start in starts])).to(device)
    kept = model.audio_encoder.hidden_states(windows)[:, first : first + config.frames]
    return kept.flatten(0, 1)[:frames]


@dataclass(frozen=True, eq=False)
class Example:
    """What one clip of a run would have, and what it should become."""

    latents: Tensor
    """(F, 4, S, S) the truth."""
    motion: Tensor
    """(N, 4, S, S) what came before; where nothing did, zeros or the reference (``first_motion``)."""
    reference: Tensor
    """(1, 4, S, S) another moment of the same person."""
    windows: Tensor
    """(F, 2m+1, layers, hidden)."""
    mask: Tensor
    """(1, 1, size, size) where the face may be."""
    speed: Tensor
    """(F,) the mean over these frames, for each of them: what a request for a speed means."""
    weight: Tensor
    """(F, 1, S, S) importance of each place for the loss."""
    mistake: Tensor | None = None
    """(1, 4, S, S) what is wrong with the last of ``motion``, where that is of the network's own making."""


class Footage:
    """All encoded clips in memory, and examples from them."""

    def __init__(self, folder: Path, config: ModelConfig, device: str, limit: int = 8000) -> None:
        self.config, self.device = config, device
        self.clips = [EncodedClip.load(clip_path(folder, seed)) for seed in available(folder)[:limit]]

    def pictures(self, rng: np.random.Generator) -> Example:
        """F frames of one person, in no order, without sound: for the stage on pictures."""
        clip = self._clip(rng)
        rows = rng.integers(len(clip.latents), size=self.config.frames)
        return self._example(rng, clip, rows, np.zeros((0,), int), disturbed=False)

    def video(self, rng: np.random.Generator, frozen: float = 0.0) -> Example:
        """N + F frames in a row; one time in five nothing came before. ``frozen``: how often the frames before stand
        still, so that a head's speed cannot be read from them."""
        clip, n, f = self._clip(rng), self.config.motion_frames, self.config.frames
        first = int(rng.integers(-n, len(clip.latents) - n - f + 1)) + n
        dropped = first < n or rng.random() < 0.2
        before = np.zeros(0, int) if dropped else np.arange(first - n, first)
        if len(before) and rng.random() < frozen:
            before[:] = before[-1]
        return self._example(rng, clip, np.arange(first, first + f), before, True)

    def clips_in_a_row(self, rng: np.random.Generator) -> tuple[Example, Example]:
        """Two clips of a video as the runtime makes them, the second right after the first: 2F frames in a row, after N
        others or after nothing."""
        clip, n, f = self._clip(rng), self.config.motion_frames, self.config.frames
        first = int(rng.integers(n, len(clip.latents) - 2 * f + 1))
        before = np.arange(first - n, first) if rng.random() < 0.5 else np.zeros(0, int)
        rows = np.arange(first, first + f)
        made = self._example(rng, clip, rows, before, True)
        following = self._example(rng, clip, rows + f, rows[-n:], True)
        return made, replace(following, reference=made.reference, mask=made.mask)

    def _clip(self, rng: np.random.Generator) -> EncodedClip:
        return self.clips[rng.integers(len(self.clips))]

    def _example(
        self, rng: np.random.Generator, clip: EncodedClip, rows: np.ndarray, before: np.ndarray, disturbed: bool
    ) -> Example:
        config = self.config
        reach = config.audio.context_frames
        around = (rows[:, None] + np.arange(-reach, reach + 1)).clip(0, len(clip.latents) - 1)
        hidden = clip.hidden[int(disturbed and rng.random() < 0.5)]
        reference = clip.latents[rng.integers(len(clip.latents))][None]
        first = reference if config.first_motion == "portrait" else np.zeros_like(reference)
        motion = clip.latents[before] if len(before) else np.repeat(first, config.motion_frames, axis=0)
        if len(before) and rng.random() < 0.7:  # the runtime's motion frames are generated ones, with their mistakes
            motion = motion + rng.uniform(0, 0.2) * rng.standard_normal(motion.shape)
        return Example(
            latents=self._tensor(clip.latents[rows]),
            motion=self._tensor(motion),
            reference=self._tensor(reference),
            windows=self._tensor(hidden[around]),
            mask=self._tensor(draw_mask(rng, clip.face_box, self.config.size)),
            speed=self._tensor(np.full(config.frames, clip.speed[rows].mean())),
            weight=self._tensor(importance(clip.face_box[rows], config.latent_size)),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)


MOUTH_WEIGHT, EYES_WEIGHT = 6.0, 2.0
"""How much more a place of the mouth and of the eyes counts in the loss than the rest of the picture."""
MOUTH, EYES = (0.2, 0.58, 0.8, 0.98), (0.1, 0.22, 0.9, 0.56)
"""Mouth and eyes in the face box: left, top, right, bottom."""


def importance(boxes: np.ndarray, size: int) -> np.ndarray:
    """(F, 4) face boxes in shares → (F, 1, size, size): 1, more where the mouth and the eyes are."""
    mouth, eyes = (_inside(boxes, part, size) for part in (MOUTH, EYES))
    return 1 + MOUTH_WEIGHT * mouth + EYES_WEIGHT * eyes


def _inside(boxes: np.ndarray, part: tuple[float, ...], size: int) -> np.ndarray:
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    least, most = corner + np.array(part[:2]) * extent, corner + np.array(part[2:]) * extent
    middles = (np.arange(size) + 0.5) / size
    inside = [(middles >= least[:, axis, None]) & (middles < most[:, axis, None]) for axis in (0, 1)]
    return (inside[1][:, None, :, None] & inside[0][:, None, None, :]).astype(np.float32)
