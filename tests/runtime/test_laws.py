"""Two laws of videos, whatever the sound: as long as it to half a frame, and the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_rt import Animator
from emo_rt.media.probe import probe
from emo_rt.runtime.avatar import Avatar

few = settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
RATES = st.sampled_from([1_000, 7_999, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000])


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), face_box="full")


def sound(seed: int, rate: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, max(1, round(rate * seconds))).astype(np.float32)


@few
@given(rate=RATES, seconds=st.floats(0.001, 0.5), seed=st.integers(0, 99))
def test_a_video_is_as_long_as_its_sound(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path, rate: int, seconds: float, seed: int
) -> None:
    given_sound = sound(seed, rate, seconds)
    video = tiny_animator.animate(avatar, given_sound, sample_rate=rate, steps=1, guidance=1)
    video.save(tmp_path / "a.mp4")
    found = probe(tmp_path / "a.mp4")
    assert found.frames == video.frame_count
    # Half a sample at 16 kHz is what rounding the length there may add; a video has one frame at least.
    off = abs(found.video_duration_s - len(given_sound) / rate)
    assert off <= 0.5 / video.fps + 0.5 / 16_000 + 1e-9 or found.frames == 1


@few
@given(rate=RATES, seconds=st.floats(0.001, 0.4), seed=st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_frames(
    tiny_animator: Animator, avatar: Avatar, rate: int, seconds: float, seed: int
) -> None:
    heard = sound(1, rate, seconds)
    one, other = (
        tiny_animator.animate(avatar, heard, sample_rate=rate, steps=1, guidance=1, seed=seed).numpy() for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)
