"""Shape of a model, as frozen dataclasses that check themselves.

A :class:`ModelConfig` describes every network of one checkpoint; it is stored in the bundle's manifest. Unknown names
and values out of range raise :class:`ConfigError`. What one run is asked for is in :mod:`emo_rt.model.options`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from emo_rt.checks import all_positive, check
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.audio_config import AudioConfig, Wav2VecConfig, WhisperConfig

__all__ = [
    "AudioConfig",
    "LocatorConfig",
    "ModelConfig",
    "ReferenceConfig",
    "ScheduleConfig",
    "SpeedConfig",
    "TemporalConfig",
    "UNetConfig",
    "VaeConfig",
    "Wav2VecConfig",
    "WhisperConfig",
    "WindowsConfig",
]


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the Backbone and of the ReferenceNet (the Stable Diffusion 1.5 UNet layout, EMO section 3.2)."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    """Width of each resolution, finest first. All but the last have spatial attention."""
    layers_per_block: int = 2
    """Residual blocks per resolution on the way down; one more on the way up."""
    attention_heads: int = 8
    """Heads of every attention. SD 1.5: 8 at each width."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    position_map: bool = False
    """Add a fixed sinusoidal map of places behind the first convolution. SD's UNets learn places from zero padding; a
    small network that is trained from nothing learns much sooner with it to look at the same place of the portrait."""

    def __post_init__(self) -> None:
        check(len(self.block_out_channels) >= 2, "unet.block_out_channels", self.block_out_channels, "2 widths or more")
        all_positive(self, "unet", "layers_per_block", "attention_heads", "norm_groups")
        for width in self.block_out_channels:
            check(
                width > 0 and width % self.norm_groups == 0 and width % self.attention_heads == 0,
                "unet.block_out_channels",
                self.block_out_channels,
                f"multiples of {self.norm_groups} groups and of {self.attention_heads} heads",
            )


@dataclass(frozen=True)
class ReferenceConfig:
    """How the Backbone sees the ReferenceNet's self-attention feature maps."""

    mode: Literal["cross", "concat"] = "cross"
    """``cross``: an attention of its own in the place of SD's text attention (EMO, section 3.2).
    ``concat``: reference tokens join the K/V of the self-attention (Hallo)."""
    null: Literal["zero", "learned"] = "zero"
    """What the unconditional half gets in ``cross`` mode: nothing at all, or one learned token per site."""
    face_tokens: int = 0
    """Identity tokens made from a face embedding, cross-attended at each site (Hallo: 4). 0 = none."""
    face_embedding_dim: int = 512
    """Length of the face embedding (ArcFace: 512). Unused without face tokens."""
    face_token_dim: int = 768
    """Width of one face token. Unused without face tokens."""

    def __post_init__(self) -> None:
        check(self.mode in ("cross", "concat"), "reference.mode", self.mode, "'cross' or 'concat'")
        check(self.null in ("zero", "learned"), "reference.null", self.null, "'zero' or 'learned'")
        check(self.face_tokens >= 0, "reference.face_tokens", self.face_tokens, "0 or more")
        all_positive(self, "reference", "face_embedding_dim", "face_token_dim")
        check(
            self.mode == "concat" or self.face_tokens == 0,
            "reference.face_tokens",
            self.face_tokens,
            "0 in 'cross' mode: the face tokens take the same place as the reference attention",
        )


@dataclass(frozen=True)
class TemporalConfig:
    """Temporal modules (AnimateDiff v2 layout; EMO section 3.2, Temporal Modules)."""

    heads: int = 8
    """Heads of the temporal attentions."""
    attention_layers: int = 2
    """Self-attentions along frames in one module."""
    max_positions: int = 32
    """Length of the sinusoidal position table; motion frames + frames must fit."""
    sites: Literal["all", "attention"] = "all"
    """Where temporal modules run: everywhere (EMO), or only where the Backbone has spatial attention. Hallo's
    checkpoint has weights for all, but its inference leaves out those of the two blocks without attention."""

    def __post_init__(self) -> None:
        all_positive(self, "temporal", "heads", "attention_layers", "max_positions")
        check(self.sites in ("all", "attention"), "temporal.sites", self.sites, "all or attention")


@dataclass(frozen=True)
class SpeedConfig:
    """Speed layers: head-rotation speed → buckets → MLP → cross-attention (EMO section 3.2, Speed Layers)."""

    centres: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7)
    """c_i: bucket centres, in the unit of the speed label. Number and place are not published."""
    radius: float = 0.1
    """r_i: the radius of every bucket; s_i = tanh((w − c_i) / r_i · 3)."""
    hidden_dim: int = 256
    """Width of the MLP's hidden layer."""
    token_dim: int = 256
    """l: width of the speed token that each frame gets."""
    in_unconditional: bool = True
    """Whether the unconditional half also gets the speed. Where it does not, guidance strengthens the speed, too."""

    def __post_init__(self) -> None:
        check(len(self.centres) >= 1, "speed.centres", self.centres, "1 centre or more")
        all_positive(self, "speed", "radius", "hidden_dim", "token_dim")


@dataclass(frozen=True)
class LocatorConfig:
    """Face locator: a light convolutional encoder of the face mask (EMO section 3.2, Face Locator)."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Widths; each step halves the resolution, so one fewer step than widths must give the latent's size."""
    in_channels: int = 1
    """Channels of the mask picture (Hallo: 3)."""
    in_unconditional: bool = True
    """Whether the unconditional half also gets the face feature (Hallo: no)."""
    margin: float = 0.0
    """Room to move: space added to each side of the portrait's face box, in box widths and heights. Checkpoints are
    trained with the union of a video's face boxes, which is larger than the box of one frame."""

    def __post_init__(self) -> None:
        all_positive(self, "locator", "channels", "in_channels")
        check(0 <= self.margin <= 4, "locator.margin", self.margin, "0 … 4")


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder; the names are those of ``diffusers.AutoencoderKL``."""

    kind: Literal["kl", "light"] = "kl"
    """``kl``: ``diffusers.AutoencoderKL``. ``light``: ReLU convolutions without norms and attention, most of them at
    the coarse resolutions, and a pixel shuffle at the end: built for CPUs."""
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    """Width of each resolution, finest first; one fewer halvings than widths. ``light``: of the encoder."""
    layers_per_block: int = 2
    """Residual blocks per resolution. ``light``: of the encoder."""
    decoder_channels: tuple[int, ...] = ()
    """``light``: width of each of the decoder's resolutions, coarsest first, as many as ``block_out_channels``."""
    decoder_blocks: tuple[int, ...] = ()
    """``light``: residual blocks at each of the decoder's resolutions."""
    shuffle: int = 1
    """``light``: pixels along one side that the finest resolution packs into channels."""
    latent_channels: int = 4
    """Channels of a latent."""
    norm_num_groups: int = 32
    """Groups of every GroupNorm."""
    scaling_factor: float = 0.18215
    """Latents are multiplied by this after encoding (SD 1.5)."""
    mid_block_attention: bool = True
    """Whether the middle block has its single-head attention."""

    def __post_init__(self) -> None:
        all_positive(self, "vae", "block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups",
                      "scaling_factor", "shuffle")  # fmt: skip
        check(self.kind in ("kl", "light"), "vae.kind", self.kind, "'kl' or 'light'")
        levels = len(self.block_out_channels) if self.kind == "light" else 0
        for name in ("decoder_channels", "decoder_blocks"):
            value = getattr(self, name)
            expected = f"{levels} numbers, each more than 0" if levels else "() where kind is 'kl'"
            check(len(value) == levels and all(number > 0 for number in value), f"vae.{name}", value, expected)
        check(self.kind == "light" or self.shuffle == 1, "vae.shuffle", self.shuffle, "1 where kind is 'kl'")
        check(self.shuffle.bit_count() == 1, "vae.shuffle", self.shuffle, "a power of 2")

    @property
    def downsampling(self) -> int:
        """Pixels per latent pixel, along one side."""
        return int(2 ** (len(self.block_out_channels) - 1)) * self.shuffle


@dataclass(frozen=True)
class ScheduleConfig:
    """The diffusion schedule that the checkpoint was trained with."""

    train_timesteps: int = 1000
    """Length of the training schedule."""
    beta_start: float = 0.00085
    """First beta."""
    beta_end: float = 0.012
    """Last beta."""
    beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear"
    """``linear`` in beta, or in its square root (SD 1.5)."""
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    """What the network predicts."""
    zero_terminal_snr: bool = False
    """Rescale the betas so that the last step is pure noise (arXiv 2305.08891)."""
    timestep_spacing: Literal["leading", "trailing"] = "leading"
    """How inference steps are spread over the training steps."""
    steps_offset: int = 1
    """Added to every inference timestep with ``leading`` spacing."""

    def __post_init__(self) -> None:
        check(self.train_timesteps >= 2, "schedule.train_timesteps", self.train_timesteps, "2 or more")
        check(0 < self.beta_start < self.beta_end < 1, "schedule.beta_start, beta_end",
              (self.beta_start, self.beta_end), "0 < beta_start < beta_end < 1")  # fmt: skip
        choices = {
            "beta_schedule": ("linear", "scaled_linear"),
            "prediction_type": ("epsilon", "v_prediction"),
            "timestep_spacing": ("leading", "trailing"),
        }
        for name, allowed in choices.items():
            check(getattr(self, name) in allowed, f"schedule.{name}", getattr(self, name), f"one of {allowed}")
        check(
            not (self.zero_terminal_snr and self.prediction_type == "epsilon"),
            "schedule.zero_terminal_snr",
            True,
            "false with 'epsilon': at zero SNR the noise says nothing about the picture",
        )


@dataclass(frozen=True)
class WindowsConfig:
    """Overlapping windows: a step predicts the video window by window and averages where they overlap (EchoMimic)."""

    overlap: int = 3
    """Frames that two windows share. A window has ``ModelConfig.frames`` frames."""
    shift: int = 2
    """Frames by which all windows move from step to step, around the end of the video."""
    noise_limit: float = 1.5
    """Noise is cut off at this distance from 0, before the first step."""
    longest_s: float = 600.0
    """Longest sound where the caller sets no limit, in seconds: the latents of the whole video are in memory at once,
    94 MB a minute at 512 pixels and 24 frames per second."""

    def __post_init__(self) -> None:
        check(self.overlap >= 0, "windows.overlap", self.overlap, "0 or more")
        check(self.shift >= 0, "windows.shift", self.shift, "0 or more")
        all_positive(self, "windows", "noise_limit", "longest_s")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the graphs of one checkpoint."""

    name: str = "emo"
    """Name of the preset or checkpoint."""
    family: str = "emo"
    """Family of checkpoints, one of :data:`emo_rt.model.families.FAMILIES`: what the graphs take, hear and carry."""
    size: int = 512
    """Width and height of the generated picture, in pixels."""
    frames: int = 12
    """F: frames generated by one clip."""
    motion_frames: int = 4
    """N: last frames of the previous clip that the next one continues. 0 with overlapping windows."""
    fps: int = 30
    """Frames per second of the video."""
    guidance: float = 3.5
    """Default classifier-free guidance scale (not published for EMO; Hallo: 3.5)."""
    decode_frames: int = 4
    """Frames that one run of the VAE decoder takes."""
    motion_source: Literal["latents", "reencoded"] = "latents"
    """``latents``: motion frames are the previous clip's latents. ``reencoded``: decoded to pixels and encoded again
    (Hallo)."""
    first_motion: Literal["zeros", "portrait"] = "zeros"
    """Motion frames of the first clip: zero maps (EMO) or the portrait repeated (Hallo)."""
    unet: UNetConfig = field(default_factory=UNetConfig)
    """Backbone and ReferenceNet."""
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    """Reference attention."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    """Audio encoder, projector and attention."""
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    """Temporal modules."""
    speed: SpeedConfig | None = field(default_factory=SpeedConfig)
    """Speed layers, or none (Hallo)."""
    locator: LocatorConfig = field(default_factory=LocatorConfig)
    """Face locator."""
    vae: VaeConfig = field(default_factory=VaeConfig)
    """Autoencoder."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Diffusion schedule."""
    windows: WindowsConfig | None = None
    """Overlapping windows over the whole video, or none: clip after clip."""
    deep_cache: int | None = None
    """Have step graphs that take the inner blocks' result from an earlier step and compute only so many residual
    blocks at the finest resolution on the way down, and one more on the way up (DeepCache, arXiv 2312.00858; its
    branch); ``None`` = no such graphs."""

    def __post_init__(self) -> None:
        factor = self.vae.downsampling * 2 ** (len(self.unet.block_out_channels) - 1)
        check(self.size >= factor and self.size % factor == 0, "size", self.size, f"a multiple of {factor} pixels")
        check(self.frames >= 2, "frames", self.frames, "2 or more")
        self._check_continuation()
        positions = self.frames + self.motion_frames
        check(
            positions <= self.temporal.max_positions,
            "frames + motion_frames",
            positions,
            f"at most temporal.max_positions = {self.temporal.max_positions}",
        )
        check(
            self.audio.context_frames <= self.frames,
            "audio.context_frames",
            self.audio.context_frames,
            f"at most frames = {self.frames}: a clip hears its own and the next clip's frames, no others",
        )
        check(1 <= self.fps <= 120, "fps", self.fps, "1 … 120")
        check(self.guidance >= 0, "guidance", self.guidance, "0 or more")
        check(self.motion_source in ("latents", "reencoded"), "motion_source", self.motion_source, "latents, reencoded")
        check(self.first_motion in ("zeros", "portrait"), "first_motion", self.first_motion, "zeros or portrait")
        decoded = self.frames - (self.motion_frames if self.motion_source == "reencoded" else 0)
        check(
            self.decode_frames >= 1 and decoded % self.decode_frames == 0,
            "decode_frames",
            self.decode_frames,
            f"a divisor of the {decoded} frames that are decoded per clip",
        )
        check(
            2 ** (len(self.locator.channels) - 1) == self.vae.downsampling,
            "locator.channels",
            self.locator.channels,
            f"{self.vae.downsampling.bit_length()} widths: the face feature has the latent's size",
        )
        check(
            all(width % self.temporal.heads == 0 for width in self.unet.block_out_channels),
            "temporal.heads",
            self.temporal.heads,
            f"a divisor of each of unet.block_out_channels = {self.unet.block_out_channels}",
        )
        layers = self.unet.layers_per_block
        check(
            self.deep_cache is None or (type(self.deep_cache) is int and 0 <= self.deep_cache <= layers),
            "deep_cache",
            self.deep_cache,
            f"0 … unet.layers_per_block = {layers}, or None",
        )
        self._check_audio_windows()

    def _check_continuation(self) -> None:
        """How one clip or window goes over into the next."""
        if self.windows is None:
            check(1 <= self.motion_frames < self.frames, "motion_frames", self.motion_frames, f"1 … {self.frames - 1}")
            return
        check(self.motion_frames == 0, "motion_frames", self.motion_frames, "0 with overlapping windows")
        overlap, most = self.windows.overlap, self.frames - 1
        check(overlap <= most, "windows.overlap", overlap, f"0 … {most}: less than a window's {self.frames} frames")

    def _check_audio_windows(self) -> None:
        for name in ("window_frames", "left_context_frames", "right_context_frames"):
            frames = getattr(self.audio, name)
            check(
                frames * AUDIO_SAMPLE_RATE % self.fps == 0,
                f"audio.{name}",
                frames,
                f"a whole number of samples at {AUDIO_SAMPLE_RATE} Hz and {self.fps} fps",
            )

    @property
    def latent_size(self) -> int:
        """S: width and height of a latent."""
        return self.size // self.vae.downsampling

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :func:`emo_rt.checks.from_dict` reads them back. Without windows nothing is said of
        them, as before there were any."""
        values = dataclasses.asdict(self)
        return values if self.windows else {name: value for name, value in values.items() if name != "windows"}
