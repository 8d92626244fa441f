"""What `emo-rt export` is asked for. Imports no torch, so that the command line can tell of it without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from emo_rt.errors import ConfigError
from emo_rt.export.presets import PRESETS
from emo_rt.schema.kinds import Choice
from emo_rt.schema.option import Outside


@dataclass(frozen=True)
class HalloRequest:
    """A Hallo or Hallo2 checkpoint, as given on the command line. ``None``: as ``config`` says, else as published."""

    checkpoint: Annotated[Path, Outside(placeholder="PATH")]
    """Folder of the checkpoint in its published layout. Hallo: with hallo/net.pth, sd-vae-ft-mse/ and
    wav2vec/wav2vec2-base-960h/, or net.pth itself. EchoMimic: with denoising_unet.pth and the others."""
    vae: Annotated[Path | None, Outside(placeholder="PATH")] = None
    """File or folder of the VAE. ``None`` = in the checkpoint's folder."""
    wav2vec: Annotated[Path | None, Outside(placeholder="PATH")] = None
    """File or folder of wav2vec 2.0. ``None`` = in the checkpoint's folder."""
    config: Path | None = None
    """JSON with what the weights do not say: size, frames, motion_frames, attention_heads, cfg, and the sections vae,
    wav2vec, scheduler. The options below go before it. ``None`` = config.json beside net.pth, else the published
    settings."""
    size: Annotated[int | None, Outside("resolution")] = None
    """Width and height of the picture, in pixels. ``None`` = 512."""
    frames: int | None = None
    """Frames per clip, or per window (EchoMimic). ``None`` = the published 16, or 12."""
    motion_frames: int | None = None
    """Motion frames per clip. ``None`` = 2."""
    attention_heads: int | None = None
    """Heads of the UNets' attentions. ``None`` = 8."""
    motion_from_latents: bool = False
    """Take motion frames as latents: faster, not what the original does, which decodes and encodes them."""


@dataclass(frozen=True)
class EchoMimicRequest:
    """An EchoMimic v1 checkpoint, as given on the command line. ``None``: as published."""

    checkpoint: Annotated[Path, Outside(placeholder="PATH")]
    """Folder of the checkpoint, with denoising_unet.pth, motion_module.pth, reference_unet.pth, face_locator.pth,
    audio_processor/whisper_tiny.pt and sd-vae-ft-mse/."""
    vae: Annotated[Path | None, Outside(placeholder="PATH")] = None
    """File or folder of the VAE. ``None`` = in the checkpoint's folder."""
    size: Annotated[int | None, Outside("resolution")] = None
    """Width and height of the picture, in pixels. ``None`` = 512."""
    frames: int | None = None
    """Frames per window. ``None`` = 12."""
    attention_heads: int | None = None
    """Heads of the UNets' attentions. ``None`` = 8."""
    accelerated: bool = False
    """EchoMimic: the accelerated weights, denoising_unet_acc.pth and motion_module_acc.pth, which need 6 steps and no
    guidance."""
    with_accelerated: bool = False
    """EchoMimic: base and accelerated weights in one bundle, which share all else. The preset quality runs the base
    weights, fast the accelerated ones."""

    def __post_init__(self) -> None:
        """Raises :class:`ConfigError` for options that exclude each other."""
        if self.accelerated and self.with_accelerated:
            raise ConfigError("--accelerated and --with-accelerated exclude each other; leave one out")

    @property
    def kinds(self) -> tuple[bool, ...]:
        """Which weights to read, accelerated (True) or base (False), the bundle's own first."""
        return (False, True) if self.with_accelerated else (self.accelerated,)


SOURCES: Mapping[str, type[HalloRequest] | type[EchoMimicRequest]] = MappingProxyType(
    {"hallo": HalloRequest, "echomimic": EchoMimicRequest}
)
"""Kinds of published checkpoints that can be imported, and what is asked of each."""


@dataclass(frozen=True)
class Request:
    """What to export, and how, as given on the command line."""

    out: Annotated[Path, Outside(placeholder="DIR")]
    """Bundle folder to write."""
    preset: Annotated[str | None, Choice(PRESETS)] = None
    """Size and layout of an untrained model: emo (paper, full size), hallo and echomimic (of those checkpoints), demo
    (small), demo256 (the same at 256×256), tiny (tests). With --random-weights. ``None`` = none."""
    hallo: HalloRequest | None = None
    """Hallo checkpoint to import."""
    echomimic: EchoMimicRequest | None = None
    """EchoMimic checkpoint to import."""
    random_weights: bool = False
    """Untrained weights, to measure speed."""
    seed: int = 0
    """Seed of the random weights."""
    upgrade: Annotated[Path | None, Outside(placeholder="BUNDLE")] = None
    """Convert a bundle of an older emo_rt instead. Its weights keep every bit, and emo_rt[export] is not needed.
    ``None`` = none."""
    dtype: Literal["fp32", "fp16"] = "fp32"
    """Arithmetic inside the networks: fp32 for CPUs, fp16 for GPUs."""
    half_storage: bool = False
    """Store fp32 weights as fp16: half the size."""
    no_guidance: bool = False
    """Only the step graph without guidance, which is about half the work, instead of only the one with it."""
    both: bool = False
    """Both step graphs, with guidance and without."""
    deep_cache: Annotated[int | None, Outside(placeholder="LAYERS")] = None
    """Also step graphs for animate --deep-cache: they compute 0, 1, … of the outermost layers on the way down and one
    more on the way up. ``None`` = none.

    See :class:`emo_rt.export.onnx_export.ExportOptions`."""
    keep_fp32: Annotated[Path | None, Outside(placeholder="FILE")] = None
    """Nodes that compute in float32 all the same, a line each, as python -m emo_rt.engines.accuracy writes them. For
    --dtype fp16. ``None`` = none."""
    check: bool | None = None
    """Run every graph in ONNX Runtime and compare it with torch. ``None`` = for demo and tiny only; full-size models
    take many minutes and twice the memory."""
    quiet: bool = False
    """No progress lines and no receipt."""

    def __post_init__(self) -> None:
        """Raises :class:`ConfigError` for options that exclude each other."""
        if self.half_storage and self.dtype == "fp16":
            raise ConfigError("--half-storage is for --dtype fp32; with fp16 the weights are halves already")
        if self.both and self.no_guidance:
            raise ConfigError("--both and --no-guidance exclude each other; leave one out")
        if self.upgrade is not None and (self.hallo or self.echomimic or self.preset or self.random_weights):
            raise ConfigError("--upgrade converts a bundle as it is; leave out --from, --preset and --random-weights")

    @property
    def guidance(self) -> tuple[bool, ...]:
        """Which step graphs: with guidance (True), without (False). Accelerated weights were made for none."""
        is_accelerated = self.echomimic is not None and self.echomimic.accelerated
        return (True, False) if self.both else (not (self.no_guidance or is_accelerated),)
