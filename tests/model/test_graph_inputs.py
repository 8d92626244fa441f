"""Inputs to try graphs with: those of every family have the shapes, types and ranges of what the runtime hands over."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.model.examples import example_inputs, example_samples
from emo_rt.model.families.registry import graph_specs
from tests.small_bundles import echomimic_tiny, hallo_tiny

CONFIGS = {"emo": preset("tiny"), "hallo": hallo_tiny(), "echomimic": echomimic_tiny()}


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_types_and_ranges(name: str) -> None:
    config, rng = CONFIGS[name], np.random.default_rng(0)
    masks = 0
    for spec in graph_specs(config, "float16", (True, False)):
        found = example_inputs(spec, config, lambda shape: rng.standard_normal(shape, np.float32))
        assert list(found) == [tensor.name for tensor in spec.inputs]
        for tensor in spec.inputs:
            value = found[tensor.name]
            shape = tuple(example_samples(config) if isinstance(size, str) else size for size in tensor.shape)
            assert (value.shape, value.dtype) == (shape, np.float32), (spec.name, tensor.name)
            if "mask" in tensor.name:
                masks += 1
                assert set(np.unique(value)) <= {0, 1}
                assert tensor.dtype == "float32", "it need not be cast"
        assert np.all(found.get("timestep", 500.0) == 500)
        assert np.all(found.get("guidance_scale", config.guidance) == config.guidance)
    assert masks, "no graph took a mask"


def test_the_whole_sound_of_a_clip_where_it_is_heard_at_once() -> None:
    hallo = CONFIGS["hallo"]
    assert example_samples(hallo) == hallo.frames * 16_000 // hallo.fps


def test_each_input_takes_its_own_numbers_in_order() -> None:
    config: ModelConfig = CONFIGS["emo"]
    asked: list[tuple[int, ...]] = []

    def normal(shape: tuple[int, ...]) -> Array:
        asked.append(shape)
        return np.full(shape, len(asked), np.float32)

    (spec,) = [spec for spec in graph_specs(config, "float32", (True,)) if spec.role == "reference"]
    found = example_inputs(spec, config, normal)
    assert asked == [tensor.shape for tensor in spec.inputs]
    assert found["portrait_latent"].flat[0] == 1 + list(found).index("portrait_latent")
