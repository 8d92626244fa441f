"""The full-size network has the published sizes. Counted on the meta device: no memory, no time."""

from __future__ import annotations

import functools

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from torch import nn

from emo_rt.export.networks.backbone import BackboneBlock
from emo_rt.export.networks.model import EmoModel, parameter_counts
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.export.presets import preset

SD_TEXT_DIM = 768
"""Width of SD 1.5's text tokens (CLIP ViT-L)."""

SD_UNET = 859_520_964
ANIMATEDIFF_V2 = 453_209_280


@functools.cache
def full_size(name: str) -> EmoModel:
    with torch.device("meta"):
        return EmoModel(preset(name))


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def temporal_modules(model: EmoModel) -> list[TemporalModule]:
    return [module for module in model.backbone.modules() if isinstance(module, TemporalModule)]


def speed_layers(model: EmoModel) -> list[nn.Module]:
    blocks = [module.transformer_blocks[0] for module in temporal_modules(model)]
    return [layer for block in blocks for layer in (block.norm_speed, block.attn_speed)]


def blocks(model: EmoModel) -> list[BackboneBlock]:
    return [block for _, block in model.blocks()]


def test_published_sizes_are_those_of_diffusers() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=SD_TEXT_DIM, attention_head_dim=8)
        adapter = MotionAdapter(use_motion_mid_block=True)
    assert count(unet) == SD_UNET
    assert count(adapter) == ANIMATEDIFF_V2


def test_emo_backbone_is_sd_15_with_reference_attention_for_text_attention() -> None:
    """Reference attention projects C channels where SD projects 768 text channels: the keys and the values of a site
    have C·C weights instead of 768·C each. Audio attention and its norm, and the temporal modules, are EMO's own."""
    model = full_size("emo")
    audio = count(*(layer for block in blocks(model) for layer in (block.norm_audio, block.attn_audio)))
    widths = [block.norm1.normalized_shape[0] for block in blocks(model)]
    assert len(widths) == 16
    text_for_reference = sum(2 * width * (SD_TEXT_DIM - width) for width in widths)
    assert count(model.backbone) - count(*temporal_modules(model)) - audio + text_for_reference == SD_UNET


def test_emo_temporal_modules_without_speed_layers_are_animatediff_v2() -> None:
    model = full_size("emo")
    assert count(*temporal_modules(model)) - count(*speed_layers(model)) == ANIMATEDIFF_V2


def test_hallo_temporal_modules_are_animatediff_v2() -> None:
    assert count(*temporal_modules(full_size("hallo"))) == ANIMATEDIFF_V2


def test_emo_reference_net_is_sd_15_without_text_attention_and_output() -> None:
    network = full_size("emo").reference_net
    widths = [module.attn1.to_q.in_features for module in network.modules() if hasattr(module, "attn1")]
    # q: C·C, k and v: 768·C, out: C·C + C; norm2: 2·C
    text = sum(2 * width * width + 2 * SD_TEXT_DIM * width + 3 * width for width in widths)
    norm_and_convolution = 2 * 320 + (320 * 4 * 9 + 4)
    assert count(network) + text + norm_and_convolution == SD_UNET


def test_hallo_reference_net_is_sd_15_without_its_output() -> None:
    assert count(full_size("hallo").reference_net) + 2 * 320 + (320 * 4 * 9 + 4) == SD_UNET


def test_hallo_backbone_is_sd_15_with_temporal_and_audio_modules() -> None:
    model = full_size("hallo")
    audio = [parts["audio_modules"] for _, parts in model.backbone_parts() if "audio_modules" in parts]
    assert len(audio) == 16
    assert count(model.backbone) - count(*temporal_modules(model)) - count(*audio) == SD_UNET


@pytest.mark.parametrize("name", ["emo", "hallo"])
def test_vae_and_audio_encoder_are_the_public_ones(name: str) -> None:
    counts = parameter_counts(full_size(name))
    assert counts["vae"] == 83_653_863
    assert counts["audio_encoder"] == 94_371_712 - 768  # transformers' wav2vec2-base less an unused mask embedding


@pytest.mark.parametrize("name", ["demo", "demo256"])
def test_demo_backbones_are_small(name: str) -> None:
    assert 4e6 < parameter_counts(full_size(name))["backbone"] < 8e6


def test_parts_add_up_to_the_model() -> None:
    for name in ("emo", "hallo", "demo", "demo256", "tiny"):
        counts = parameter_counts(full_size(name))
        assert sum(value for part, value in counts.items() if ":" not in part) == count(full_size(name)), name
