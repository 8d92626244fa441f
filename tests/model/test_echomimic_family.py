"""EchoMimic's rules: windows, what a frame hears, what a portrait needs, what a bundle offers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_rt import ConfigError
from emo_rt.checks import from_dict
from emo_rt.export.presets import preset
from emo_rt.media.box import Box
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.config import ModelConfig, Wav2VecConfig, WhisperConfig, WindowsConfig
from emo_rt.model.families.base import ClipState
from emo_rt.model.families.echomimic import EchoMimic, offers, window_starts
from emo_rt.model.families.registry import family_of
from emo_rt.model.presets import Preset, Variant
from emo_rt.runtime.clips import frame_count
from tests.conftest import shared_file
from tests.small_bundles import echomimic_tiny

FAMILY = EchoMimic(preset("echomimic"))


@given(st.integers(12, 3000), st.integers(0, 11))
def test_every_frame_is_in_a_window_and_in_few(frames: int, overlap: int) -> None:
    covered = np.zeros(frames, int)
    for start in window_starts(frames, 12, overlap):
        covered[np.arange(start, start + 12) % frames] += 1
    assert covered.min() >= 1
    assert overlap > 6 or covered.max() <= 3


def test_windows_of_the_original() -> None:
    stated = json.loads(shared_file("golden/echomimic_small/config.json").read_text())
    for run in stated["runs"].values():
        window = min(run["context_frames"], run["frames"])
        family = EchoMimic(replace(preset("echomimic"), frames=window, decode_frames=1))
        plan = family.plan(ClipState(0, run["frames"]))
        assert plan.step[-1].graph == "update"
        for step, expected in enumerate(run["windows"]):
            found = [(np.array(call.frames) + step * plan.shift) % plan.frames for call in plan.step[:-1]]
            assert [one.tolist() for one in found] == expected


def test_the_first_clip_is_the_whole_video() -> None:
    first, second = (FAMILY.plan(ClipState(index, 30)) for index in (0, 1))
    assert [call.graph for call in first.step] == ["step"] * 4 + ["update"]
    assert first.frames == second.frames == 30
    assert (second.step, second.first) == ((), 12)
    assert first.before == ()
    assert first.motion == "none"


@given(st.integers(8000, 2_000_000))
def test_a_video_is_at_least_as_long_as_its_sound(samples: int) -> None:
    """And no more than three frames longer."""
    rows = FAMILY.attended(samples)
    assert 0 <= FAMILY.video_frames(samples) - frame_count(samples, 24) <= 3
    assert rows.shape == (FAMILY.video_frames(samples), 10)
    assert rows.min() == 0
    assert rows.max() == FAMILY.row_count(samples) - 1
    assert (np.diff(rows, axis=0) >= 0).all()


def test_ten_seconds_are_242_frames() -> None:
    assert FAMILY.video_frames(160_000) == 242


@given(st.integers(1, 9000))
def test_short_sounds_filled_up_make_a_window(samples: int) -> None:
    filled = max(samples, FAMILY.least_samples())
    assert FAMILY.video_frames(filled) >= FAMILY.config.frames


def test_sound_goes_through_the_encoder_in_pieces_of_30_seconds() -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(481_700, np.float32)
    (whole, rows), (rest, few) = FAMILY.heard(sound)
    assert whole.shape == rest.shape == (1, 80, 3000)
    assert (rows, few) == (1500, 5)
    assert FAMILY.row_count(len(sound)) == 1505
    assert (rest[..., 10:] == 0).all()
    assert rest[..., :10].any()


def test_the_mask_lies_where_the_face_is_with_soft_edges() -> None:
    picture = np.zeros((1024, 1024, 3), np.uint8)
    portrait = prepare_portrait(picture, 512, face_box=Box(427, 126, 591, 318), framing=FAMILY.crop)
    assert portrait.crop.width == portrait.crop.height < 1024
    mask = FAMILY.face_mask(portrait)
    assert mask.shape == (1, 1, 512, 512)
    assert (mask.min(), mask.max()) == (0, 1)
    assert ((mask > 0) & (mask < 1)).any()
    x, y = (round(middle) for middle in portrait.face.centre)
    assert mask[0, 0, y, x] == 1
    assert 0.2 < mask.mean() < 0.6


def test_a_square_beyond_the_picture_is_masked_0_there() -> None:
    portrait = prepare_portrait(np.zeros((64, 64, 3), np.uint8), 32, face_box="full")
    moved = replace(portrait, crop=Box(-32, 0, 32, 64))
    assert (FAMILY.face_mask(moved)[..., :15] == 0).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"windows": None, "motion_frames": 2}, "windows"),
        ({"speed": preset("emo").speed}, "speed"),
        ({"deep_cache": 0}, "deep_cache"),
        ({"audio": replace(preset("echomimic").audio, tokens=45)}, r"audio\.tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_configuration_that_is_no_echomimic_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        family_of(replace(preset("echomimic"), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"motion_frames": 2}, "motion_frames is 2; expected 0"),
        ({"windows": WindowsConfig(overlap=12)}, "overlap is 12"),
        ({"windows": None}, "motion_frames is 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_windows_must_fit_the_configuration(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(preset("echomimic"), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("overlap", -1), ("shift", -1), ("noise_limit", 0.0), ("longest_s", 0.0)])
def test_ranges_of_windows(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"windows.{field}"):
        WindowsConfig(**{field: value})  # type: ignore[arg-type]


def test_whisper_heads_must_divide_its_width() -> None:
    with pytest.raises(ConfigError, match="num_attention_heads is 7"):
        WhisperConfig(num_attention_heads=7)


def test_the_manifest_tells_the_two_encoders_apart() -> None:
    for config in (preset("echomimic"), preset("hallo"), preset("tiny"), echomimic_tiny()):
        assert from_dict(ModelConfig, json.loads(json.dumps(config.to_dict()))) == config
    assert isinstance(preset("hallo").audio.encoder, Wav2VecConfig)
    assert "windows" not in preset("hallo").to_dict()


@pytest.mark.parametrize(("is_accelerated", "steps", "guidance"), [(False, 30, None), (True, 6, 1.0)])
def test_offers_are_those_of_the_published_scripts(is_accelerated: bool, steps: int, guidance: float | None) -> None:
    offered = offers(is_accelerated)
    quality = from_dict(Preset, offered["presets"][offered["default_preset"]])
    assert (quality.steps, quality.guidance, quality.solver) == (steps, guidance, "ddim")
    variant = from_dict(Variant, offered["variants"][quality.variant])
    with pytest.raises(ConfigError, match="solver is 'unipc'"):
        variant.check_serves("base", "unipc", 8, 1.0)
    variant.check_serves("base", "euler", 8, 1.5)
