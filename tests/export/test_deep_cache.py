"""Cached steps: the same network, without the blocks whose result is there from an earlier step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emo_rt.errors import ConfigError
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.networks.model import build_model
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import deep_features, step_graph
from emo_rt.model.families.registry import graph_specs
from tests.conftest import hallo_tiny


def run(module: GraphModule, values: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs = module(*(values[tensor.name] for tensor in module.spec.inputs))
    return {tensor.name: value for tensor, value in zip(module.spec.outputs, outputs, strict=True)}


@pytest.mark.parametrize("guided", [True, False], ids=["guided", "unguided"])
@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("layout", [lambda: preset("tiny"), hallo_tiny], ids=["emo", "hallo"])
def test_with_its_own_inner_blocks_a_cached_step_is_the_full_step(layout, kept: int, guided: bool) -> None:  # type: ignore[no-untyped-def]
    config: ModelConfig = replace(layout(), deep_cache=kept)
    modules = {module.spec.name: module for module in graph_modules(build_model(config, seed=3), (True, False))}
    full, cached = modules[step_graph(guided)], modules[step_graph(guided, cached=True)]
    values = example_inputs(full.spec, config, seed=1)
    expected = run(full, values)
    found = run(cached, {**values, deep_features(guided): expected.pop(deep_features(guided))})
    assert found.keys() == expected.keys()
    for name, value in found.items():  # the same operations; torch's convolutions round by the layout of what comes in
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)
    other = run(cached, {**values, deep_features(guided): torch.zeros(_shape(cached))})
    assert not torch.allclose(other["prediction"], found["prediction"]), "it takes what it is given"


def _shape(cached: GraphModule) -> tuple[int, ...]:
    return next(tuple(map(int, t.shape)) for t in cached.spec.inputs if t.name.startswith("deep_features"))


@pytest.mark.parametrize("kept", [-1, 2, 0.5, True])
def test_a_branch_that_is_none_is_refused(kept: object) -> None:
    with pytest.raises(ConfigError, match="deep_cache"):
        replace(preset("tiny"), deep_cache=kept)  # type: ignore[arg-type]


def test_without_it_nothing_changes() -> None:
    names = [spec.name for spec in graph_specs(preset("tiny"), guidance=(True, False))]
    assert not any("cached" in name for name in names)
    step = next(spec for spec in graph_specs(preset("tiny")) if spec.name == "step")
    assert [tensor.name for tensor in step.outputs] == ["next_latents", "next_x0_history", "prediction"]
