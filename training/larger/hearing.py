"""The audio encoder with less sound to come: it says now what it said of a window that goes on for longer.

The length of what it hears behind a clip decides how long a live face waits. The frames close to the end are the ones
that change; the rest stays.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emo_rt.export.networks.audio import AudioEncoder
from emo_rt.export.presets import preset
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of
from training.borrowed.hearing import disturb
from training.corpus import Recording, available, clip_path
from training.larger.base import base, config
from training.larger.kept import started
from training.larger.loop import train

VOICES = "voices"
"""Folder of sound-only clips."""
SOUNDS = 6
"""Of one step."""
HELD_OUT = 24
"""Clips that only measure."""


def train_hearing(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Until the budget is used; leaves ``hearing.pt`` and ``hearing.jsonl``."""
    teacher = base(folder).audio_encoder
    pupil = started(copy.deepcopy(teacher), "hearing")
    seeds = available(folder / VOICES)
    sounds = [torch.from_numpy(_waveform(folder, seed)) for seed in seeds]
    unseen = torch.stack([_window(sound, np.random.default_rng(0)) for sound in sounds[:HELD_OUT]])
    scale = states(teacher, unseen, longer()).std(dim=(0, 1, 3), keepdim=True)

    def error_of(heard: Tensor) -> Tensor:
        return (states(pupil, heard, shorter()) - states(teacher, heard, longer())) / scale

    def step(share: float, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = rng.integers(HELD_OUT, len(sounds), SOUNDS)
        error = error_of(disturb(torch.stack([_window(sounds[index], rng) for index in chosen]), 0.3))
        total = error.square().mean() + error.abs().mean()
        total.backward()
        return {"total": total}

    def look() -> dict[str, float]:
        with torch.no_grad():
            error = error_of(unseen).square().mean(dim=(0, 2, 3)).sqrt()
        return {"error": float(error.square().mean().sqrt()), "last": float(error[-1]), "first": float(error[0])}

    train(folder, "hearing", pupil, seconds, step, look, now)


def longer() -> int:
    """Frames that the teacher hears."""
    return _heard(preset("demo128"))


def shorter() -> int:
    """Frames that the pupil hears."""
    return _heard(config())


def samples(frames: int) -> int:
    """At 16 kHz."""
    return frames * AUDIO_SAMPLE_RATE // config().fps


def states(encoder: AudioEncoder, sounds: Tensor, frames: int) -> Tensor:
    """(B, samples), of which so many frames are heard → (B, wanted frames, layers, hidden)."""
    audio = config().audio
    wanted = config().frames + 2 * audio.context_frames
    hidden: Tensor = encoder.hidden_states(sounds[:, : samples(frames)])
    return hidden[:, audio.left_context_frames : audio.left_context_frames + wanted]


def _heard(model: ModelConfig) -> int:
    return family_of(model).hearing.length


def _waveform(folder: Path, seed: int) -> np.ndarray:
    return Recording.load(clip_path(folder / VOICES, seed), ("waveform",)).waveform


def _window(sound: Tensor, rng: np.random.Generator) -> Tensor:
    """A stretch as long as the teacher hears, from up to a second before the sound to as much behind it."""
    length, room = samples(longer()), samples(config().fps)
    start = int(rng.integers(-room, max(len(sound) - length + room, 1 - room)))
    stretch = torch.zeros(length)
    first, last = max(start, 0), min(start + length, len(sound))
    if last > first:
        stretch[first - start : last - start] = sound[first:last]
    return stretch
