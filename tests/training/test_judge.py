"""The judge of drawn faces: what it learns from, and that its committed weights read unseen people."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skia", reason="drawing needs skia-python; pip install -e '.[training]'")
pytest.importorskip("scipy", reason="pip install -e '.[training]'")

from training import judge  # noqa: E402


def test_examples_follow_from_the_seed() -> None:
    first, again, other = (judge.example(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first[0].shape == (judge.SIZE, judge.SIZE, 3)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_truths_have_about_the_size_of_one() -> None:
    rng = np.random.default_rng(0)
    truths = np.stack([judge.example(rng)[1] for _ in range(200)])
    assert np.all(np.abs(truths).mean(axis=0) < 3)
    assert np.all(truths.std(axis=0) > 0.2)


def test_the_committed_weights_read_unseen_people() -> None:
    """The bars are a little below what its training measured on 600 people."""
    found = dict(judge.correlations(judge.trained(), count=120))
    assert found["opening"] > 0.97
    assert min(found.values()) > 0.8
