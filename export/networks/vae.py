"""The autoencoder: pixels ↔ latents (diffusers' ``AutoencoderKL``, Stable Diffusion 1.5 layout, or a light one)."""

from __future__ import annotations

from diffusers import AutoencoderKL
from torch import Tensor

from emo_rt.export.networks.light_vae import LightVae
from emo_rt.export.networks.vae_attention import ScaledQueryProcessor
from emo_rt.model.config import VaeConfig

Vae = AutoencoderKL | LightVae
"""Both have ``encoder``, ``quant_conv``, ``post_quant_conv``, ``decoder`` and ``config.scaling_factor``."""


def make_vae(config: VaeConfig) -> Vae:
    """An untrained autoencoder. The single-head attention of diffusers' is written out as MatMul, Softmax, MatMul: at
    512 channels a head TensorRT cannot fuse it anyway, and refuses the fused operator."""
    if config.kind == "light":
        return LightVae(config)
    levels = len(config.block_out_channels)
    vae = AutoencoderKL(
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        scaling_factor=config.scaling_factor,
        mid_block_add_attention=config.mid_block_attention,
    )
    vae.set_attn_processor(ScaledQueryProcessor())
    return vae


def encode(vae: Vae, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in −1 … 1 → latents (B, 4, S, S): the mean of the posterior, scaled."""
    mean = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)[0]
    latents: Tensor = mean * vae.config.scaling_factor
    return latents


def decode(vae: Vae, latents: Tensor) -> Tensor:
    """Latents (B, 4, S, S) → pixels (B, 3, H, W), −1 … 1 and a little beyond."""
    pixels: Tensor = vae.decoder(vae.post_quant_conv(latents / vae.config.scaling_factor))
    return pixels
