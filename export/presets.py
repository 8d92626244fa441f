"""Named model configurations."""

from __future__ import annotations

from dataclasses import replace

from emo_rt.errors import ConfigError
from emo_rt.model.config import (
    AudioConfig,
    LocatorConfig,
    ModelConfig,
    ReferenceConfig,
    ScheduleConfig,
    SpeedConfig,
    TemporalConfig,
    UNetConfig,
    VaeConfig,
    Wav2VecConfig,
    WhisperConfig,
    WindowsConfig,
)


def preset(name: str) -> ModelConfig:
    """``emo`` (paper, full size), ``hallo`` and ``echomimic`` (public checkpoints' layouts), ``demo`` (ours, small,
    128×128, as it ships), ``demo256`` (ours at 256×256; no trained weights yet) or ``tiny`` (tests).

    Raises :class:`ConfigError` for another name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return _MAKERS[name]()


def _emo() -> ModelConfig:
    return ModelConfig(name="emo")


def _hallo() -> ModelConfig:
    return ModelConfig(
        name="hallo",
        family="hallo",
        frames=16,
        motion_frames=2,
        fps=25,
        decode_frames=2,
        motion_source="reencoded",
        first_motion="portrait",
        reference=ReferenceConfig(mode="concat", face_tokens=4),
        audio=AudioConfig(attention="hierarchical", normalize=True, window_frames=0),
        temporal=TemporalConfig(sites="attention"),
        speed=None,
        locator=LocatorConfig(in_channels=3, in_unconditional=False),
        schedule=ScheduleConfig(
            beta_schedule="linear",
            prediction_type="v_prediction",
            zero_terminal_snr=True,
            timestep_spacing="trailing",
        ),
    )


def _echomimic() -> ModelConfig:
    encoder = WhisperConfig()
    return ModelConfig(
        name="echomimic",
        family="echomimic",
        motion_frames=0,
        fps=24,
        guidance=2.5,
        reference=ReferenceConfig(mode="concat"),
        audio=AudioConfig(
            encoder=encoder,
            context_frames=0,
            tokens=10 * encoder.states,
            token_dim=encoder.hidden_size,
            projector_dim=0,
            window_frames=0,
            left_context_frames=0,
            right_context_frames=0,
        ),
        speed=None,
        locator=LocatorConfig(channels=(16, 32, 96, 256), in_unconditional=False),
        windows=WindowsConfig(),
        schedule=ScheduleConfig(
            beta_schedule="linear",
            prediction_type="v_prediction",
            zero_terminal_snr=True,
            timestep_spacing="trailing",
        ),
    )


def _demo() -> ModelConfig:
    """Small enough to train and to run on two CPU cores; its trained weights ship with the package. The denoiser is
    that of ``demo128``: ``training.larger`` trains what is around it."""
    small = _demo128()
    return replace(
        small,
        name="demo",
        size=256,
        audio=replace(small.audio, right_context_frames=2),
        locator=replace(small.locator, channels=(8, 12, 16, 24, 32)),
        vae=replace(_demo256().vae, layers_per_block=1, latent_channels=small.vae.latent_channels),
    )


def _demo128() -> ModelConfig:
    """What ``training`` trains first."""
    return ModelConfig(
        name="demo128",
        size=128,
        fps=25,
        decode_frames=4,
        first_motion="portrait",
        guidance=2.5,
        unet=UNetConfig(
            block_out_channels=(48, 96, 112), layers_per_block=1, attention_heads=4, norm_groups=16, position_map=True
        ),
        audio=AudioConfig(
            encoder=_small_wav2vec(96, 4, 64),
            tokens=4,
            token_dim=96,
            projector_dim=160,
            window_frames=12,
            left_context_frames=25,
            right_context_frames=8,
        ),
        temporal=TemporalConfig(heads=4),
        speed=SpeedConfig(hidden_dim=64, token_dim=64, in_unconditional=False),
        locator=LocatorConfig(channels=(8, 16, 24, 32), margin=0.2),
        vae=VaeConfig(
            block_out_channels=(24, 40, 64, 64),
            layers_per_block=1,
            latent_channels=8,
            norm_num_groups=8,
            scaling_factor=1.0,
            mid_block_attention=False,
        ),
        schedule=ScheduleConfig(prediction_type="v_prediction", zero_terminal_snr=True, timestep_spacing="trailing"),
    )


def _demo256() -> ModelConfig:
    """The next demo model, for heads that travel, with an autoencoder for CPUs: ``training.borrowed`` trains it."""
    return ModelConfig(
        name="demo256",
        size=256,
        fps=25,
        decode_frames=4,
        first_motion="portrait",
        guidance=2.0,
        unet=UNetConfig(
            block_out_channels=(64, 96, 128), layers_per_block=1, attention_heads=2, norm_groups=16, position_map=True
        ),
        audio=AudioConfig(
            encoder=_small_wav2vec(96, 4, 64),
            context_frames=0,  # with neighbours, a clip would wait for the sound of the next one
            tokens=4,
            token_dim=96,
            projector_dim=192,
            window_frames=12,
            left_context_frames=25,
            right_context_frames=2,
        ),
        temporal=TemporalConfig(heads=2),
        speed=SpeedConfig(hidden_dim=64, token_dim=64, in_unconditional=False),
        locator=LocatorConfig(channels=(8, 12, 16, 24, 32), margin=0.2),
        vae=VaeConfig(
            kind="light",
            block_out_channels=(32, 48, 80, 96),
            decoder_channels=(128, 96, 48, 16),
            decoder_blocks=(2, 2, 1, 1),
            shuffle=2,
            latent_channels=24,
            scaling_factor=1.0,
        ),
        schedule=ScheduleConfig(prediction_type="v_prediction", zero_terminal_snr=True, timestep_spacing="trailing"),
    )


def _tiny() -> ModelConfig:
    return ModelConfig(
        name="tiny",
        size=32,
        frames=4,
        motion_frames=2,
        fps=25,
        decode_frames=2,
        unet=UNetConfig(block_out_channels=(16, 32), layers_per_block=1, attention_heads=2, norm_groups=8),
        reference=ReferenceConfig(null="learned"),
        audio=AudioConfig(
            encoder=_small_wav2vec(16, 2, 16),
            context_frames=1,
            tokens=2,
            token_dim=16,
            projector_dim=16,
            null="learned",
            window_frames=4,
            left_context_frames=4,
            right_context_frames=2,
        ),
        temporal=TemporalConfig(heads=2, max_positions=8),
        speed=SpeedConfig(hidden_dim=16, token_dim=16),
        locator=LocatorConfig(channels=(8, 16, 16)),
        vae=VaeConfig(block_out_channels=(16, 16, 16), layers_per_block=1, norm_num_groups=8),
    )


def _small_wav2vec(width: int, layers: int, conv_width: int) -> Wav2VecConfig:
    return Wav2VecConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        conv_dim=(conv_width,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )


_MAKERS = {
    "emo": _emo,
    "hallo": _hallo,
    "echomimic": _echomimic,
    "demo": _demo,
    "demo128": _demo128,
    "demo256": _demo256,
    "tiny": _tiny,
}
PRESETS = tuple(_MAKERS)
"""Names that :func:`preset` knows."""
