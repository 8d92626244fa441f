"""The bundled model really speaks: people, voices and sentences that no training has seen, all through the runtime."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator
from emo_rt.benchmarks import quality
from training.world.speech import available_engines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(available_engines()) < 2, reason="needs `apt-get install espeak-ng flite`"),
]


def test_lips_follow_the_voice_and_faces_stay() -> None:
    """Lower bounds for two people and few steps; benchmarks/README.md has the figures for twenty."""
    with Animator.load("demo", device="cpu") as animator:
        config, people = animator.config, quality.load_people(2, animator.config.size)
        videos = quality.generate(animator, people, AnimateOptions.mode("fast"))
    reader = quality.Reader()
    truths = [reader.read(person.frames) for person in people]
    found = quality.measure(people, truths, videos, reader, config.frames)
    assert found["lip_correlation"] > 0.5
    assert abs(found["lip_lag"]) <= 1
    assert found["silence_closed"] > 0.9
    assert found["identity_top1"] == 1
    assert found["jitter_ratio"] < 1.7  # 1.5 where heads stay: these weights have not seen heads that travel
    length = min(len(person.opening) for person in people)
    other = [
        quality.lagged(person.opening[:length], reader.read(video).opening[:length], 0)
        for person, video in zip(people, reversed(videos), strict=True)
    ]
    assert np.mean(other) < found["lip_correlation"] - 0.2, "the lips must follow one's own voice"
