"""The corpus as the network sees it, on the device: latents, hidden states, boxes; and batches of clips from it."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.vae import encode
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of
from training.borrowed.hearing import disturb
from training.borrowed.pictures import to_unit
from training.corpus import Recording, available, clip_path
from training.encoded import EYES, EYES_WEIGHT, MOUTH, MOUTH_WEIGHT
from training.masks import FITS, FREE, LOOSE

NAMES = ("frames", "waveform", "face_box", "speed", "lips")
DISTURBED = 3
"""Disturbed sounds of every clip, beside the clean one."""


class Reels:
    """Clips of a folder on the device, followed by a thread while they are drawn."""

    def __init__(self, folder: Path, device: str, limit: int) -> None:
        self._folder, self._device, self._limit = folder, device, limit
        self.clips: dict[int, dict[str, Tensor]] = {}
        self._has_all, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take all that is there now, and stop: a run that goes on finds a whole corpus, and reading it takes time."""
        self._has_all.wait()
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            while not self._stopped.is_set() and len(self.clips) < self._limit:
                there = available(self._folder) if self._folder.exists() else []
                new = [seed for seed in there if seed not in self.clips][: min(32, self._limit - len(self.clips))]
                before = len(self.clips)
                for seed, clip in zip(new, pool.map(self._load, new), strict=True):
                    if clip is not None:
                        self.clips[seed] = clip
                if len(self.clips) == before:
                    self._has_all.set()
                    time.sleep(0.3)
            self._has_all.set()

    def _load(self, seed: int) -> dict[str, Tensor] | None:
        try:
            clip = Recording.load(clip_path(self._folder, seed), NAMES)
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        arrays = {name: torch.from_numpy(np.ascontiguousarray(getattr(clip, name))) for name in NAMES}
        loaded = {name: array.to(self._device) for name, array in arrays.items()}
        if self._device == "cuda":
            torch.cuda.current_stream().synchronize()
        return loaded


@dataclass(frozen=True, eq=False)
class Place:
    """Which clips a batch has: B of them."""

    clip: Tensor
    """(B,) int64."""
    first: Tensor
    """(B,) int64: first frame in the clip."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B clips as a run would have them, and what they should become."""

    latents: Tensor
    """(B, F, C, S, S) the truth."""
    motion: Tensor
    """(B, N, C, S, S) what came before; where nothing did, the reference."""
    reference: Tensor
    """(B, C, S, S) another moment of the same person."""
    windows: Tensor
    """(B, F, 2m+1, layers, hidden)."""
    mask: Tensor
    """(B, 1, size, size) where the face may be."""
    speed: Tensor
    """(B,) mean head speed of these frames."""
    weight: Tensor
    """(B, F, 1, S, S) importance of each place for the loss."""
    keep: Tensor
    """(B, 3) 1 or 0: whether reference, voice and speed are told."""

    def copy_from(self, other: Batch) -> None:
        """Take over values: buffers that a recorded graph reads."""
        for part in fields(self):
            getattr(self, part.name).copy_(getattr(other, part.name))

    def clone(self) -> Batch:
        """Buffers of its own."""
        return Batch(*(getattr(self, part.name).clone() for part in fields(self)))


class Footage:
    """All clips, encoded, flat on the device."""

    def __init__(self, model: EmoModel, clips: list[dict[str, Tensor]], disturbed: int = DISTURBED) -> None:
        self.config: ModelConfig = model.config
        self.device = next(model.parameters()).device
        lengths = [len(clip["frames"]) for clip in clips]
        self.lengths = torch.tensor(lengths, device=self.device)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.box = torch.cat([clip["face_box"] for clip in clips]).float()
        self.speed = torch.cat([clip["speed"] for clip in clips]).float()
        self.lips = torch.cat([clip["lips"] for clip in clips]).float()
        self.least = torch.stack([clip["face_box"][:, :2].amin(0) for clip in clips]).float()
        self.most = torch.stack([clip["face_box"][:, 2:].amax(0) for clip in clips]).float()
        middles = [(clip["face_box"][:, :2] + clip["face_box"][:, 2:]).float() / 2 for clip in clips]
        self.travel = torch.stack([(m.amax(0) - m.amin(0)).max() for m in middles])
        self.latents = torch.cat([see(model, clip["frames"]) for clip in clips])
        self.hidden = torch.cat([hear(model, group, disturbed) for group in _alike(clips)], dim=1)

    def places(self, batch: int) -> Place:
        """Anywhere; one in ten at the start of a clip."""
        clip = torch.randint(len(self.lengths), (batch,), device=self.device)
        room = self.lengths[clip] - self.config.frames
        first = (torch.rand(batch, device=self.device) * (room + 1)).long().clamp_max(room)
        return Place(clip, torch.where(torch.rand(batch, device=self.device) < 0.1, torch.zeros_like(first), first))

    def following(self, place: Place) -> tuple[Place, Tensor]:
        """The clips right after, and (B,) whether they are still there; where not, the same place again."""
        first = place.first + self.config.frames
        there = first + self.config.frames <= self.lengths[place.clip]
        return Place(place.clip, torch.where(there, first, place.first)), there

    def batch(self, place: Place, drop: bool = True, plain: bool = False) -> Batch:
        """``drop``: leave out portrait, voice or both sometimes, for guidance. ``plain``: as a run has it, nothing
        disturbed: the first frame as portrait, the box's mask with the margin of the configuration."""
        config, device, count = self.config, self.device, len(place.clip)
        f = config.frames
        start, length = self.starts[place.clip], self.lengths[place.clip]
        rows = (start + place.first)[:, None] + torch.arange(f, device=device)
        chosen = torch.rand(count, device=device) * length
        reference = self.latents[start + (torch.zeros_like(start) if plain else chosen.long())].float()
        return Batch(
            latents=self.latents[rows].float(),
            motion=self._motion(place, reference, plain),
            reference=reference,
            windows=self._windows(rows, start, length, plain),
            mask=self._mask(place, start, plain),
            speed=self.speed[rows].mean(1),
            weight=importance(self.box[rows], config.latent_size),
            keep=kept(count, device) if drop else torch.ones(count, 3, device=device),
        )

    def _motion(self, place: Place, reference: Tensor, plain: bool) -> Tensor:
        """True frames before, some standing still, most a little wrong; nothing came before one clip in five."""
        n, count, device = self.config.motion_frames, len(place.clip), self.device
        steps = torch.arange(-n, 0, device=device).expand(count, -1)
        chance = torch.rand(4, count, 1, device=device)
        if not plain:
            steps = torch.where(chance[0] < 0.3, -torch.ones_like(steps), steps)
        rows = (self.starts[place.clip] + place.first)[:, None] + steps
        true = self.latents[rows.clamp_min(0)].float()
        if not plain:
            wrong = 0.2 * chance[1] * (chance[2] < 0.7)
            true = true + wrong[..., None, None, None] * torch.randn_like(true)
        nothing = place.first < n
        if not plain:
            nothing = nothing | (chance[3, :, 0] < 0.15)
        return torch.where(nothing[:, None, None, None, None], reference[:, None], true)

    def _windows(self, rows: Tensor, start: Tensor, length: Tensor, plain: bool) -> Tensor:
        reach = self.config.audio.context_frames
        around = rows[..., None] + torch.arange(-reach, reach + 1, device=self.device)
        around = torch.minimum(torch.maximum(around, start[:, None, None]), (start + length - 1)[:, None, None])
        version = torch.randint(len(self.hidden), (len(rows),), device=self.device)
        version = torch.where(torch.rand(len(rows), device=self.device) < 0.4, torch.zeros_like(version), version)
        if plain:
            version = torch.zeros_like(version)
        return self.hidden[version[:, None, None], around].float()

    def _mask(self, place: Place, start: Tensor, plain: bool) -> Tensor:
        """The union of the clip's face boxes, drawn as :func:`training.masks.draw_mask` does it."""
        count, device, size = len(start), self.device, self.config.size
        least, most = self.least[place.clip], self.most[place.clip]
        if plain:
            box = self.box[start]
            slack = self.config.locator.margin * (box[:, 2:] - box[:, :2])
            least, most = box[:, :2] - slack, box[:, 2:] + slack
            white = torch.zeros(count, 1, dtype=torch.bool, device=device)
        else:
            chance = torch.rand(2, count, 1, device=device)
            slack = (0.11 * torch.rand(count, 2, device=device) - 0.03) * (most - least) * (chance[0] >= FITS)
            least, most = least - slack, most + slack
            free = torch.where(self.travel[place.clip, None] >= FREE, 0.8, 0.25)
            white = (chance[0] >= FITS + LOOSE) & (chance[1] < free)
        middles = (torch.arange(size, device=device) + 0.5) / size
        inside = [(middles >= least[:, axis, None]) & (middles < most[:, axis, None]) | white for axis in (0, 1)]
        return (inside[1][:, None, :, None] & inside[0][:, None, None, :]).float()


def kept(count: int, device: torch.device) -> Tensor:
    """Portrait left out 3 times in 100, voice 5, both and the speed 8."""
    chance = torch.rand(count, device=device)
    both = chance > 0.92
    reference, voice = (chance < 0.03) | both, ((chance >= 0.03) & (chance < 0.08)) | both
    return torch.stack([~reference, ~voice, ~both], dim=1).float()


@torch.no_grad()
def see(model: EmoModel, frames: Tensor) -> Tensor:
    """(T, size, size, 3) uint8 → latents (T, C, S, S) float16."""
    return torch.cat([encode(model.vae, to_unit(part)).half() for part in frames.split(128)])


def _alike(clips: list[dict[str, Tensor]], most: int = 16) -> Iterator[list[dict[str, Tensor]]]:
    """Clips in order, in groups of the same length."""
    for _, same in groupby(clips, key=lambda clip: (len(clip["waveform"]), len(clip["frames"]))):
        rest = list(same)
        yield from (rest[first : first + most] for first in range(0, len(rest), most))


@torch.no_grad()
def hear(model: EmoModel, clips: list[dict[str, Tensor]], disturbed: int) -> Tensor:
    """Clips of the same length → (1 + disturbed, all frames, layers, hidden) float16: clean first, of each frame what
    its own clip hears in :mod:`emo_rt.runtime.clips`."""
    config, per_frame = model.config, AUDIO_SAMPLE_RATE // model.config.fps
    clean, frames = torch.stack([clip["waveform"] for clip in clips]).float(), len(clips[0]["frames"])
    sounds = torch.cat([clean, *(disturb(clean, 0.0) for _ in range(disturbed))])
    count, heard = -(-frames // config.frames), family_of(config).hearing.length
    first = config.audio.left_context_frames + config.audio.context_frames
    after = ((count - 1) * config.frames + heard - first) * per_frame - sounds.shape[1]
    padded = torch.nn.functional.pad(sounds, (first * per_frame, max(after, 0)))
    windows = padded.unfold(1, heard * per_frame, config.frames * per_frame)[:, :count]
    states = model.audio_encoder.hidden_states(windows.flatten(0, 1))
    kept = states[:, first : first + config.frames]
    rows = kept.reshape(len(sounds), -1, *kept.shape[2:])[:, :frames]  # one row per sound
    return rows.reshape(1 + disturbed, -1, *rows.shape[2:]).half()


def importance(boxes: Tensor, size: int) -> Tensor:
    """(B, F, 4) face boxes in shares → (B, F, 1, size, size): 1, more where the mouth and the eyes are."""
    mouth, eyes = (_inside(boxes, part, size) for part in (MOUTH, EYES))
    return 1 + MOUTH_WEIGHT * mouth + EYES_WEIGHT * eyes


def _inside(boxes: Tensor, part: tuple[float, ...], size: int) -> Tensor:
    corner, extent = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    share = torch.tensor(part, device=boxes.device)
    least, most = corner + share[:2] * extent, corner + share[2:] * extent
    middles = (torch.arange(size, device=boxes.device) + 0.5) / size
    inside = [(middles >= least[..., axis, None]) & (middles < most[..., axis, None]) for axis in (0, 1)]
    return (inside[1][..., None, :, None] & inside[0][..., None, None, :]).float()


def with_motion(batch: Batch, motion: Tensor, where: Tensor) -> Batch:
    """The same with other motion frames (B, N, C, S, S) where ``where`` (B,) is true."""
    return replace(batch, motion=torch.where(where[:, None, None, None, None], motion.float(), batch.motion))
