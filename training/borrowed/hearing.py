"""Stage 0b: the audio encoder, with sounds, labels and disturbances on the device."""

from __future__ import annotations

import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emo_rt.export.networks.model import build_model
from emo_rt.export.presets import preset
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import AudioConfig
from training.borrowed import PRESET
from training.borrowed.clock import Clock, Log, Trainer, wait_for
from training.corpus import Recording, available, clip_path
from training.hearing import LIP_WEIGHT, Hearing
from training.stages import save_parts


class Voices:
    """Sounds and labels of a folder on the device, all of the same length."""

    def __init__(self, folder: Path, device: str, fps: int) -> None:
        self._folder, self._device, self._seen = folder, device, set[int]()
        self.per_frame = AUDIO_SAMPLE_RATE // fps
        self._lists: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
        self.more()

    def more(self) -> int:
        """Load what is new; gives back how many clips there are."""
        new = [seed for seed in available(self._folder) if seed not in self._seen] if self._folder.exists() else []
        for seed in new:
            try:
                clip = Recording.load(clip_path(self._folder, seed), ("waveform", "phonemes", "lips"))
            except (OSError, ValueError, zipfile.BadZipFile):
                continue
            self._seen.add(seed)
            for kept, values in zip(self._lists, (clip.waveform, clip.phonemes, clip.lips), strict=True):
                kept.append(values)
        if new and self._lists[0]:
            frames = min(len(phonemes) for phonemes in self._lists[1])
            cut = (frames * self.per_frame, frames, frames)
            stacked = [np.stack([v[:n] for v in values]) for values, n in zip(self._lists, cut, strict=True)]
            self.sounds, self.phonemes, self.lips = (torch.from_numpy(v).to(self._device) for v in stacked)
        return len(self._lists[0])

    def draw(self, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Windows, spoken faster or slower: (B, samples), phonemes (B, frames), lips (B, frames, 3)."""
        device, length = self._device, self.phonemes.shape[1]
        clip = torch.randint(len(self.sounds), (batch, 1), device=device)
        pace = torch.exp(0.6 * torch.rand(batch, 1, device=device) - 0.3)
        pace = torch.where(torch.rand(batch, 1, device=device) < 0.6, pace, torch.ones_like(pace))
        start = torch.rand(batch, 1, device=device) * length - frames / 2
        times = start + pace * torch.arange(frames, device=device)
        rows = times.round().long()
        inside = (rows >= 0) & (rows < length)
        rows = rows.clamp(0, length - 1)
        places = start * self.per_frame + pace * torch.arange(frames * self.per_frame, device=device)
        silent = torch.tensor([0.0, 0.5, 0.0], device=device)
        lips = torch.where(inside[..., None], self.lips[clip, rows], silent)
        phonemes = torch.where(inside, self.phonemes[clip, rows], torch.zeros_like(rows))
        return self._between(clip, places), phonemes, lips

    def _between(self, clip: Tensor, places: Tensor) -> Tensor:
        last = self.sounds.shape[1] - 1
        below = places.floor().long()
        share = places - below
        heard = (places >= 0) & (places <= last)
        low, high = (self.sounds[clip, (below + step).clamp(0, last)] for step in (0, 1))
        return torch.where(heard, low + share * (high - low), torch.zeros_like(low))


def disturb(sounds: Tensor, untouched: float = 0.15) -> Tensor:
    """Another tone colour, band, room, noise at 5 to 45 dB and level, each drawn per sound: (B, samples) → the same."""
    batch, samples = sounds.shape
    device, length = sounds.device, 2 * samples
    spectrum = torch.fft.rfft(sounds.float(), length)
    bins = torch.linspace(0, 1, spectrum.shape[1], device=device)
    colour = torch.exp(0.6 * torch.randn(batch, 1, 9, device=device))
    places = (2 * bins**0.5 - 1).expand(batch, 1, -1)
    grid = torch.stack([places, torch.zeros_like(places)], dim=-1)
    spectrum = spectrum * F.grid_sample(colour[:, :, None], grid, align_corners=True)[:, 0, 0]
    spectrum = spectrum * _band(bins, batch) * torch.fft.rfft(_rooms(batch, device), length)
    changed = torch.fft.irfft(spectrum, length)[:, :samples]
    changed = changed + _noise(batch, samples, device) * (changed.square().mean(1, keepdim=True).sqrt() + 1e-5)
    loud = 10 ** ((24 * torch.rand(batch, 1, device=device) - 15) / 20)
    kept = torch.rand(batch, 1, device=device) < untouched
    return torch.where(kept, sounds, (changed * loud).clamp(-1, 1))


def _band(bins: Tensor, batch: int) -> Tensor:
    """A telephone's or a small loudspeaker's band for four in ten, (B, bins)."""
    low, high = 0.06 * torch.rand(batch, 1, device=bins.device), 0.4 + 0.6 * torch.rand(batch, 1, device=bins.device)
    narrow = torch.sigmoid((bins - low) / 0.008) * torch.sigmoid((high - bins) / 0.02)
    return torch.where(torch.rand(batch, 1, device=bins.device) < 0.4, narrow, torch.ones_like(narrow))


def _rooms(batch: int, device: torch.device) -> Tensor:
    """Impulse responses: the direct sound, and for half of them a decaying tail of 30 to 350 ms, (B, 5600)."""
    length = 5600
    decay = (0.03 + 0.32 * torch.rand(batch, 1, device=device)) * AUDIO_SAMPLE_RATE
    tail = torch.randn(batch, length, device=device) * torch.exp(-5 * torch.arange(length, device=device) / decay)
    strength = (0.1 + 0.7 * torch.rand(batch, 1, device=device)) * (torch.rand(batch, 1, device=device) < 0.5)
    tail = tail * strength / tail.square().sum(1, keepdim=True).sqrt()
    tail[:, 0] = 1
    return tail


def _noise(batch: int, samples: int, device: torch.device) -> Tensor:
    """Noise from white to brown, 5 to 45 dB below a level of 1, (B, samples)."""
    spectrum = torch.fft.rfft(torch.randn(batch, samples, device=device))
    slope = 0.8 * torch.rand(batch, 1, device=device)
    noise = torch.fft.irfft(spectrum / (1 + torch.arange(spectrum.shape[1], device=device)) ** slope, samples)
    level = 10 ** (-(5 + 40 * torch.rand(batch, 1, device=device)) / 20)
    return noise * level / (noise.std(1, keepdim=True) + 1e-9)


def train(folder: Path, device: str, seconds: float, batch: int, enough: int) -> None:
    """Until the budget is used; leaves ``hearing.weights.pt``. Begins with ``hearing.init.pt``, if that
    is in the folder."""
    log = Log(folder, "hearing")
    model = build_model(preset(PRESET))
    config = model.config.audio
    if (folder / "hearing.init.pt").exists():
        model.load_state_dict(torch.load(folder / "hearing.init.pt", weights_only=True), strict=False)
    hearing = Hearing(model.audio_encoder, config.encoder.hidden_size).to(device).requires_grad_(True)
    trainer = Trainer(folder / "hearing.pt", list(hearing.parameters()), 8e-4)
    voices = Voices(folder / "corpus", device, model.config.fps)
    wait_for(lambda: voices.more() >= enough, "voices")
    clock, saved, unseen = Clock(seconds, trainer.used), time.monotonic(), None
    frames = config.left_context_frames + config.window_frames + config.right_context_frames
    while clock.share < 1:
        sounds, phonemes, lips = voices.draw(batch, frames)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits, told = hearing(disturb(sounds))
        phoneme = F.cross_entropy(logits.float().flatten(0, 1), phonemes.flatten(), label_smoothing=0.05)
        lip = F.l1_loss(told.float(), lips)
        trainer.forget()
        (phoneme + LIP_WEIGHT * lip).backward()
        norm = trainer.update(clock.share)
        if trainer.step % 100 == 0:
            log(step=trainer.step, share=clock.share, phoneme=phoneme.detach(), lips=lip.detach(), gradient=norm)
        if time.monotonic() - saved > 20 or clock.share >= 1:
            voices.more()
            if unseen is None and available(folder / "unseen"):
                unseen = Voices(folder / "unseen", device, model.config.fps)
            trainer.save(clock.used)
            both = partial(_both, hearing, unseen or voices, config)
            log(step=trainer.step, voices=len(voices.sounds), **trainer.averaged(both))
            saved = time.monotonic()
    trainer.use_average()
    log(final=True, steps=trainer.step, **_both(hearing, unseen or voices, config))
    save_parts(model, folder, "hearing")


def _both(hearing: Hearing, voices: Voices, config: AudioConfig) -> dict[str, float]:
    clean, noisy = score(hearing, voices, config, False), score(hearing, voices, config, True)
    return {**clean, **{f"disturbed_{key}": value for key, value in noisy.items()}}


@torch.no_grad()
def score(hearing: Hearing, voices: Voices, config: AudioConfig, disturbed: bool) -> dict[str, float]:
    """Share of right phonemes; correlation of the told opening with the true one."""
    frames = config.left_context_frames + config.window_frames + config.right_context_frames
    kept = slice(config.left_context_frames, config.left_context_frames + config.window_frames)
    sounds, phonemes, lips = voices.draw(256, frames)
    logits, told = hearing(disturb(sounds, 0.0) if disturbed else sounds)
    right = (logits[:, kept].argmax(-1) == phonemes[:, kept]).float().mean()
    pair = torch.stack([told[:, kept, 0].flatten().float(), lips[:, kept, 0].flatten()])
    return {"phoneme_accuracy": float(right), "opening_correlation": float(torch.corrcoef(pair)[0, 1])}
