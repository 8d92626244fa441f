"""Names of EchoMimic's tensors ↔ ours."""

from __future__ import annotations

import re

BLOCK = r"(\.attentions\.\d+\.transformer_blocks\.0\.)"
WHISPER = (
    ("attn.query.", "self_attn.q_proj."),
    ("attn.key.", "self_attn.k_proj."),
    ("attn.value.", "self_attn.v_proj."),
    ("attn.out.", "self_attn.out_proj."),
    ("attn_ln.", "self_attn_layer_norm."),
    ("mlp.0.", "fc1."),
    ("mlp.2.", "fc2."),
    ("mlp_ln.", "final_layer_norm."),
)
"""Parts of one layer, OpenAI's and transformers'."""
WHISPER_ENDS = {
    "positional_embedding": "embed_positions.weight",
    "ln_post.weight": "layer_norm.weight",
    "ln_post.bias": "layer_norm.bias",
}


def backbone_name(name: str) -> str:
    """Their audio attention has the place and the name of Stable Diffusion's for text."""
    name = re.sub(BLOCK + r"attn2\.", r"\1attn_audio.", name)
    name = re.sub(BLOCK + r"norm2\.", r"\1norm_audio.", name)
    return re.sub(r"\.motion_modules\.(\d+)\.temporal_transformer\.", r".temporal_modules.\1.", name)


def original_backbone_name(name: str) -> str:
    """The way back."""
    name = re.sub(BLOCK + r"attn_audio\.", r"\1attn2.", name)
    name = re.sub(BLOCK + r"norm_audio\.", r"\1norm2.", name)
    return re.sub(r"\.temporal_modules\.(\d+)\.", r".motion_modules.\1.temporal_transformer.", name)


def whisper_name(name: str) -> str:
    """Of a tensor of the encoder, without ``encoder.``."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
    if match is None:
        return WHISPER_ENDS.get(name, name)
    for theirs, ours in WHISPER:
        if match[2].startswith(theirs):
            return f"layers.{match[1]}.{ours}{match[2].removeprefix(theirs)}"
    return name


def original_whisper_name(name: str) -> str:
    """The way back, with ``encoder.``."""
    match = re.fullmatch(r"layers\.(\d+)\.(.*)", name)
    if match is None:
        return "encoder." + {ours: theirs for theirs, ours in WHISPER_ENDS.items()}.get(name, name)
    for theirs, ours in WHISPER:
        if match[2].startswith(ours):
            return f"encoder.blocks.{match[1]}.{theirs}{match[2].removeprefix(ours)}"
    return f"encoder.{name}"
