"""Configurations check themselves, name the range in the message, and survive JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_rt.checks import from_dict
from emo_rt.errors import ConfigError
from emo_rt.export.presets import preset
from emo_rt.model.config import (
    AudioConfig,
    LocatorConfig,
    ModelConfig,
    ReferenceConfig,
    ScheduleConfig,
    SpeedConfig,
    TemporalConfig,
    UNetConfig,
    VaeConfig,
    Wav2VecConfig,
)
from emo_rt.model.options import AnimateOptions
from tests.conftest import hallo_tiny

PRESETS = [preset(name) for name in ("emo", "hallo", "demo", "demo256", "tiny")] + [hallo_tiny()]


@pytest.mark.parametrize("config", PRESETS, ids=lambda config: config.name)
def test_a_config_survives_json(config: ModelConfig) -> None:
    assert from_dict(ModelConfig, json.loads(json.dumps(config.to_dict()))) == config


BAD_SETTINGS: list[tuple[type, dict[str, Any], str]] = [
    (UNetConfig, {"block_out_channels": (320,)}, "2 widths or more"),
    (UNetConfig, {"block_out_channels": (320, 650)}, "multiples of 32 groups and of 8 heads"),
    (UNetConfig, {"layers_per_block": 0}, "more than 0"),
    (UNetConfig, {"attention_heads": 0}, "more than 0"),
    (UNetConfig, {"norm_groups": 0}, "more than 0"),
    (ReferenceConfig, {"mode": "both"}, "'cross' or 'concat'"),
    (ReferenceConfig, {"null": "one"}, "'zero' or 'learned'"),
    (ReferenceConfig, {"face_tokens": -1}, "0 or more"),
    (ReferenceConfig, {"face_tokens": 4}, "0 in 'cross' mode"),
    (ReferenceConfig, {"face_token_dim": 0}, "more than 0"),
    (Wav2VecConfig, {"conv_dim": (512,)}, "the same number of layers"),
    (Wav2VecConfig, {"num_hidden_layers": 0}, "more than 0"),
    (AudioConfig, {"context_frames": -1}, "0 or more"),
    (AudioConfig, {"window_frames": -1}, "0 or more"),
    (AudioConfig, {"left_context_frames": -1}, "0 or more"),
    (AudioConfig, {"right_context_frames": -1}, "0 or more"),
    (AudioConfig, {"tokens": 0}, "more than 0"),
    (AudioConfig, {"attention": "double"}, "single or hierarchical"),
    (AudioConfig, {"null": "one"}, "'zero' or 'learned'"),
    (AudioConfig, {"normalize": True}, "false with windows"),
    (TemporalConfig, {"heads": 0}, "more than 0"),
    (TemporalConfig, {"attention_layers": 0}, "more than 0"),
    (TemporalConfig, {"sites": "some"}, "all or attention"),
    (SpeedConfig, {"centres": ()}, "1 centre or more"),
    (SpeedConfig, {"radius": 0.0}, "more than 0"),
    (LocatorConfig, {"channels": ()}, "more than 0"),
    (VaeConfig, {"block_out_channels": ()}, "more than 0"),
    (VaeConfig, {"scaling_factor": 0.0}, "more than 0"),
    (ScheduleConfig, {"train_timesteps": 1}, "2 or more"),
    (ScheduleConfig, {"beta_start": 0.0}, "0 < beta_start < beta_end < 1"),
    (ScheduleConfig, {"beta_end": 1.0}, "0 < beta_start < beta_end < 1"),
    (ScheduleConfig, {"beta_schedule": "cosine"}, "'linear', 'scaled_linear'"),
    (ScheduleConfig, {"prediction_type": "sample"}, "'epsilon', 'v_prediction'"),
    (ScheduleConfig, {"timestep_spacing": "linspace"}, "'leading', 'trailing'"),
    (ScheduleConfig, {"zero_terminal_snr": True}, "false with 'epsilon'"),
    (ModelConfig, {"size": 500}, "a multiple of 64 pixels"),
    (ModelConfig, {"size": 0}, "a multiple of 64 pixels"),
    (ModelConfig, {"frames": 1}, "2 or more"),
    (ModelConfig, {"motion_frames": 0}, "1 … 11"),
    (ModelConfig, {"motion_frames": 12}, "1 … 11"),
    (ModelConfig, {"frames": 30}, "at most temporal.max_positions = 32"),
    (ModelConfig, {"audio": AudioConfig(context_frames=13)}, "at most frames = 12"),
    (ModelConfig, {"fps": 0}, "1 … 120"),
    (ModelConfig, {"fps": 121}, "1 … 120"),
    (ModelConfig, {"guidance": -1.0}, "0 or more"),
    (ModelConfig, {"guidance": float("nan")}, "0 or more"),
    (ModelConfig, {"motion_source": "pixels"}, "latents, reencoded"),
    (ModelConfig, {"first_motion": "noise"}, "zeros or portrait"),
    (ModelConfig, {"decode_frames": 5}, "a divisor of the 12 frames"),
    (ModelConfig, {"decode_frames": 0}, "a divisor of the 12 frames"),
    (ModelConfig, {"locator": LocatorConfig(channels=(16, 32))}, "4 widths"),
    (ModelConfig, {"temporal": TemporalConfig(heads=7)}, "a divisor of each of unet.block_out_channels"),
    (ModelConfig, {"audio": AudioConfig(window_frames=10)}, "a whole number of samples at 16000 Hz and 30 fps"),
]


@pytest.mark.parametrize(("cls", "settings", "expected"), BAD_SETTINGS)
def test_a_setting_out_of_range_is_refused_with_the_range(cls: type, settings: dict[str, Any], expected: str) -> None:
    if cls is ModelConfig and "fps" in settings:
        settings = {**settings, "audio": AudioConfig(window_frames=0)}
    with pytest.raises(ConfigError) as error:
        cls(**settings)
    assert expected in str(error.value)
    assert any(name in str(error.value) for name in settings)


BAD_OPTIONS: list[tuple[str, Any, str]] = [
    ("seed", -1, "0 … 2**63 - 1"),
    ("seed", 2**63, "0 … 2**63 - 1"),
    ("seed", 1.5, "an integer"),
    ("steps", 0, "1 to 1000"),
    ("steps", 1001, "1 to 1000"),
    ("steps", "40", "1 to 1000"),
    ("solver", "heun", "ddim, euler, dpmpp_2m, unipc"),
    ("guidance", -0.1, "0 … 50"),
    ("guidance", 50.1, "0 … 50"),
    ("guidance", float("nan"), "0 … 50"),
    ("guidance", "3.5", "0 … 50"),
    ("speed", -0.1, "0 … 3"),
    ("speed", float("inf"), "0 … 3"),
    ("speed", "fast", "0 … 3"),
    ("motion_scale", (1.0, 1.0), "three numbers from 0 to 10"),
    ("motion_scale", (1.0, 1.0, 11.0), "three numbers from 0 to 10"),
    ("motion_scale", 1.0, "three numbers from 0 to 10"),
    ("motion_scale", "111", "three numbers from 0 to 10"),
    ("paste_back", "yes", "True, False or None"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_OPTIONS)
def test_an_option_out_of_range_is_refused_with_the_range(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        AnimateOptions(**{name: value})
    assert name in str(error.value)
    assert expected in str(error.value)
    assert repr(value) in str(error.value)


@given(
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 1000),
    solver=st.sampled_from(("ddim", "euler", "dpmpp_2m", "unipc")),
    guidance=st.none() | st.floats(0, 50),
    speed=st.floats(0, 3),
    scale=st.tuples(*[st.floats(0, 10)] * 3),
)
def test_every_option_in_range_is_taken(**options: Any) -> None:
    options["motion_scale"] = options.pop("scale")
    chosen = AnimateOptions(**options)
    assert {name: getattr(chosen, name) for name in options} == options


def test_replace_changes_only_what_is_named() -> None:
    options = AnimateOptions(seed=7, speed=0.8)
    assert options.replace(steps=5) == AnimateOptions(seed=7, speed=0.8, steps=5)
    assert options == AnimateOptions(seed=7, speed=0.8)


def test_replace_names_an_unknown_option_and_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"unknown option sede; AnimateOptions has seed, steps, solver"):
        AnimateOptions().replace(sede=1)


def test_replace_checks_the_range() -> None:
    with pytest.raises(ConfigError, match=r"1 to 1000"):
        AnimateOptions().replace(steps=0)


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        AnimateOptions().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("section", [(), ("unet",), ("audio",), ("audio", "encoder"), ("speed",)])
def test_an_unknown_setting_is_refused_at_every_depth(section: tuple[str, ...]) -> None:
    data = preset("tiny").to_dict()
    inner = data
    for name in section:
        inner = inner[name]
    inner["colour"] = "red"
    with pytest.raises(ConfigError, match=r"unknown setting colour"):
        from_dict(ModelConfig, data)


@pytest.mark.parametrize(
    ("section", "name", "value", "expected"),
    [
        ((), "size", "512", "ModelConfig.size is '512'; expected a value of type int"),
        ((), "size", 512.0, "a value of type int"),
        ((), "frames", True, "a value of type int"),
        ((), "guidance", "3", "a finite number"),
        ((), "guidance", float("inf"), "a finite number"),
        ((), "name", 3, "a value of type str"),
        ((), "motion_source", "mp4", "one of ('latents', 'reencoded')"),
        ((), "unet", [1, 2], "an object"),
        ((), "unet", None, "an object"),
        (("unet",), "block_out_channels", 16, "a list"),
        (("unet",), "block_out_channels", [16, "32"], "a value of type int"),
        (("audio",), "normalize", 0, "a value of type bool"),
    ],
)
def test_a_value_of_another_type_is_refused(section: tuple[str, ...], name: str, value: Any, expected: str) -> None:
    data = preset("tiny").to_dict()
    inner = data
    for part in section:
        inner = inner[part]
    inner[name] = value
    with pytest.raises(ConfigError) as error:
        from_dict(ModelConfig, data)
    assert expected in str(error.value)


def test_a_model_without_speed_layers_survives_json() -> None:
    config = replace(preset("tiny"), speed=None)
    assert from_dict(ModelConfig, json.loads(json.dumps(config.to_dict()))) == config


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(section=st.sampled_from([None, "unet", "audio", "vae", "temporal", "speed", "locator"]), data=st.data())
def test_any_json_value_gives_a_config_or_a_config_error(section: str | None, data: st.DataObject) -> None:
    settings = preset("tiny").to_dict()
    inner = settings[section] if section else settings
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(JSON_VALUES)
    try:
        assert isinstance(from_dict(ModelConfig, settings), ModelConfig)
    except ConfigError as error:
        assert "expected" in str(error) or "unknown setting" in str(error)  # noqa: PT017
