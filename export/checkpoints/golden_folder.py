"""A golden folder: a small checkpoint and what the original code computed with it, step by step.

``net.pth`` or ``net.safetensors``, ``vae.safetensors``, ``wav2vec.safetensors``, ``config.json`` (see
:mod:`emo_rt.export.checkpoints.hallo_config`) and ``vectors.safetensors``, whose tensors :func:`layout` lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emo_rt.errors import CheckpointError
from emo_rt.export.checkpoints.hallo import HalloFiles, import_hallo
from emo_rt.export.checkpoints.hallo_config import check_widths, number, read_config, settings_of, whole
from emo_rt.export.checkpoints.tensors import listed, read_tensors
from emo_rt.export.networks.model import EmoModel
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import AUDIO_REGIONS, sites

Array = NDArray[Any]

VECTORS = "vectors.safetensors"
REQUIRED = ("size", "frames", "motion_frames", "attention_heads", "steps", "clips", "cfg", "motion_scale", "scheduler",
            "vae", "wav2vec")  # fmt: skip
"""Entries that ``config.json`` of a golden folder must have."""

RANGES = {"in.region": (0.0, 1.0), "in.source": (-1.0, 1.0), "in.full_mask": (0.0, 1.0), "in.face_mask": (0.0, 1.0),
          "in.lip_mask": (0.0, 1.0), ".frames": (0.0, 1.0), ".ref_pixels": (-1.0, 1.0)}  # fmt: skip
"""Where the values of pictures and masks lie; a hair more is rounding."""

ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Golden:
    """A golden folder, read and checked."""

    model: EmoModel
    """Its checkpoint, fp32."""
    tensors: dict[str, Array]
    """``vectors.safetensors``, fp32."""
    steps: int
    """DDIM steps per clip."""
    clips: int
    """Clips, each of which starts from the end of the one before."""
    guidance: float
    """Guidance scale; 1 and less: the original ran without."""
    motion_scale: tuple[float, ...]
    """Weights of pose, face and lips."""

    @property
    def guided(self) -> bool:
        """Whether the original ran the unconditional half; it does for scales above 1."""
        return self.guidance > 1

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        return self.model.config

    def latents(self, name: str) -> Array:
        """(halves, 4, F, S, S) as stored → (halves, F, 4, S, S)."""
        return np.ascontiguousarray(self.tensors[name].transpose(0, 2, 1, 3, 4))

    def frames(self, clip: int) -> Array:
        """Frames of a clip, (F, 3, size, size) in 0 … 1."""
        return np.ascontiguousarray(self.tensors[f"clip{clip}.frames"][0].transpose(1, 0, 2, 3))

    def masks(self) -> dict[str, Array]:
        """``step``'s masks by name: (3, h·w) each."""
        levels = _levels(self.config)
        rows = {level: [self.tensors[f"in.{region}_mask.{level}"] for region in AUDIO_REGIONS] for level in levels}
        return {f"audio_mask.{level}": np.concatenate(parts) for level, parts in rows.items()}


def read_golden(folder: Path) -> Golden:
    """Import the checkpoint and read the vectors.

    Raises :class:`CheckpointError` when a file is missing, weights, settings and vectors do not fit each other, or
    ``vectors.safetensors`` has not exactly the tensors and shapes that follow from the settings.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}")
    where = str(folder / "config.json")
    config = read_config(folder / "config.json")
    missing = [name for name in REQUIRED if name not in config]
    if missing:
        raise CheckpointError(f"{where} lacks {', '.join(missing)}")
    counts = {name: whole(config, name, where) for name in ("steps", "clips")}
    if min(counts.values()) < 1:
        raise CheckpointError(f"{where}: steps and clips are {counts}; expected 1 or more")
    guidance, scale = number(config, "cfg", where), _motion_scale(config, where)
    model = import_hallo(HalloFiles.find(folder), settings_of(config, where))
    check_widths(config, model.config, where)
    tensors = read_tensors(folder / VECTORS)
    golden = Golden(model, {}, counts["steps"], counts["clips"], guidance, scale)
    _check_layout(tensors, golden, folder / VECTORS)
    golden.tensors.update({name: tensor.float().numpy() for name, tensor in tensors.items()})
    return golden


def layout(golden: Golden, samples: int) -> dict[str, tuple[int, ...]]:
    """Every tensor that the vectors must have, with its shape; ``samples``: length of the waveform."""
    config, latent = golden.config, golden.config.latent_size
    encoder, audio, size, frames = config.audio.encoder, config.audio, config.size, config.frames
    heard = -(-samples * config.fps // AUDIO_SAMPLE_RATE)
    shapes: dict[str, tuple[int, ...]] = {
        "in.wave": (1, samples),
        "in.source": (3, size, size),
        "in.region": (config.locator.in_channels, size, size),
        "in.face_emb": (1, config.reference.face_embedding_dim),
        "audio.hidden": (heard, encoder.num_hidden_layers, encoder.hidden_size),
    }
    for level, pixels in _levels(config).items():
        shapes |= {f"in.{region}_mask.{level}": (1, pixels) for region in AUDIO_REGIONS}
    latents = (config.vae.latent_channels, frames, latent, latent)
    for clip in range(golden.clips):
        shapes[f"clip{clip}.audio_tokens"] = (1, frames, audio.tokens, audio.token_dim)
        shapes[f"clip{clip}.frames"] = (1, 3, frames, size, size)
        shapes[f"clip{clip}.noise"] = (1, *latents)
        shapes[f"clip{clip}.ref_pixels"] = (1, 1 + config.motion_frames, 3, size, size)
        for step in range(golden.steps):
            shapes[f"clip{clip}.step{step}.latents"] = (1, *latents)
            shapes[f"clip{clip}.step{step}.pred"] = (1 + golden.guided, *latents)
    return shapes


def reference_layout(golden: Golden) -> dict[str, tuple[int, ...]]:
    """Optional tensors: the ReferenceNet's features by clip and attention site, for its whole batch (halves, pictures).

    ``clipK.reference.<site>``: (halves · (1 + motion frames), h·w, C), sites named as in :mod:`emo_rt.model.contract`.
    """
    config, rows = golden.config, (1 + golden.guided) * (1 + golden.config.motion_frames)
    return {
        f"clip{clip}.reference.{site.name}": (rows, (config.latent_size >> site.level) ** 2, site.channels)
        for clip in range(golden.clips)
        for site in sites(config.unet)
        if site.attention
    }


def _levels(config: ModelConfig) -> dict[int, int]:
    """Resolution levels that the audio attention has, and their pixels."""
    levels = sorted({site.level for site in sites(config.unet) if site.attention})
    return {level: (config.latent_size >> level) ** 2 for level in levels}


def _motion_scale(config: dict[str, Any], where: str) -> tuple[float, ...]:
    values = config["motion_scale"]
    if not isinstance(values, list) or len(values) != len(AUDIO_REGIONS):
        raise CheckpointError(f"{where}: motion_scale is {values!r}; expected three numbers: pose, face, lips")
    return tuple(number({"motion_scale": value}, "motion_scale", where) for value in values)


def _check_layout(tensors: dict[str, Tensor], golden: Golden, path: Path) -> None:
    wave = tensors.get("in.wave", torch.zeros(1, 0))
    samples = wave.shape[-1] if wave.dim() else 0
    wanted, optional = layout(golden, samples), reference_layout(golden)
    missing = [name for name in wanted if name not in tensors]
    unknown = sorted(name for name in tensors if name not in wanted and name not in optional)
    shapes = {**wanted, **optional}
    known = {name: tensor for name, tensor in tensors.items() if name in shapes}
    wrong = [f"{name} is {list(tensor.shape)}, expected {list(shapes[name])}" for name, tensor in known.items()
             if tuple(tensor.shape) != shapes[name]]  # fmt: skip
    types = [f"{name} is {tensor.dtype}" for name, tensor in known.items() if not tensor.is_floating_point()]
    broken = [name for name, tensor in known.items() if not bool(torch.isfinite(tensor).all())]
    beyond = [name for name, tensor in known.items() if _is_beyond(name, tensor)]
    problems = {"missing": missing, "not known": unknown, "wrong shape": wrong, "no floats": types,
                "NaN or infinite": broken, "outside their range": beyond}  # fmt: skip
    found = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{path} does not fit the folder's config.json and weights. " + "; ".join(found))
    needed = golden.clips * golden.config.frames
    if shapes["audio.hidden"][0] < needed:
        heard = shapes["audio.hidden"][0]
        raise CheckpointError(f"{path}: in.wave lasts {heard} video frames; {golden.clips} clips need {needed}")


def _is_beyond(name: str, tensor: Tensor) -> bool:
    key = re.sub(r"^clip\d+|\.\d+$", "", name)
    low, high = RANGES.get(key, (-np.inf, np.inf))
    return bool(((tensor < low - ROUNDING) | (tensor > high + ROUNDING)).any())
