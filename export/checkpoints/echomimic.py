"""Import EchoMimic v1 checkpoints, base or accelerated: a folder in the published layout → an :class:`EmoModel`.

Widths, layers and token counts are read from the tensors, fp16 or fp32. What they do not show is in
:class:`EchoMimicSettings`. The factor of the audio attention, which the original writes into its reader, goes into the
weights of that attention's output: so the network needs no factor, and the unconditional half keeps its share of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emo_rt.errors import CheckpointError
from emo_rt.export.checkpoints.echomimic_names import (
    backbone_name,
    original_backbone_name,
    original_whisper_name,
    whisper_name,
)
from emo_rt.export.checkpoints.parts import block_widths, count, find_part, locator_config, read_part, weight_file
from emo_rt.export.checkpoints.tensors import (
    Tensors,
    find_file,
    load_strictly,
    read_section,
    read_tensors,
    rename,
    shape,
)
from emo_rt.export.checkpoints.vae import VAE_FILES, VAE_FOLDERS, vae_config, vae_name
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.networks.temporal import PositionTable
from emo_rt.export.presets import preset
from emo_rt.model.config import (
    AudioConfig,
    ModelConfig,
    ScheduleConfig,
    TemporalConfig,
    UNetConfig,
    WhisperConfig,
    WindowsConfig,
)

WHISPER_FILES = ("audio_processor/whisper_tiny.pt", "whisper_tiny.pt")
MOTION = ".motion_modules."
"""Part of the names of motion modules' tensors."""
TABLE = ".pos_encoder.pe"
"""End of the names of position tables."""


@dataclass(frozen=True)
class EchoMimicFiles:
    """Where the weight files are."""

    denoising: Path
    """``denoising_unet.pth`` or ``denoising_unet_acc.pth``."""
    motion: Path
    """``motion_module.pth`` or ``motion_module_acc.pth``."""
    reference: Path
    """``reference_unet.pth``."""
    locator: Path
    """``face_locator.pth``."""
    whisper: Path
    """``whisper_tiny.pt``."""
    vae: Path
    """``sd-vae-ft-mse``: weight file of the VAE, or the folder with it."""

    @classmethod
    def find(cls, checkpoint: Path, accelerated: bool = False, vae: Path | None = None) -> EchoMimicFiles:
        """From a folder in the published layout. Raises :class:`CheckpointError` that names what is missing."""
        if not checkpoint.is_dir():
            raise CheckpointError(f"there is no folder {checkpoint}; give the one with denoising_unet.pth in it")
        end = "_acc" if accelerated else ""
        names = (f"denoising_unet{end}.pth", f"motion_module{end}.pth", "reference_unet.pth", "face_locator.pth")
        denoising, motion, reference, locator = (find_file(checkpoint, (name,)) for name in names)
        whisper = find_file(checkpoint, WHISPER_FILES)
        vae = vae or find_part(checkpoint, VAE_FOLDERS, VAE_FILES[-1:], "--vae")
        return cls(denoising, motion, reference, locator, whisper, vae)

    def resolved(self) -> tuple[Path, ...]:
        """The weight files themselves. Raises :class:`CheckpointError` where a folder has none."""
        nets = (self.denoising, self.motion, self.reference, self.locator, self.whisper)
        return (*nets, weight_file(self.vae, VAE_FILES))


@dataclass(frozen=True)
class EchoMimicSettings:
    """What the weight files do not say. The defaults are those of the published code."""

    size: int = 512
    """Width and height of the picture, in pixels."""
    frames: int = 12
    """Frames of a window."""
    fps: int = 24
    """Frames per second."""
    guidance: float = 2.5
    """Classifier-free guidance scale."""
    attention_heads: int = 8
    """Heads of the UNets' spatial attentions."""
    motion_heads: int = 8
    """Heads of the motion modules."""
    norm_groups: int = 32
    """Groups of the UNets' GroupNorms."""
    max_positions: int = 32
    """Length of the motion modules' position tables."""
    audio_scale: float = 3.0
    """Factor of the audio attention's output."""
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    """How windows overlap and move, and where the noise is cut off."""
    vae: Mapping[str, Any] | None = None
    """diffusers' config of the VAE; ``None`` = ``config.json`` beside the weights, or the published values."""
    schedule: ScheduleConfig | None = None
    """Diffusion schedule; ``None`` = the published one."""


def import_echomimic(files: EchoMimicFiles, settings: EchoMimicSettings | None = None) -> EmoModel:
    """Read the files and build the model. Raises :class:`CheckpointError` with the names of tensors that do not fit."""
    settings = settings or EchoMimicSettings()
    where = f"{files.denoising} with {files.motion.name}"
    backbone = _backbone_tensors(files, settings, where)
    reference, locator = read_tensors(files.reference), read_tensors(files.locator)
    whisper, dims = _whisper_tensors(files.whisper)
    vae, vae_stated = read_part(files.vae, VAE_FILES, settings.vae)
    config = replace(
        _config(backbone, settings, where),
        audio=_audio_config(whisper, dims, str(files.whisper)),
        locator=locator_config(locator, "", str(files.locator)),
        vae=vae_config(vae, vae_stated, str(files.vae)),
    )
    with torch.device("meta"):
        model = EmoModel(config)
    _scale_audio(backbone, settings.audio_scale)
    load_strictly(model.backbone, rename(backbone, backbone_name, where), where, original_backbone_name)
    same = str
    load_strictly(model.reference_net, reference, str(files.reference), same)
    load_strictly(model.face_locator, locator, str(files.locator), same)
    encoder = model.audio_encoder.get_submodule("whisper")
    load_strictly(encoder, rename(whisper, whisper_name, str(files.whisper)), str(files.whisper), original_whisper_name)
    load_strictly(model.vae, rename(vae, vae_name, str(files.vae)), str(files.vae), same)
    return model.eval().requires_grad_(False)


def _backbone_tensors(files: EchoMimicFiles, settings: EchoMimicSettings, where: str) -> dict[str, Tensor]:
    """Both files in one, as they go into one module tree: the UNet's is loaded last, so it wins.

    A position table of another length is replaced by the network's own, as in the original.
    """
    motion = read_tensors(files.motion)
    foreign = [name for name in motion if MOTION not in name]
    if foreign:
        raise CheckpointError(f"{files.motion} is no file of motion modules: it has {foreign[0]}")
    tensors = {**motion, **read_tensors(files.denoising)}
    for name, tensor in tensors.items():
        if name.endswith(TABLE) and tensor.dim() == 3 and tensor.shape[1] != settings.max_positions:
            tensors[name] = PositionTable(tensor.shape[2], settings.max_positions).pe
    return tensors


def _whisper_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The encoder's tensors without their prefix, and the sizes that the file states."""
    state, rest = read_section(path, "model_state_dict")
    dims = rest.get("dims")
    if not isinstance(dims, Mapping) or not isinstance(dims.get("n_audio_head"), int):
        raise CheckpointError(f"{path} has no dims with n_audio_head; expected a file of OpenAI's Whisper")
    encoder = {name.removeprefix("encoder."): t for name, t in state.items() if name.startswith("encoder.")}
    return encoder, dims


def _scale_audio(tensors: dict[str, Tensor], factor: float) -> None:
    """Weight and bias of each audio attention's output, in place."""
    for name, tensor in tensors.items():
        if re.search(r"\.attentions\.\d+\.transformer_blocks\.0\.attn2\.to_out\.0\.(weight|bias)$", name):
            tensors[name] = tensor.float() * factor


def _config(tensors: Tensors, settings: EchoMimicSettings, where: str) -> ModelConfig:
    return replace(
        preset("echomimic"),
        size=settings.size,
        frames=settings.frames,
        fps=settings.fps,
        guidance=settings.guidance,
        decode_frames=next(n for n in (4, 3, 2, 1) if settings.frames % n == 0),
        unet=UNetConfig(
            block_out_channels=block_widths(tensors, "", where),
            layers_per_block=count(tensors, r"down_blocks\.0\.resnets\.(\d+)\."),
            attention_heads=settings.attention_heads,
            norm_groups=settings.norm_groups,
        ),
        temporal=TemporalConfig(
            heads=settings.motion_heads,
            attention_layers=count(tensors, rf"down_blocks\.0{re.escape(MOTION)}0\..*\.attention_blocks\.(\d+)\."),
            max_positions=settings.max_positions,
        ),
        windows=settings.windows,
        schedule=settings.schedule or preset("echomimic").schedule,
    )


def _audio_config(whisper: Tensors, dims: Mapping[str, Any], where: str) -> AudioConfig:
    hidden, bands, _ = shape(whisper, "conv1.weight", where)
    encoder = WhisperConfig(
        hidden_size=hidden,
        num_hidden_layers=count(whisper, r"blocks\.(\d+)\."),
        num_attention_heads=dims["n_audio_head"],
        intermediate_size=shape(whisper, "blocks.0.mlp.0.weight", where)[0],
        mel_bins=bands,
        positions=shape(whisper, "positional_embedding", where)[0],
    )
    published = preset("echomimic").audio
    rows = published.tokens // published.encoder.states
    return replace(published, encoder=encoder, tokens=rows * encoder.states, token_dim=hidden)


def original_name(name: str) -> str:
    """Name of one of the model's tensors → its name in the file that it comes from."""
    part, _, rest = name.partition(".")
    if part == "backbone":
        return original_backbone_name(rest)
    if part == "audio_encoder":
        return original_whisper_name(rest.removeprefix("whisper."))
    return rest


def is_echomimic(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of this kind, base or accelerated."""
    return any((folder / f"denoising_unet{end}.pth").is_file() for end in ("", "_acc"))
