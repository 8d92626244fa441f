"""The settings file beside a Hallo checkpoint: what its weights do not say, as JSON.

A golden folder's ``config.json`` has this form, and so has the file of ``emo-rt export --config``. Every entry may be
left out: then the published checkpoints' value holds. Of the sections, ``vae`` is diffusers' ``AutoencoderKL`` config,
``wav2vec`` transformers' ``Wav2Vec2Config`` and ``scheduler`` the arguments of diffusers' ``DDIMScheduler``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from emo_rt.errors import CheckpointError, ConfigError
from emo_rt.export.checkpoints.hallo import HalloSettings
from emo_rt.model.config import ModelConfig, ScheduleConfig

SECTIONS = ("vae", "wav2vec", "scheduler")
WHOLE_NUMBERS = ("size", "frames", "motion_frames", "attention_heads")
"""Entries that :class:`HalloSettings` has under the same names; ``cfg`` is its ``guidance``."""

SCHEDULE = {
    "num_train_timesteps": ("train_timesteps", 1000),
    "beta_start": ("beta_start", 0.0001),
    "beta_end": ("beta_end", 0.02),
    "beta_schedule": ("beta_schedule", "linear"),
    "prediction_type": ("prediction_type", "epsilon"),
    "rescale_betas_zero_snr": ("zero_terminal_snr", False),
    "timestep_spacing": ("timestep_spacing", "leading"),
    "steps_offset": ("steps_offset", 0),
}
"""diffusers' argument → ours, and what diffusers takes where it is not given."""

FIXED = {"clip_sample": (True, False), "set_alpha_to_one": (True, True), "thresholding": (False, False),
         "trained_betas": (None, None), "eta": (0, 0)}  # fmt: skip
"""Arguments of which our solvers know one value only: diffusers' default, and that value."""

WITHOUT_EFFECT = ("clip_sample_range", "sample_max_value", "dynamic_thresholding_ratio", "_class_name",
                  "_diffusers_version", "_use_default_values")  # fmt: skip
"""Arguments that matter only for what :data:`FIXED` rules out."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings file. Raises :class:`CheckpointError` when it is no JSON object, or a section of it is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CheckpointError(f"there is no file {path}") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not readable JSON: {exc}") from exc
    if not isinstance(config, dict) or not all(isinstance(config.get(name, {}), dict) for name in SECTIONS):
        raise CheckpointError(f"{path} must hold a JSON object whose {', '.join(SECTIONS)} are objects, too")
    return config


def settings_of(config: Mapping[str, Any], where: str) -> HalloSettings:
    """What the file says; raises :class:`CheckpointError` for a value of the wrong type or without support."""
    stated: dict[str, Any] = {name: whole(config, name, where) for name in WHOLE_NUMBERS if name in config}
    if "cfg" in config:
        stated["guidance"] = number(config, "cfg", where)
    if "scheduler" in config:
        stated["schedule"] = schedule_of(config["scheduler"], where)
    return HalloSettings(**stated, vae=config.get("vae"), wav2vec=config.get("wav2vec"))


def schedule_of(section: Mapping[str, Any], where: str) -> ScheduleConfig:
    """Arguments of diffusers' ``DDIMScheduler`` → ours. Raises :class:`CheckpointError` for what we do not compute."""
    unknown = sorted(set(section) - set(SCHEDULE) - set(FIXED) - set(WITHOUT_EFFECT))
    if unknown:
        raise CheckpointError(f"{where}: scheduler has {', '.join(unknown)}, which emo_rt does not know")
    for name, (default, supported) in FIXED.items():
        value = section.get(name, default)
        if value != supported:
            raise CheckpointError(f"{where}: scheduler.{name} is {value!r}; emo_rt computes only {supported!r}")
    for name in ("num_train_timesteps", "steps_offset"):
        if name in section:
            whole(section, name, f"{where}: scheduler")
    for name in ("beta_start", "beta_end"):
        if name in section:
            number(section, name, f"{where}: scheduler")
    values = {ours: section.get(theirs, default) for theirs, (ours, default) in SCHEDULE.items()}
    try:
        return ScheduleConfig(**values)
    except (ConfigError, TypeError) as exc:
        raise CheckpointError(f"{where}: the scheduler is not supported: {exc}") from exc


def check_widths(config: Mapping[str, Any], model: ModelConfig, where: str) -> None:
    """Raise :class:`CheckpointError` when a width that the file states is not that of the weights."""
    found = {
        "block_out_channels": list(model.unet.block_out_channels),
        "cross_attention_dim": model.reference.face_token_dim,
        "audio_attention_dim": model.audio.token_dim,
        "face_embedding_dim": model.reference.face_embedding_dim,
        "audio_layers": model.audio.encoder.num_hidden_layers,
        "audio_context_tokens": model.audio.tokens,
        "audio_proj_intermediate_dim": model.audio.projector_dim,
    }
    wrong = [f"{name} {config[name]}, they have {value}" for name, value in found.items()
             if name in config and config[name] != value]  # fmt: skip
    if wrong:
        raise CheckpointError(f"{where} is not of these weights. It says {'; '.join(wrong)}")


def whole(config: Mapping[str, Any], name: str, where: str) -> int:
    """An entry that must be a whole number. Raises :class:`CheckpointError`."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"{where}: {name} is {value!r}; expected a whole number")
    return value


def number(config: Mapping[str, Any], name: str, where: str) -> float:
    """An entry that must be a number. Raises :class:`CheckpointError`."""
    value = config.get(name)
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise CheckpointError(f"{where}: {name} is {value!r}; expected a number")
    return float(value)
