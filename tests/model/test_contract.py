"""The contract: names, shapes and which graph feeds which."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emo_rt.errors import BundleError
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import DTYPES, GraphSpec, TensorSpec, sites, time_channels
from emo_rt.model.families.registry import graph_specs
from tests.conftest import hallo_tiny

PRESETS = [preset(name) for name in ("emo", "hallo", "demo", "demo256", "tiny")] + [hallo_tiny()]

RUN_INPUTS = {"pixels", "waveform", "face_mask", "face_embedding", "audio_windows", "speed", "motion_latents",
              "timestep", "latents", "x0_history", "coefficients", "guidance_scale", "motion_scale",
              "frame_latents", "last_latents"}  # fmt: skip
"""Tensors that the runtime fills itself, and ``audio_mask.*``."""


def specs(config: ModelConfig, **options: Any) -> dict[str, GraphSpec]:
    return {spec.name: spec for spec in graph_specs(config, **options)}


def shapes(tensors: tuple[TensorSpec, ...]) -> dict[str, tuple[int | str, ...]]:
    return {tensor.name: tensor.shape for tensor in tensors}


@pytest.fixture(params=PRESETS, ids=lambda config: config.name)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    chosen: ModelConfig = request.param
    return chosen


def test_names_are_unique_within_a_graph(config: ModelConfig) -> None:
    for spec in graph_specs(config, guidance=(True, False)):
        names = [tensor.name for tensor in (*spec.inputs, *spec.outputs)]
        assert len(names) == len(set(names)), spec.name


def test_graph_names_are_unique(config: ModelConfig) -> None:
    names = [spec.name for spec in graph_specs(config, guidance=(True, False))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("guidance", [(True,), (False,), (True, False)])
def test_every_input_is_given_by_an_earlier_graph_or_by_the_runtime(
    config: ModelConfig, guidance: tuple[bool, ...]
) -> None:
    known = set(RUN_INPUTS)
    for spec in graph_specs(config, guidance=guidance):
        needed = {tensor.name for tensor in spec.inputs if not tensor.name.startswith("audio_mask.")}
        assert needed <= known, (spec.name, needed - known)
        known |= {tensor.name for tensor in spec.outputs}


def test_tensors_with_one_name_are_alike_in_all_graphs(config: ModelConfig) -> None:
    seen: dict[str, TensorSpec] = {}
    for spec in graph_specs(config, guidance=(True,)):
        for tensor in (*spec.inputs, *spec.outputs):
            assert seen.setdefault(tensor.name, tensor) == tensor


def test_what_reference_and_clip_give_is_used(config: ModelConfig) -> None:
    graphs = specs(config)
    taken = {tensor.name for name in ("clip", "step") for tensor in graphs[name].inputs}
    given = {tensor.name for name in ("reference", "clip") for tensor in graphs[name].outputs}
    assert given - taken == {"audio_tokens"}


def test_a_step_hands_its_state_to_the_next(config: ModelConfig) -> None:
    step = specs(config)["step"]
    inputs, outputs = shapes(step.inputs), shapes(step.outputs)
    assert outputs["next_latents"] == inputs["latents"]
    assert outputs["next_x0_history"] == inputs["x0_history"]


def test_only_the_audio_encoder_has_dynamic_axes(config: ModelConfig) -> None:
    dynamic = {
        spec.name
        for spec in graph_specs(config)
        for tensor in (*spec.inputs, *spec.outputs)
        if any(isinstance(size, str) for size in tensor.shape)
    }
    assert dynamic == {"audio_encoder"}


def test_sd_15_has_21_sites_of_which_16_have_attention() -> None:
    places = sites(preset("emo").unet)
    assert len(places) == 21
    assert sum(site.attention for site in places) == 16


def test_site_names_are_unique(config: ModelConfig) -> None:
    names = [site.name for site in sites(config.unet)]
    assert len(names) == len(set(names))


def test_the_time_embedding_serves_every_residual_block_of_sd_15() -> None:
    assert len(time_channels(preset("emo").unet)) == 22


def test_full_size_shapes() -> None:
    graphs = specs(preset("emo"))
    step = shapes(graphs["step"].inputs)
    assert step["latents"] == (12, 4, 64, 64)
    assert step["x0_history"] == (2, 12, 4, 64, 64)
    assert step["coefficients"] == (6,)
    assert step["reference_key.down_0_0"] == (1, 64 * 64, 320)
    assert step["reference_key.mid"] == (1, 8 * 8, 1280)
    assert step["audio_value.up_1_0"] == (12, 32, 1280)
    assert step["motion.down_3_0"] == (8 * 8, 4, 1280)
    assert step["speed_key.down_1_0"] == (1, 12, 640)
    assert shapes(graphs["clip"].inputs)["audio_windows"] == (12, 5, 12, 768)
    assert shapes(graphs["vae_decoder"].outputs)["pixels_rgb"] == (4, 512, 512, 3)
    assert shapes(graphs["step"].outputs)["prediction"] == (2, 12, 4, 64, 64)


def test_reference_features_of_full_size_take_46_mb_in_fp16() -> None:
    tensors = specs(preset("emo"), dtype="float16")["reference"].outputs
    total = sum(tensor.nbytes for tensor in tensors if tensor.name.startswith("reference_"))
    assert total == pytest.approx(46e6, rel=0.05)  # DESIGN: measured floor


def test_hallo_has_face_tokens_audio_regions_and_no_speed() -> None:
    step = shapes(specs(preset("hallo"))["step"].inputs)
    assert step["face_key.down_0_0"] == (1, 4, 320)
    assert step["motion_scale"] == (3,)
    assert step["audio_mask.0"] == (3, 64 * 64)
    assert {"audio_full_key.mid", "audio_face_key.mid", "audio_lip_key.mid", "motion_unconditional.mid"} <= set(step)
    assert not [name for name in step if name.startswith("speed") or name == "motion.down_3_0"]


def test_the_unguided_step_has_no_scale_and_one_prediction() -> None:
    unguided = specs(preset("tiny"), guidance=(False,))["step_unguided"]
    assert "guidance_scale" not in shapes(unguided.inputs)
    assert shapes(unguided.outputs)["prediction"][0] == 1


def test_state_stays_in_single_precision() -> None:
    tensors = specs(preset("tiny"), dtype="float16")["step"]
    types = {tensor.name: tensor.dtype for tensor in (*tensors.inputs, *tensors.outputs)}
    for name in ("latents", "x0_history", "coefficients", "guidance_scale", "next_latents", "next_x0_history"):
        assert types[name] == "float32"
    assert types["time_embedding"] == types["reference_key.mid"] == "float16"


def test_specs_survive_json(config: ModelConfig) -> None:
    for spec in graph_specs(config, guidance=(True, False)):
        assert GraphSpec.from_dict(spec.name, json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_size_of_a_tensor() -> None:
    assert {dtype: TensorSpec("x", dtype, (2, 3)).nbytes for dtype in DTYPES} == {
        "float32": 24,
        "float16": 12,
        "uint8": 6,
    }


def test_a_dynamic_tensor_has_no_size() -> None:
    with pytest.raises(BundleError, match=r"x has the dynamic axis 'samples'"):
        TensorSpec("x", "float32", (1, "samples")).nbytes  # noqa: B018


@pytest.mark.parametrize(
    "row",
    [
        ["x", "float32"],
        ["x", "float32", 3],
        ["x", "float64", [1]],
        ["x", ["float32"], [1]],
        ["x", "float32", [0]],
        ["x", "float32", [-1]],
        ["x", "float32", [1.0]],
        ["x", "float32", [True]],
        [1, "float32", [1]],
        None,
    ],
)
def test_a_malformed_tensor_of_the_manifest_is_refused(row: Any) -> None:
    with pytest.raises(BundleError, match=r"description of graph 'step' is malformed"):
        GraphSpec.from_dict("step", {"inputs": [row], "outputs": []})
