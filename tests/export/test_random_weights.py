"""Random weights are repeatable and make a network whose signal neither dies nor explodes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import CONFIGS, caller_inputs, modules_by_name, run_graphs

from emo_rt.export.graph_modules import example_inputs
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig

SMALLER_DEMO = replace(preset("demo"), size=64, frames=5, decode_frames=1)
"""The demo preset at its full width and depth, with fewer pixels and frames: fp16 is slow on a CPU."""


@pytest.mark.parametrize("name", list(CONFIGS))
def test_no_layer_is_zero(name: str) -> None:
    """Each residual branch ends in a layer of two or more dimensions: zero there would make the branch vanish."""
    weights = {key: value for key, value in build_model(CONFIGS[name]).named_parameters() if value.dim() >= 2}
    assert [key for key, value in weights.items() if not value.any()] == []
    ends = ("conv2.weight", "proj_out.weight", "to_out.0.weight", "ff.net.2.weight", "conv_out.weight")
    assert all(any(key.endswith(end) for key in weights) for end in ends)


def test_model_is_deterministic_in_the_seed() -> None:
    states = [build_model(preset("tiny"), seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not torch.equal(states[0]["backbone.conv_in.weight"], states[2]["backbone.conv_in.weight"])


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(4).tolist(), lambda: np.random.rand(4).tolist(), lambda: [random.random() for _ in range(4)]],
    ids=["torch", "numpy", "random"],
)
def test_building_a_model_leaves_the_global_generators_alone(draw: Callable[[], list[float]]) -> None:
    def seed() -> None:
        torch.manual_seed(11)
        np.random.seed(11)
        random.seed(11)

    seed()
    expected = draw()
    seed()
    build_model(preset("tiny"))
    assert draw() == expected


@pytest.mark.parametrize("config", [preset("tiny"), SMALLER_DEMO], ids=["tiny", "demo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_signal_survives_the_depth(config: ModelConfig, dtype: torch.dtype) -> None:
    model = build_model(config).to(dtype)
    modules = modules_by_name(model)
    tensors = run_graphs(modules, caller_inputs(modules))
    assert [key for key, value in tensors.items() if not value.isfinite().all()] == []
    for half in tensors["prediction"]:
        assert 0.05 < half.std() < 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_decoded_pictures_are_neither_flat_nor_saturated(dtype: torch.dtype) -> None:
    decoder = modules_by_name(build_model(preset("tiny")).to(dtype))["vae_decoder"]
    latents = example_inputs(decoder.spec, preset("tiny"))["frame_latents"]
    (pixels,) = decoder(latents)
    assert pixels.dtype == torch.uint8
    assert 2 < pixels.float().std() < 120
    assert ((pixels > 0) & (pixels < 255)).float().mean() > 0.5


@pytest.mark.parametrize("name", list(CONFIGS))
def test_half_precision_is_finite_in_every_graph(name: str) -> None:
    model: EmoModel = build_model(CONFIGS[name]).half()
    for module in modules_by_name(model).values():
        examples = example_inputs(module.spec, model.config)
        outputs = module(*(examples[tensor.name] for tensor in module.spec.inputs))
        assert all(output.isfinite().all() for output in outputs)
