"""The KL autoencoder: pixels ↔ latents (diffusers' ``AutoencoderKL``, Stable Diffusion 1.5 layout)."""

from __future__ import annotations

from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from emo_rt.model.config import VaeConfig


def make_vae(config: VaeConfig) -> AutoencoderKL:
    """An untrained autoencoder. Its single-head attention is written out as MatMul, Softmax, MatMul: at 512 channels
    a head TensorRT cannot fuse it anyway, and refuses the fused operator."""
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
    vae.set_attn_processor(AttnProcessor())
    return vae


def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in −1 … 1 → latents (B, 4, S, S): the mean of the posterior, scaled."""
    mean = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)[0]
    latents: Tensor = mean * vae.config.scaling_factor
    return latents


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents (B, 4, S, S) → pixels (B, 3, H, W), −1 … 1 and a little beyond."""
    pixels: Tensor = vae.decoder(vae.post_quant_conv(latents / vae.config.scaling_factor))
    return pixels
