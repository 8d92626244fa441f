"""The VAE of public checkpoints, ``sd-vae-ft-mse``: a diffusers folder, with older or newer names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from emo_rt.export.checkpoints.parts import block_widths, count
from emo_rt.export.checkpoints.tensors import Tensors, shape
from emo_rt.model.config import VaeConfig

VAE_FOLDERS = ("sd-vae-ft-mse", "vae")
VAE_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "vae.safetensors")


def vae_config(vae: Tensors, given: Mapping[str, Any], where: str) -> VaeConfig:
    """Widths from the tensors; groups and scale as ``given``, by default those of Stable Diffusion."""
    return VaeConfig(
        block_out_channels=block_widths(vae, "encoder.", where),
        layers_per_block=count(vae, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        latent_channels=shape(vae, "post_quant_conv.weight", where)[0],
        norm_num_groups=int(given.get("norm_num_groups", 32)),
        scaling_factor=float(given.get("scaling_factor", 0.18215)),
        mid_block_attention=any(name.startswith("encoder.mid_block.attentions.") for name in vae),
    )


def vae_name(name: str) -> str:
    """The published VAE has diffusers' older names in its attentions."""
    older = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    match = re.fullmatch(r"(.*\.mid_block\.attentions\.0\.)(query|key|value|proj_attn)(\.\w+)", name)
    return name if match is None else match[1] + older[match[2]] + match[3]
