"""Import Hallo and Hallo2 checkpoints: their three weight files → an :class:`EmoModel` that computes what they do.

Widths, layers and token counts are read from the tensors. What tensors do not show (heads, groups, strides) is the
same in all published files and can be given where it differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emo_rt.errors import CheckpointError
from emo_rt.export.checkpoints.parts import block_widths, count, find_part, locator_config, read_part, weight_file
from emo_rt.export.checkpoints.tensors import Tensors, find_file, load_strictly, read_tensors, rename, shape
from emo_rt.export.checkpoints.vae import VAE_FILES, VAE_FOLDERS, vae_config, vae_name
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.presets import preset
from emo_rt.model.config import (
    AudioConfig,
    ModelConfig,
    ReferenceConfig,
    ScheduleConfig,
    TemporalConfig,
    UNetConfig,
    VaeConfig,
    Wav2VecConfig,
)

NETWORKS = (
    ("denoising_unet.", "backbone."),
    ("reference_unet.", "reference_net."),
    ("face_locator.", "face_locator."),
    ("imageproj.", "face_projector."),
    ("audioproj.", "audio_projector."),
)
"""Prefixes of ``net.pth`` and ours."""

NET_FILES = ("hallo/net.pth", "hallo2/net.pth", "net.pth", "net.safetensors")
WAV2VEC_FOLDERS = ("wav2vec/wav2vec2-base-960h", "wav2vec2-base-960h", "wav2vec")
WAV2VEC_FILES = ("model.safetensors", "pytorch_model.bin", "wav2vec.safetensors")


@dataclass(frozen=True)
class HalloFiles:
    """Where the three weight files are."""

    net: Path
    """``net.pth``: both UNets, face locator, projectors."""
    vae: Path
    """``sd-vae-ft-mse``: weight file of the VAE, or the folder with it."""
    wav2vec: Path
    """``wav2vec2-base-960h``: weight file of the audio encoder, or the folder with it."""

    @classmethod
    def find(cls, checkpoint: Path, vae: Path | None = None, wav2vec: Path | None = None) -> HalloFiles:
        """From ``net.pth`` itself, or from a folder in the layout of the published files.

        Raises :class:`CheckpointError` that names what is missing.
        """
        if checkpoint.is_dir():
            net = find_file(checkpoint, NET_FILES)
            vae = vae or find_part(checkpoint, VAE_FOLDERS, VAE_FILES[-1:], "--vae")
            wav2vec = wav2vec or find_part(checkpoint, WAV2VEC_FOLDERS, WAV2VEC_FILES[-1:], "--wav2vec")
        else:
            net = checkpoint
        for path, option in ((vae, "--vae"), (wav2vec, "--wav2vec")):
            if path is None:
                raise CheckpointError(f"{net.name} is not all of a checkpoint; give the file or folder with {option}")
        for path in (net, vae, wav2vec):
            if path is None or not path.exists():
                raise CheckpointError(f"there is no file or folder {path}")
        assert vae is not None
        assert wav2vec is not None
        return cls(net, vae, wav2vec)

    def resolved(self) -> tuple[Path, Path, Path]:
        """The weight files themselves. Raises :class:`CheckpointError` where a folder has none."""
        return self.net, weight_file(self.vae, VAE_FILES), weight_file(self.wav2vec, WAV2VEC_FILES)


@dataclass(frozen=True)
class HalloSettings:
    """What the weight files do not say. The defaults are those of the published checkpoints."""

    size: int = 512
    """Width and height of the picture, in pixels."""
    frames: int = 16
    """Frames per clip."""
    motion_frames: int = 2
    """Motion frames per clip."""
    guidance: float = 3.5
    """Classifier-free guidance scale."""
    reencode_motion: bool = True
    """Decode and encode the motion frames between clips, as the original does; False takes the latents directly."""
    attention_heads: int = 8
    """Heads of all UNet attentions, spatial and temporal."""
    vae: Mapping[str, Any] | None = None
    """diffusers' config of the VAE; ``None`` = ``config.json`` beside the weights, or the published values."""
    wav2vec: Mapping[str, Any] | None = None
    """transformers' config of wav2vec; ``None`` = ``config.json`` beside the weights, or the published values."""
    schedule: ScheduleConfig | None = None
    """Diffusion schedule; ``None`` = the published one."""


def import_hallo(files: HalloFiles, settings: HalloSettings | None = None) -> EmoModel:
    """Read the files and build the model. Raises :class:`CheckpointError` with the names of tensors that do not fit."""
    settings = settings or HalloSettings()
    net = read_tensors(files.net)
    vae, vae_stated = read_part(files.vae, VAE_FILES, settings.vae)
    wav2vec, wav2vec_config = read_part(files.wav2vec, WAV2VEC_FILES, settings.wav2vec)
    wav2vec = rename(wav2vec, _wav2vec_name, str(files.wav2vec))
    encoder = _wav2vec_config(wav2vec, wav2vec_config, str(files.wav2vec))
    config = _config(net, encoder, vae_config(vae, vae_stated, str(files.vae)), settings, str(files.net))
    with torch.device("meta"):
        model = EmoModel(config)
    parts = {"vae.": rename(vae, vae_name, str(files.vae)), "audio_encoder.wav2vec.": wav2vec}
    for prefix, tensors in parts.items():
        where = str(files.vae if prefix == "vae." else files.wav2vec)
        load_strictly(model.get_submodule(prefix[:-1]), tensors, where, lambda name: name)
    _load_net(model, net, str(files.net))
    return model.eval().requires_grad_(False)


def _load_net(model: EmoModel, net: Tensors, where: str) -> None:
    loaded = torch.nn.ModuleDict({ours[:-1]: model.get_submodule(ours[:-1]) for _, ours in NETWORKS})
    load_strictly(loaded, rename(net, _net_name, where), where, _original_net_name)


def _config(net: Tensors, encoder: Wav2VecConfig, vae: VaeConfig, settings: HalloSettings, where: str) -> ModelConfig:
    hallo = preset("hallo")
    reencoded = settings.reencode_motion
    return replace(
        hallo,
        size=settings.size,
        frames=settings.frames,
        motion_frames=settings.motion_frames,
        guidance=settings.guidance,
        motion_source="reencoded" if reencoded else "latents",
        schedule=settings.schedule or hallo.schedule,
        decode_frames=_decode_frames(settings.frames - (settings.motion_frames if reencoded else 0)),
        unet=_unet_config(net, settings, where),
        reference=_reference_config(net, where),
        audio=_audio_config(net, encoder, hallo.audio, where),
        temporal=_temporal_config(net, hallo.temporal, settings, where),
        locator=locator_config(net, "face_locator.", where),
        vae=vae,
    )


def _decode_frames(frames: int) -> int:
    """Frames per run of the decoder: the largest divisor up to 4."""
    return next(count for count in (4, 3, 2, 1) if frames % count == 0)


def _unet_config(net: Tensors, settings: HalloSettings, where: str) -> UNetConfig:
    return UNetConfig(
        block_out_channels=block_widths(net, "denoising_unet.", where),
        layers_per_block=count(net, r"denoising_unet\.down_blocks\.0\.resnets\.(\d+)\."),
        attention_heads=settings.attention_heads,
    )


def _reference_config(net: Tensors, where: str) -> ReferenceConfig:
    (dim,) = shape(net, "imageproj.norm.weight", where)
    out, embedding = shape(net, "imageproj.proj.weight", where)
    return ReferenceConfig(mode="concat", face_tokens=out // dim, face_embedding_dim=embedding, face_token_dim=dim)


def _audio_config(net: Tensors, encoder: Wav2VecConfig, hallo: AudioConfig, where: str) -> AudioConfig:
    (dim,) = shape(net, "audioproj.norm.weight", where)
    hidden, window = shape(net, "audioproj.proj1.weight", where)
    features = encoder.hidden_size * encoder.num_hidden_layers
    if window % features or window // features % 2 == 0:
        raise CheckpointError(
            f"{where}: audioproj.proj1.weight takes {window} values, which is no odd number of frames "
            f"of {encoder.num_hidden_layers} wav2vec layers x {encoder.hidden_size}"
        )
    return replace(
        hallo,
        encoder=encoder,
        context_frames=window // features // 2,
        tokens=shape(net, "audioproj.proj3.weight", where)[0] // dim,
        token_dim=dim,
        projector_dim=hidden,
    )


def _temporal_config(net: Tensors, hallo: TemporalConfig, settings: HalloSettings, where: str) -> TemporalConfig:
    block = "denoising_unet.down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
    positions = shape(net, f"{block}attention_blocks.0.pos_encoder.pe", where)[1]
    layers = count(net, re.escape(block) + r"attention_blocks\.(\d+)\.")
    return replace(hallo, heads=settings.attention_heads, attention_layers=layers, max_positions=positions)


def _wav2vec_config(tensors: Tensors, given: Mapping[str, Any], where: str) -> Wav2VecConfig:
    """Widths from the tensors; heads, strides, groups and norms from the config, by default those of wav2vec2-base."""
    published = Wav2VecConfig()
    (hidden,) = shape(tensors, "encoder.layer_norm.weight", where)
    convolutions = count(tensors, r"feature_extractor\.conv_layers\.(\d+)\.")
    kernels = [shape(tensors, f"feature_extractor.conv_layers.{i}.conv.weight", where) for i in range(convolutions)]
    _, narrow, positions = shape(tensors, "encoder.pos_conv_embed.conv.parametrizations.weight.original1", where)
    stated = ("num_attention_heads", "conv_stride", "feat_extract_norm", "do_stable_layer_norm", "layer_norm_eps")
    values = {name: given.get(name, getattr(published, name)) for name in stated}
    return Wav2VecConfig(
        hidden_size=hidden,
        num_hidden_layers=count(tensors, r"encoder\.layers\.(\d+)\."),
        intermediate_size=shape(tensors, "encoder.layers.0.feed_forward.intermediate_dense.weight", where)[0],
        conv_dim=tuple(kernel[0] for kernel in kernels),
        conv_kernel=tuple(kernel[2] for kernel in kernels),
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in tensors,
        num_conv_pos_embeddings=positions,
        num_conv_pos_embedding_groups=hidden // narrow,
        **{**values, "conv_stride": tuple(values["conv_stride"])},
    )


def _with_prefix(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The first of the pairs that fits replaces the beginning."""
    return next((new + name.removeprefix(old) for old, new in pairs if name.startswith(old)), name)


def _net_name(name: str) -> str:
    name = _with_prefix(name, NETWORKS)
    return re.sub(r"\.motion_modules\.(\d+)\.temporal_transformer\.", r".temporal_modules.\1.", name)


def _original_net_name(name: str) -> str:
    name = _with_prefix(name, ((ours, theirs) for theirs, ours in NETWORKS))
    return re.sub(r"\.temporal_modules\.(\d+)\.", r".motion_modules.\1.temporal_transformer.", name)


def original_name(name: str) -> str:
    """Name of one of the model's tensors → its name in the file that it comes from."""
    for part in ("vae.", "audio_encoder.wav2vec."):
        if name.startswith(part):
            return name.removeprefix(part)
    return _original_net_name(name)


def _wav2vec_name(name: str) -> str | None:
    """Without the CTC head and the training mask; older names of the weight norm become today's."""
    name = name.removeprefix("wav2vec2.")
    if name.startswith("lm_head.") or name == "masked_spec_embed":
        return None
    older = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    head, _, last = name.rpartition(".")
    return f"{head}.{older[last]}" if last in older else name
