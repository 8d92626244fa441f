"""Distances between EchoMimic's streams and the published scheme."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt import Animator, Bundle, ConfigError
from emo_rt.benchmarks.window_streaming import compare
from emo_rt.model.options import AnimateOptions

SOUND = 0.1 * np.random.default_rng(1).standard_normal(16_000, np.float32)
OPTIONS = AnimateOptions(steps=2, guidance=1.0, paste_back=False)


def test_the_same_noise_gives_nearly_the_same_video(echomimic_bundle: Bundle) -> None:
    with Animator.load(echomimic_bundle.path, device="cpu", threads=1) as animator:
        avatar = animator.prepare(np.full((32, 32, 3), 99, np.uint8), face_box="full")
        found = compare(animator, avatar, SOUND, OPTIONS)
    assert 0 < found["tokens"] < 0.05
    assert found["psnr_db"] > found["other_seed_db"] + 6
    assert 0.5 < found["seams"]["causal"] < 2


def test_models_that_make_clips_anyway_are_refused(tiny_animator: Animator) -> None:
    avatar = tiny_animator.prepare(np.full((32, 32, 3), 99, np.uint8), face_box="full")
    with pytest.raises(ConfigError, match="makes clip after clip"):
        compare(tiny_animator, avatar, SOUND, OPTIONS)
