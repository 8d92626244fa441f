"""Intervals hold what they promise; Fréchet distances are the formula's."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.evaluate.frechet import FrechetSample, Normal, distance, distance_sample, effects, too_few
from emo_rt.evaluate.intervals import ENOUGH_VIDEOS, Sample, estimate, estimate_change, students_t

RNG = np.random.default_rng(0)


def steady(seconds: int, rng: np.random.Generator) -> Sample:
    """Seconds whose frames say the same within each second: 25 times the frames, not 25 times the knowledge."""
    return Sample.of(np.repeat(rng.normal(0, 1, seconds), 25), 25)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    found = [estimate([steady(60, rng)]) for _ in range(200)]
    held = np.mean([one is not None and one.low <= 0 <= one.high for one in found])
    assert 0.9 <= held <= 0.98


@pytest.mark.parametrize("seconds", [6, 20, 60])
def test_intervals_hold_the_truth_where_a_second_says_something_of_the_next(seconds: int) -> None:
    """Half a second of memory, as of a head that turns; few blocks in the short video."""
    rng, fps = np.random.default_rng(2), 5
    held = 0
    for _ in range(100):
        noise, curve = rng.normal(0, 1, seconds * fps), np.zeros(seconds * fps)
        for index in range(1, len(curve)):
            curve[index] = 0.67 * curve[index - 1] + noise[index]
        found = estimate([Sample.of(curve, fps)], 400)
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 85


def test_intervals_of_few_videos_are_those_of_student() -> None:
    """Eight videos say less than the percentiles of their mixes."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = estimate([Sample.of(np.full(4, value), 4) for value in rng.normal(0, 1, ENOUGH_VIDEOS)], 400)
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 182


def test_students_t() -> None:
    """Against tables."""
    known = {2: 4.303, 4: 2.776, 7: 2.365, 30: 2.042, 1000: 1.962}
    for degrees, expected in known.items():
        assert students_t(degrees) == pytest.approx(expected, rel=0.01)


def test_what_is_infinite_does_not_count() -> None:
    found = estimate([Sample.of(np.array([1.0, np.inf, 1.0, -np.inf, 1.0]), 5)])
    assert found is not None
    assert (found.low, found.value, found.high) == (1, 1, 1)


def test_frames_of_a_second_are_no_more_than_a_second() -> None:
    once = estimate([Sample.of(np.arange(40.0), 1)])
    often = estimate([Sample.of(np.repeat(np.arange(40.0), 25), 25)])
    assert once is not None
    assert often is not None
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.15)


def test_what_both_share_widens_no_interval() -> None:
    voice = RNG.normal(0, 1, 500)
    before, after = Sample.of(voice, 25), Sample.of(voice + 0.1, 25)
    change = estimate_change([before], [after])
    assert change is not None
    assert (change.low, change.value, change.high) == pytest.approx((0.1, 0.1, 0.1))


def test_many_videos_are_drawn_as_wholes() -> None:
    samples = [Sample.of(np.full(500, float(index)), 25) for index in range(ENOUGH_VIDEOS)]
    found = estimate(samples)
    assert found is not None
    assert found.blocks == ENOUGH_VIDEOS
    assert found.high - found.low > 1


def test_what_is_not_a_number_does_not_count() -> None:
    values = np.where(np.arange(100) % 2, np.nan, 3.0)
    found = estimate([Sample.of(values, 25)])
    assert found is not None
    assert found.value == 3
    assert estimate([Sample.of(np.full(50, np.nan), 25)]) is None


def test_frechet_distance_of_known_normals() -> None:
    mean, spread = np.zeros(3), np.diag([1.0, 4.0, 9.0])
    same, moved = Normal(mean, spread), Normal(mean + 2, spread)
    assert distance(same, same) == pytest.approx(0, abs=1e-6)
    assert distance(same, moved) == pytest.approx(12)
    assert distance(same, Normal(mean, 4 * spread)) == pytest.approx(1 + 4 + 9)  # (2σ − σ)² each


def test_frechet_distance_is_that_of_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    one, other = (Normal.of(RNG.normal(0, 1, (400, 12)) @ RNG.normal(0, 1, (12, 12))) for _ in range(2))
    root = linalg.sqrtm(one.covariance @ other.covariance).real
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance - 2 * root)
    assert distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_the_distance_of_several_videos_is_that_of_all_their_frames() -> None:
    """Videos of different lengths: the covariance is normalised by all frames, not by those of the first video."""
    true = Normal.of(RNG.normal(0, 1, (200, 4)))
    videos = [RNG.normal(shift, 2, (count, 4)) for shift, count in ((0.0, 7), (0.5, 90), (1.0, 40))]
    joined = FrechetSample.joined([FrechetSample.of(video, true, 25) for video in videos])
    assert joined.whole == pytest.approx(float(distance(Normal.of(np.concatenate(videos)), true)), rel=1e-9)


def test_intervals_of_distances_are_not_above_the_value_only() -> None:
    """Mixes of the same frames are further away than the frames themselves: that bias is taken off."""
    true = Normal.of(RNG.normal(0, 1, (4000, 6)))
    found = FrechetSample.of(RNG.normal(0.3, 1.2, (1000, 6)), true, 25).estimate(200)
    assert found.low < found.value < found.high
    assert found.value - found.low > 0.25 * (found.high - found.low)


def test_many_videos_are_blocks_of_a_distance() -> None:
    true = Normal.of(RNG.normal(0, 1, (200, 3)))
    samples = [FrechetSample.of(RNG.normal(0, 1, (100, 3)), true, 25) for _ in range(ENOUGH_VIDEOS)]
    assert FrechetSample.joined(samples).estimate(20).blocks == ENOUGH_VIDEOS
    assert FrechetSample.joined(samples[1:]).estimate(20).blocks == 4 * 7 + 7


@pytest.mark.parametrize("seconds", [10, 40])
def test_the_quick_interval_of_a_distance_is_that_of_the_bootstrap(seconds: int) -> None:
    """First order is as wide as what resampling and computing anew gives, to a fifth."""
    rng = np.random.default_rng(seconds)
    true = Normal.of(rng.normal(0, 1, (4000, 6)))
    vectors = np.repeat(rng.normal(0.3, 1.2, (seconds, 6)), 25, axis=0) + rng.normal(0, 0.3, (25 * seconds, 6))
    slow = FrechetSample.of(vectors, true, 25).estimate(1000)
    quick = estimate([distance_sample([vectors], true, [25.0])], 1000)
    assert quick is not None
    assert quick.value == pytest.approx(slow.value)
    assert quick.blocks == slow.blocks
    assert quick.high - quick.low == pytest.approx(slow.high - slow.low, rel=0.2)


def test_effects_are_what_more_of_a_vector_changes() -> None:
    """Against the distance with one vector counted a little more."""
    true, vectors = Normal.of(RNG.normal(0, 1, (500, 5))), RNG.normal(0.4, 1.3, (60, 5))
    found, share = effects(vectors, true), 1e-5
    assert found.mean() == pytest.approx(float(distance(Normal.of(vectors), true)))
    for index in (0, 17, 59):
        weights = np.full(60, (1 - share) / 60)
        weights[index] += share
        mean = weights @ vectors
        spread = np.einsum("n,ni,nj->ij", weights, vectors - mean, vectors - mean) * 60 / 59
        slope = (float(distance(Normal(mean, spread), true)) - found.mean()) / share
        assert found[index] - found.mean() == pytest.approx(slope, abs=1e-3)


def test_vectors_that_fill_few_directions_have_effects() -> None:
    """As frames of one face do: roots of eigenvalues that are zero but for rounding add nothing."""
    true = Normal.of(RNG.normal(0, 1, (500, 8)))
    flat = RNG.normal(0, 1, (100, 3)) @ RNG.normal(0, 1, (3, 8))
    assert np.isfinite(effects(flat, true)).all()
    assert np.isfinite(effects(np.zeros((100, 8)), true)).all()


def test_a_face_in_one_second_only_has_a_distance() -> None:
    """Mixes without that second have no frame at all."""
    true = Normal.of(RNG.normal(0, 1, (200, 3)))
    features = np.full((250, 3), np.nan)
    features[:20] = RNG.normal(0, 1, (20, 3))
    sample = FrechetSample.of(features, true, 25)
    found = sample.estimate(100)
    assert found.low <= found.value <= found.high
    assert sample.change(sample, 100).value == 0


def test_few_samples_are_refused_in_words() -> None:
    assert too_few(102, 51, "the videos") is None
    refused = too_few(101, 51, "the videos")
    assert refused is not None
    assert "101" in refused
    assert "102" in refused
