"""What the graphs compute once, share or leave out gives the same numbers as the plain formulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    CONFIGS,
    Tensors,
    caller_inputs,
    modules_by_name,
    relative_error,
    run_graphs,
    run_plain,
    small_model,
)
from torch import Tensor

from emo_rt.export.networks import attention as attention_module
from emo_rt.export.networks import backbone as backbone_module
from emo_rt.export.networks.attention import KeyValue, attend, attend_shared, make_attention, null_output, project
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.networks.unet import residual
from emo_rt.model.config import LocatorConfig, ModelConfig, ReferenceConfig, SpeedConfig, TemporalConfig, UNetConfig

BOUND = 1e-5
"""Largest relative error in fp32 (issue 2, section 2)."""

EMO, HALLO = "emo, learned nulls", "hallo"


def close(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and relative_error(ours, theirs) <= BOUND


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def written_out(attention: Attention, hidden: Tensor, context: Tensor) -> Tensor:
    """Multi-head softmax attention of (batch, tokens, channels), one head after another."""
    query, key, value = attention.to_q(hidden), attention.to_k(context), attention.to_v(context)
    parts = [tensor.chunk(attention.heads, dim=2) for tensor in (query, key, value)]
    heads = [(q @ k.mT / math.sqrt(q.shape[2])).softmax(2) @ v for q, k, v in zip(*parts, strict=True)]
    output: Tensor = attention.to_out[0](torch.cat(heads, dim=2))
    return output


def whole_prediction(model: EmoModel, guided: bool) -> tuple[Tensor, Tensor]:
    """The split graphs' prediction and the plain one's."""
    modules = modules_by_name(model, guided)
    inputs = caller_inputs(modules)
    return run_graphs(modules, inputs)["prediction"], run_plain(model, inputs, guided)


@pytest.mark.parametrize("guided", [True, False], ids=["guided", "unguided"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_whole_prediction_equals_the_plain_formulation(name: str, guided: bool) -> None:
    ours, theirs = whole_prediction(small_model(name), guided)
    assert len(ours) == len(theirs) == 1 + guided
    assert all(close(*pair) for pair in zip(ours, theirs, strict=True))


@st.composite
def small_configs(draw: st.DrawFn) -> ModelConfig:
    """Every switch of the networks, at small sizes."""
    manner = draw(st.sampled_from((EMO, HALLO)))
    base = CONFIGS[manner]
    heads, groups = draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 4, 8)))
    widths = draw(st.lists(st.sampled_from((8, 16, 24)), min_size=2, max_size=3))
    # With face tokens N is even, as in Hallo: its tiling gives the portrait the wrong tokens for odd N.
    motion_frames = draw(st.sampled_from((2, 4) if manner == HALLO else (1, 2, 3)))
    frames = draw(st.integers(motion_frames + 1, 6))
    reference = base.reference if manner == HALLO else ReferenceConfig(null=draw(st.sampled_from(("zero", "learned"))))
    audio = replace(base.audio, context_frames=draw(st.integers(0, 2)), tokens=draw(st.integers(1, 3)))
    audio = replace(audio, null=draw(st.sampled_from(("zero", "learned"))))
    return replace(
        base,
        frames=frames,
        motion_frames=motion_frames,
        decode_frames=1,
        unet=UNetConfig(tuple(widths), draw(st.integers(1, 2)), heads, groups),
        reference=reference,
        audio=audio,
        temporal=TemporalConfig(
            draw(st.sampled_from((1, 2))), draw(st.integers(1, 3)), 10, draw(st.sampled_from(("all", "attention")))
        ),
        speed=None if manner == HALLO else draw(st.sampled_from((None, SpeedConfig(hidden_dim=8, token_dim=8)))),
        locator=LocatorConfig(base.locator.channels, base.locator.in_channels, draw(st.booleans())),
    )


@settings(max_examples=20, deadline=None)
@given(config=small_configs(), guided=st.booleans(), seed=st.integers(0, 100))
def test_whole_prediction_equals_the_plain_formulation_in_any_configuration(
    config: ModelConfig, guided: bool, seed: int
) -> None:
    ours, theirs = whole_prediction(build_model(config, seed), guided)
    assert all(close(*pair) for pair in zip(ours, theirs, strict=True))


@pytest.fixture(params=[EMO, HALLO])
def clip(request: pytest.FixtureRequest) -> tuple[EmoModel, Tensors]:
    """A model, and the tensors of one guided step."""
    model = small_model(request.param)
    modules = modules_by_name(model)
    return model, run_graphs(modules, caller_inputs(modules))


def portrait_maps(model: EmoModel, tensors: Tensors) -> Tensors:
    """ReferenceNet features of the portrait: for Hallo of both guidance halves, as its two motion frames tile them."""
    if "face_tokens" not in tensors:
        return model.reference_net.features(tensors["portrait_latent"])
    assert model.config.motion_frames == 2
    tokens = torch.cat([model.null_face_tokens(), tensors["face_tokens"]])
    return model.reference_net.features(tensors["portrait_latent"].expand(2, -1, -1, -1), tokens)


def test_reference_keys_and_values_are_those_that_the_attention_would_project(clip: tuple[EmoModel, Tensors]) -> None:
    model, tensors = clip
    maps = portrait_maps(model, tensors)
    for site, block in model.blocks():
        attention = block.reference_attention()
        tokens = maps[site.name].flatten(2).mT
        assert close(tensors[f"reference_key.{site.name}"], attention.to_k(tokens))
        assert close(tensors[f"reference_value.{site.name}"], attention.to_v(tokens))


def test_audio_keys_and_values_are_those_that_the_attention_would_project(clip: tuple[EmoModel, Tensors]) -> None:
    model, tensors = clip
    tokens = model.audio_projector(tensors["audio_windows"])
    suffixes = ("",) if model.config.audio.attention == "single" else ("_full", "_face", "_lip")
    for site, _ in model.blocks():
        for suffix in suffixes:
            attention = model.audio_attention(site, suffix)
            assert close(tensors[f"audio{suffix}_key.{site.name}"], attention.to_k(tokens))
            assert close(tensors[f"audio{suffix}_value.{site.name}"], attention.to_v(tokens))


def test_speed_keys_and_values_are_those_that_the_attention_would_project() -> None:
    model = small_model(EMO)
    modules = modules_by_name(model)
    tensors = run_graphs(modules, caller_inputs(modules))
    tokens = model.speed_encoder(tensors["speed"])[None]
    for site in model.sites:
        attention = model.temporal(site).transformer_blocks[0].attn_speed
        assert close(tensors[f"speed_key.{site.name}"], attention.to_k(tokens))
        assert close(tensors[f"speed_value.{site.name}"], attention.to_v(tokens))


def test_face_feature_of_a_portrait_is_the_locators_output_for_every_frame(clip: tuple[EmoModel, Tensors]) -> None:
    model, tensors = clip
    frames = tensors["face_mask"].expand(model.config.frames, -1, -1, -1)
    assert close(tensors["face_feature"].expand(model.config.frames, -1, -1, -1), model.face_locator(frames))


def test_time_shifts_equal_the_embedding_inside_every_residual_block(clip: tuple[EmoModel, Tensors]) -> None:
    backbone = clip[0].backbone
    timestep = torch.tensor([321.0])
    embedding = backbone.time_embedding(backbone.time_proj(timestep))
    blocks = backbone.residual_blocks()
    shifts = backbone.time_shifts(timestep).split([block.out_channels for block in blocks], dim=1)
    for block, shift in zip(blocks, shifts, strict=True):
        hidden = noise(3, block.in_channels, 4, 4)
        assert close(residual(block, hidden, shift), block(hidden, embedding))


def test_reference_attention_is_computed_for_the_conditional_half_only(
    clip: tuple[EmoModel, Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is computed against the portrait and thrown away: its keys meet F frames of queries, not 2 F."""
    model, tensors = clip
    shared_tokens = {site.name: tensors[f"reference_key.{site.name}"].shape[1] for site, _ in model.blocks()}
    met: list[int] = []
    original: Callable[..., Tensor] = attention_module.mix

    def counting(queries: Tensor, context: KeyValue, heads: int) -> Tensor:
        key = context[0]
        for site, _ in model.blocks():
            reference = tensors[f"reference_key.{site.name}"]
            own = key.shape[1] - shared_tokens[site.name]
            if key.shape[2] == reference.shape[2] and own >= 0 and torch.equal(key[:1, own:], reference[:1]):
                met.append(queries.shape[0] * queries.shape[1] // shared_tokens[site.name])
        return original(queries, context, heads)

    for module in (attention_module, backbone_module):
        monkeypatch.setattr(module, "mix", counting)
    run_graphs({"step": modules_by_name(model)["step"]}, tensors)
    assert met == [model.config.frames] * len(model.blocks())


@pytest.mark.parametrize("null", ["zero", "learned"])
def test_unconditional_half_gets_the_null_reference_without_attention(null: str) -> None:
    model = small_model("emo, learned nulls" if null == "learned" else "emo, zero nulls")
    modules = modules_by_name(model)
    tensors = run_graphs(modules, caller_inputs(modules)) | model.null_features()
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("audio_key")}  # the voice apart
    for site, block in model.blocks():
        alone = noise(model.config.frames, (model.config.latent_size >> site.level) ** 2, site.channels)
        ours = block._hear_nothing(alone, site, tensors)
        if null == "zero":
            assert torch.equal(ours, alone)
        else:
            nothing = block.null_reference.expand(len(alone), -1, -1)
            assert close(ours, alone + written_out(block.attn2, block.norm2(alone), nothing))


def test_self_attention_of_the_unconditional_half_is_its_own_when_reference_tokens_are_concatenated() -> None:
    model = small_model(HALLO)
    modules = modules_by_name(model)
    tensors = run_graphs(modules, caller_inputs(modules))
    maps = portrait_maps(model, tensors)
    assert model.config.frames % 2 == 0  # so that the conditional half starts with the first set
    for site, block in model.blocks():
        normed = noise(2 * model.config.frames, (model.config.latent_size >> site.level) ** 2, site.channels)
        unconditional, conditional = normed.chunk(2)
        reference = maps[site.name].flatten(2).mT.repeat(len(conditional) // 2, 1, 1)
        ours = block._self_attention(normed, site, tensors, True).chunk(2)
        assert close(ours[0], written_out(block.attn1, unconditional, unconditional))
        assert close(ours[1], written_out(block.attn1, conditional, torch.cat([conditional, reference], dim=1)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_motion_rows_may_be_dropped_before_the_last_attention_gives_them(layers: int) -> None:
    """The plain order: all rows go through every layer, the speed layer and the feed-forward; then N are dropped."""
    config = replace(CONFIGS[EMO], temporal=TemporalConfig(heads=2, attention_layers=layers, max_positions=8))
    model = build_model(config)
    module: Any = model.temporal(model.sites[0])
    block = module.transformer_blocks[0]
    motion, tokens, speed = noise(9, 2, 16), noise(9, 4, 16, seed=1), noise(1, 4, 16, seed=2)
    ours = block(tokens, motion, project(block.attn_speed, speed))

    rows = torch.cat([motion, tokens], dim=1)
    for attention, norm in zip(block.attention_blocks, block.norms, strict=True):
        normed = norm(rows) + attention.pos_encoder.pe[:, :6]
        rows = rows + written_out(attention, normed, normed)
    rows = rows + written_out(block.attn_speed, block.norm_speed(rows), speed.expand(9, -1, -1))
    rows = rows + block.ff(block.ff_norm(rows))
    assert close(ours, rows[:, 2:])


def test_motion_tokens_are_those_that_join_in_front_of_the_frames(clip: tuple[EmoModel, Tensors]) -> None:
    """Norm and projection of motion frames ahead of time: they see no other frame."""
    model, _ = clip
    site = model.sites[0]
    module = model.temporal(site)
    side = model.config.latent_size >> site.level
    features = noise(model.config.motion_frames, site.channels, side, side)
    joined = torch.cat([features, noise(model.config.frames, site.channels, side, side, seed=1)])
    tokens = module.norm(joined).permute(2, 3, 0, 1).flatten(0, 1)
    assert close(module.motion_tokens(features), module.proj_in(tokens)[:, : len(features)])


@settings(max_examples=25, deadline=None)
@given(
    heads=st.sampled_from((1, 2, 4)),
    rows=st.integers(1, 7),
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    context_dim=st.sampled_from((None, 5, 24)),
)
def test_rows_that_share_a_context_may_become_one_row(
    heads: int, rows: int, queries: int, keys: int, context_dim: int | None
) -> None:
    attention = make_attention(8, heads, context_dim).requires_grad_(False)
    hidden, context = noise(rows, queries, 8), noise(1, keys, context_dim or 8, seed=1)
    shared = attend_shared(attention, hidden, project(attention, context))
    copied = attend(attention, hidden, project(attention, context.expand(rows, -1, -1)))
    assert close(shared, copied)
    assert close(shared, written_out(attention, hidden, context.expand(rows, -1, -1)))


def test_attention_to_zero_audio_is_its_output_bias_everywhere(clip: tuple[EmoModel, Tensors]) -> None:
    model, _ = clip
    audio = model.config.audio
    for site, _ in model.blocks():
        attention: Any = model.audio_attention(site, "" if audio.attention == "single" else "_lip")
        hidden = noise(2, 5, attention.to_q.in_features)
        silence = torch.zeros(2, audio.tokens, audio.token_dim)
        assert close(null_output(attention).expand_as(hidden), written_out(attention, hidden, silence))
