"""Stage 0b: the audio encoder learns to hear, by naming the phoneme of every video frame.

Beside the phoneme it tells the lips' opening, width and rounding: closer to what its hidden states are for. It hears
windows of the length that the runtime gives it, with noise, rooms, tone colours and other sizes of voices mixed in:
synthetic voices are all it has, and it shall understand real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emo_rt.export.networks.audio import AudioEncoder
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import AudioConfig
from training.corpus import Recording, available, clip_path, record
from training.disturb import disturb
from training.loop import Loss, Stage
from training.world import Clip
from training.world.visemes import PHONEME_IDS

STAGE = Stage("hearing", steps=10000, learning_rate=8e-4, warmup=200, ema=0.999)
BATCH = 16
LIP_WEIGHT = 4.0
CLASSES = max(PHONEME_IDS.values()) + 1


class Hearing(nn.Module):
    """The encoder and two heads that are thrown away afterwards."""

    def __init__(self, encoder: AudioEncoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.phonemes = nn.Linear(width, CLASSES)
        self.lips = nn.Linear(width, 3)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples) → phoneme logits (B, frames, classes) and lips (B, frames, 3)."""
        hidden = self.encoder.hidden_states(waveform)[:, :, -1]
        return self.phonemes(hidden), self.lips(hidden)


class Voices:
    """Sound and labels in memory."""

    def __init__(self, clips: Sequence[Recording]) -> None:
        self.clips = clips

    @classmethod
    def load(cls, *folders: Path) -> Voices:
        """What lies in some folders."""
        paths = [clip_path(folder, seed) for folder in folders for seed in available(folder)]
        return cls([Recording.load(path, ("waveform", "phonemes", "lips")) for path in paths])

    @classmethod
    def unseen(cls, count: int = 150, seconds: float = 3.0) -> Voices:
        """Voices and words of the test split; the quality benchmark's own (seeds from 0 on) are not among them."""
        clips = (Clip.sample(10_000 + index, seconds, split="test") for index in range(count))
        return cls([record(clip, 0, sound_only=True) for clip in clips])

    def draw(self, rng: np.random.Generator, frames: int, fps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(samples,) sound, (frames,) phonemes, (frames, 3) lips of a random window, spoken faster or slower."""
        clip = self.clips[rng.integers(len(self.clips))]
        pace = float(np.exp(rng.uniform(-0.18, 0.18))) if rng.random() < 0.6 else 1.0
        start = rng.uniform(-frames / 2, max(1.0, len(clip.phonemes) - frames / 2))
        times = start + pace * np.arange(frames)
        rows = np.round(times).astype(int)
        inside = (rows >= 0) & (rows < len(clip.phonemes))
        rows = rows.clip(0, len(clip.phonemes) - 1)
        samples = frames * AUDIO_SAMPLE_RATE // fps
        places = (start - 0.5) * AUDIO_SAMPLE_RATE / fps + pace * np.arange(samples)
        places += 0.5 * AUDIO_SAMPLE_RATE / fps
        sound = np.interp(places, np.arange(len(clip.waveform)), clip.waveform, left=0, right=0)
        silent = np.array([0, 0.5, 0], np.float32)
        lips = np.where(inside[:, None], clip.lips[rows], silent)
        return sound.astype(np.float32), np.where(inside, clip.phonemes[rows], 0), lips


def hearing_loss(hearing: Hearing, voices: Voices, config: AudioConfig, fps: int, device: str) -> Loss:
    """What the stage minimises."""
    frames = config.left_context_frames + config.window_frames + config.right_context_frames

    def loss(rng: np.random.Generator) -> dict[str, Tensor]:
        drawn = [voices.draw(rng, frames, fps) for _ in range(BATCH)]
        sound = np.stack([disturb(s, rng) if rng.random() < 0.8 else s for s, _, _ in drawn])
        phonemes = torch.from_numpy(np.stack([p for _, p, _ in drawn])).to(device)
        lips = torch.from_numpy(np.stack([lip for _, _, lip in drawn]).astype(np.float32)).to(device)
        logits, told = hearing(torch.from_numpy(sound).to(device))
        phoneme = functional.cross_entropy(logits.flatten(0, 1), phonemes.flatten(), label_smoothing=0.05)
        lip = functional.l1_loss(told, lips)
        return {"total": phoneme + LIP_WEIGHT * lip, "phoneme": phoneme, "lips": lip}

    return loss


@torch.no_grad()
def score(hearing: Hearing, voices: Voices, config: AudioConfig, fps: int, device: str) -> dict[str, float]:
    """On undisturbed windows: share of right phonemes, correlation of the told opening with the true one."""
    rng = np.random.default_rng(3)
    frames = config.left_context_frames + config.window_frames + config.right_context_frames
    kept = slice(config.left_context_frames, config.left_context_frames + config.window_frames)
    right, told, true = [], [], []
    for _ in range(32):
        drawn = [voices.draw(rng, frames, fps) for _ in range(BATCH)]
        logits, lips = hearing(torch.from_numpy(np.stack([s for s, _, _ in drawn])).to(device))
        right.append(logits.argmax(-1)[:, kept].cpu().numpy() == np.stack([p for _, p, _ in drawn])[:, kept])
        told.append(lips[:, kept, 0].cpu().numpy().ravel())
        true.append(np.stack([lip[kept, 0] for _, _, lip in drawn]).ravel())
    correlation = np.corrcoef(np.concatenate(told), np.concatenate(true))[0, 1]
    return {"phoneme_accuracy": float(np.mean(right)), "opening_correlation": float(correlation)}
