"""A golden folder of EchoMimic: a small checkpoint in the published layout, and what the original computed with it.

``config.json`` has the settings and the runs, by any names; ``vectors.safetensors`` the numbers. :func:`layout` lists
every tensor that must be there; whatever else there is is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emo_rt.errors import CheckpointError, ConfigError
from emo_rt.export.checkpoints.echomimic import EchoMimicFiles, EchoMimicSettings, import_echomimic
from emo_rt.export.checkpoints.hallo_config import number, read_config, schedule_of, whole
from emo_rt.export.checkpoints.tensors import listed, read_tensors
from emo_rt.export.networks.model import EmoModel
from emo_rt.model.config import ModelConfig, WhisperConfig, WindowsConfig
from emo_rt.model.contract import Array, Site, sites
from emo_rt.model.families.echomimic import EchoMimic, window_starts

VECTORS = "vectors.safetensors"
RUN_NUMBERS = ("steps", "context_frames", "context_overlap", "frames", "limit")
"""Whole numbers of a run."""
ACCELERATED = {"base": False, "acc": True}
"""What a run calls its weights."""


@dataclass(frozen=True)
class Run:
    """One video of the original."""

    name: str
    accelerated: bool
    """Whether its weights are the accelerated ones."""
    steps: int
    guidance: float
    window: int
    """Frames of a window, no more than the video has."""
    overlap: int
    frames: int
    """Frames of the video."""
    stated: Mapping[str, Any]
    """Its entry in ``config.json``."""

    @property
    def guided(self) -> bool:
        """Whether the original ran the unconditional half; it does for scales above 1."""
        return self.guidance > 1

    @property
    def starts(self) -> tuple[int, ...]:
        """First frames of the windows at the first step."""
        return window_starts(self.frames, self.window, self.overlap)


@dataclass(frozen=True, eq=False)
class EchoMimicGolden:
    """A golden folder, read and checked."""

    folder: Path
    stated: Mapping[str, Any]
    """``config.json``."""
    settings: EchoMimicSettings
    runs: tuple[Run, ...]
    tensors: Mapping[str, Array]
    """``vectors.safetensors``, as stored, floats as fp32."""

    def model(self, run: Run) -> EmoModel:
        """The checkpoint that a run was made with, fp32, with the run's windows."""
        windows = replace(self.settings.windows, overlap=min(run.overlap, run.window - 1))
        settings = replace(self.settings, frames=run.window, guidance=run.guidance, windows=windows)
        return import_echomimic(EchoMimicFiles.find(self.folder, run.accelerated), settings)

    def video(self, name: str) -> Array:
        """(halves, C, F, h, w) as stored → (halves, F, C, h, w)."""
        return np.ascontiguousarray(self.tensors[name].transpose(0, 2, 1, 3, 4))

    def long_waveform(self) -> Array:
        """The long sound: ``in.wave`` over and over, repetition k times (1 + k mod 5) / 8."""
        wave, samples = self.tensors["in.wave"][0], int(self.stated["long_audio"]["samples"])
        count = -(-samples // len(wave))
        gains = (1 + np.arange(count) % 5) / np.float32(8)
        whole: Array = (gains[:, None] * wave).reshape(-1)[:samples].astype(np.float32)
        return whole


def read_echomimic_golden(folder: Path) -> EchoMimicGolden:
    """Read settings and vectors. Raises :class:`CheckpointError` when they do not fit each other or the weights."""
    where = str(folder / "config.json")
    stated = read_config(folder / "config.json")
    settings = _settings(stated, where)
    entries = stated.get("runs")
    if not isinstance(entries, Mapping) or not entries:
        raise CheckpointError(f"{where} has no runs")
    runs = tuple(_run(name, entry, f"{where}: run {name}") for name, entry in entries.items())
    read = read_tensors(folder / VECTORS)
    tensors = {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in read.items()}
    golden = EchoMimicGolden(folder, stated, settings, runs, tensors)
    config = golden.model(runs[0]).config
    _check_widths(stated, config, where)
    _check_layout(golden, config)
    return golden


def site_names(config: ModelConfig) -> dict[str, Site]:
    """Attention sites by the names that the original gives them."""

    def theirs(site: Site) -> str:
        block, *numbers = site.name.split("_")
        return (
            ".".join([f"{block}_blocks", numbers[0], "attentions", numbers[1]]) if numbers else "mid_block.attentions.0"
        )

    return {theirs(site): site for site in sites(config.unet) if site.attention}


def layout(golden: EchoMimicGolden, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the vectors must have, with its shape."""
    encoder, size, latent = config.audio.encoder, config.size, config.latent_size
    assert isinstance(encoder, WhisperConfig)
    family, samples = EchoMimic(config), golden.tensors["in.wave"].shape[-1]
    tokens, states = (config.audio.tokens, config.audio.token_dim), (encoder.states, encoder.hidden_size)
    channels = config.vae.latent_channels
    shapes: dict[str, tuple[int, ...]] = {
        "in.wave": (1, samples),
        "in.picture": (size, size, 3),
        "in.source": (3, size, size),
        "in.mask": (size, size),
        "audio.mel_filters": (encoder.mel_bins, 201),
        "audio.mel": (encoder.mel_bins, samples // 160),
        "audio.hidden": (family.row_count(samples), *states),
        "audio.chunks": (family.video_frames(samples), *tokens),
        "reference.latent": (1, channels, latent, latent),
        "face.feature": (1, config.unet.block_out_channels[0], 1, latent, latent),
        "scheduler.alphas_cumprod": (config.schedule.train_timesteps,),
    }
    for name, site in site_names(config).items():
        shapes[f"reference.{name}"] = (1, (latent >> site.level) ** 2, site.channels)
    if "long_audio" in golden.stated:
        long = golden.stated["long_audio"]
        rows, frames = family.row_count(int(long["samples"])), family.video_frames(int(long["samples"]))
        shapes["long.hidden"] = (rows - int(long["hidden_from"]), *states)
        shapes["long.chunks"] = (frames - int(long["chunks_from"]), *tokens)
    for run in golden.runs:
        shapes |= _run_layout(run, (channels, run.frames, latent, latent), size, f"{run.name}.frames" in golden.tensors)
    return shapes


def _run_layout(run: Run, video: tuple[int, ...], size: int, has_frames: bool) -> dict[str, tuple[int, ...]]:
    channels, frames, latent, _ = video
    halves, window = 1 + run.guided, (channels, run.window, latent, latent)
    shapes = {f"{run.name}.{part}": (1, *video) for part in ("noise", "latents")}
    if has_frames:
        shapes[f"{run.name}.frames"] = (1, 3, frames, size, size)
    for step in range(run.steps):
        shapes[f"{run.name}.step{step}.latents"] = (1, *video)
        shapes[f"{run.name}.step{step}.pred"] = (halves, *video)
        for index in range(len(run.starts)):
            shapes[f"{run.name}.step{step}.window{index}.pred"] = (halves, *window)
    return shapes


def _settings(stated: Mapping[str, Any], where: str) -> EchoMimicSettings:
    published = EchoMimicSettings()
    windows = WindowsConfig(
        shift=_whole(stated, "window_shift_per_step", published.windows.shift, where),
        noise_limit=_number(stated, "noise_clamp", published.windows.noise_limit, where),
    )
    schedule = dict(stated.get("scheduler", {}))
    schedule.pop("class", None)
    vae = dict(stated.get("vae", {}))
    vae.setdefault("scaling_factor", _number(stated, "vae_scaling", 0.18215, where))
    _expect(stated, "context_stride", 1, where)
    _expect(stated, "audio_sample_rate", 16000, where)
    return replace(
        published,
        size=_whole(stated, "size", published.size, where),
        fps=_whole(stated, "fps", published.fps, where),
        attention_heads=_whole(stated, "attention_heads", published.attention_heads, where),
        motion_heads=_whole(stated, "motion_heads", published.motion_heads, where),
        norm_groups=_whole(stated, "norm_num_groups", published.norm_groups, where),
        max_positions=_whole(stated, "motion_position_max_len", published.max_positions, where),
        audio_scale=_number(stated, "audio_ratio", published.audio_scale, where),
        windows=windows,
        vae=vae,
        schedule=schedule_of(schedule, where) if schedule else None,
    )


def _run(name: str, entry: object, where: str) -> Run:
    if not isinstance(entry, Mapping) or entry.get("weights") not in ACCELERATED:
        raise CheckpointError(f"{where} has no weights; expected one of {', '.join(ACCELERATED)}")
    steps, window, overlap, frames, limit = (whole(dict(entry), key, where) for key in RUN_NUMBERS)
    if min(steps, window, frames, limit) < 1 or not 0 <= overlap < window or frames > limit:
        raise CheckpointError(f"{where} has {', '.join(f'{key} {entry[key]}' for key in RUN_NUMBERS)}")
    guidance = number(dict(entry), "cfg", where)
    return Run(name, ACCELERATED[entry["weights"]], steps, guidance, min(window, frames), overlap, frames, entry)


def _check_widths(stated: Mapping[str, Any], config: ModelConfig, where: str) -> None:
    """Raise :class:`CheckpointError` when a width that the file states is not that of the weights."""
    encoder = config.audio.encoder
    assert isinstance(encoder, WhisperConfig)
    found = {
        "block_out_channels": list(config.unet.block_out_channels),
        "face_locator_channels": list(config.locator.channels),
        "audio_token_states": encoder.states,
        "tokens_per_frame": config.audio.tokens,
    }
    wrong = [f"{name} {stated[name]}, they have {value}" for name, value in found.items()
             if name in stated and stated[name] != value]  # fmt: skip
    if wrong:
        raise CheckpointError(f"{where} is not of these weights. It says {'; '.join(wrong)}")


def _check_layout(golden: EchoMimicGolden, config: ModelConfig) -> None:
    tensors = golden.tensors
    if tensors.get("in.wave", np.zeros(0)).ndim != 2:
        raise CheckpointError(f"{golden.folder / VECTORS} has no in.wave of shape (1, samples)")
    natural = EchoMimic(config).video_frames(tensors["in.wave"].shape[1])
    for run in golden.runs:
        expected = min(natural, int(run.stated["limit"]))
        if run.frames != expected:
            raise CheckpointError(f"run {run.name} has {run.frames} frames; in.wave and its limit make {expected}")
    try:
        wanted = layout(golden, config)
    except (KeyError, TypeError, ValueError, ConfigError) as exc:
        raise CheckpointError(f"{golden.folder / 'config.json'}: long_audio or a run cannot be used: {exc}") from exc
    missing = [name for name in wanted if name not in tensors]
    unknown = sorted(name for name in tensors if name not in wanted)
    wrong = [f"{name} is {list(tensors[name].shape)}, expected {list(shape)}" for name, shape in wanted.items()
             if name in tensors and tensors[name].shape != shape]  # fmt: skip
    broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    problems = {"missing": missing, "not known, so not compared": unknown, "wrong shape": wrong,
                "NaN or infinite": broken}  # fmt: skip
    found = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{golden.folder / VECTORS} does not fit the folder. " + "; ".join(found))


def _whole(stated: Mapping[str, Any], name: str, default: int, where: str) -> int:
    return whole(dict(stated), name, where) if name in stated else default


def _number(stated: Mapping[str, Any], name: str, default: float, where: str) -> float:
    return number(dict(stated), name, where) if name in stated else default


def _expect(stated: Mapping[str, Any], name: str, value: object, where: str) -> None:
    if stated.get(name, value) != value:
        raise CheckpointError(f"{where}: {name} is {stated[name]!r}; emo_rt computes only {value!r}")
