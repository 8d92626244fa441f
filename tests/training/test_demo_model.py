"""The bundled model really speaks: people, voices and sentences that no training has seen, all through the runtime."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt import AnimateOptions, Animator
from emo_rt.benchmarks import quality, quality_measures, quality_people
from training.world.speech import available_engines

pytestmark = pytest.mark.skipif(len(available_engines()) < 2, reason="needs `apt-get install espeak-ng flite`")


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> list[quality_people.Person]:
    """Two people with two seconds each."""
    monkeypatch.setattr(quality_people, "SECONDS", 2.0)
    return quality_people.load_people(2, 128)


def test_the_true_videos_have_the_best_figures(people: list[quality_people.Person]) -> None:
    reader = quality_people.Reader()
    truths = [reader.read(person.frames) for person in people]
    found = quality_measures.measure(people, truths, [person.frames for person in people], reader, clip_frames=12)
    assert found.lip_correlation > 0.9
    assert found.lip_lag == 0
    assert found.identity_top1 == 1
    assert found.jitter_ratio < 1.5, "no clip begins with a jump"
    assert found.frechet == pytest.approx(0, abs=1e-6)


def test_every_person_gets_a_video(tiny_animator: Animator, people: list[quality_people.Person]) -> None:
    videos = quality.generate(tiny_animator, people, AnimateOptions(steps=1, guidance=1))
    assert [video.shape for video in videos] == [(len(person.frames), 32, 32, 3) for person in people]
    assert not np.array_equal(*videos)


@pytest.mark.slow
def test_lips_follow_the_voice_and_faces_stay() -> None:
    """Lower bounds for two people and few steps; benchmarks/README.md has the figures for twenty."""
    with Animator.load("demo", device="cpu") as animator:
        config, people = animator.config, quality_people.load_people(2, animator.config.size)
        videos = quality.generate(animator, people, AnimateOptions.mode("fast"))
    reader = quality_people.Reader()
    truths = [reader.read(person.frames) for person in people]
    found = quality_measures.measure(people, truths, videos, reader, config.frames)
    assert found.lip_correlation > 0.5
    assert abs(found.lip_lag) <= 1
    assert found.silence_closed > 0.9
    assert found.identity_top1 == 1
    assert found.jitter_ratio < 1.7  # 1.5 where heads stay: these weights have not seen heads that travel
    length = min(len(person.opening) for person in people)
    other = [
        quality_measures.lagged(person.opening[:length], reader.read(video).opening[:length], 0)
        for person, video in zip(people, reversed(videos), strict=True)
    ]
    assert np.mean(other) < found.lip_correlation - 0.2, "the lips must follow one's own voice"
