"""Sound that is kept as long as it may be heard again."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.media.kept_samples import KeptSamples


def test_gives_what_was_pushed_however_it_was_cut() -> None:
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(5_000, np.float32)
    kept, pushed, known = KeptSamples(), 0, 0
    while pushed < len(sound):
        size = int(rng.integers(0, 400))
        kept.push(sound[pushed : pushed + size])
        pushed = min(pushed + size, len(sound))
        start, stop = sorted(rng.integers(known, pushed + 200, 2))
        np.testing.assert_array_equal(kept.between(start, stop), sound[:pushed][start:stop])
        known = int(rng.integers(known, pushed + 1))
        kept.forget(known)
    assert kept.received == len(sound)


def test_memory_follows_what_may_be_heard() -> None:
    """Of one long block no more than twice what is left, and nothing of blocks that are over."""
    kept = KeptSamples()
    kept.push(np.zeros(100_000, np.float32))
    for start in range(0, 99_000, 700):
        kept.forget(start)
        assert kept.nbytes <= 8 * (100_000 - start)
    kept.forget(100_000)
    assert kept.nbytes == 0
    kept.push(np.ones(10, np.float32))
    assert kept.between(100_000, 100_020).tolist() == [1] * 10


def test_what_the_caller_does_with_its_block_later_does_not_matter() -> None:
    kept, block = KeptSamples(), np.ones(4, np.float32)
    kept.push(block)
    block[:] = 0
    assert kept.between(0, 4).tolist() == [1] * 4


def test_asking_for_what_is_forgotten_is_a_fault() -> None:
    kept = KeptSamples()
    kept.push(np.zeros(10, np.float32))
    kept.forget(5)
    with pytest.raises(AssertionError, match="forgotten"):
        kept.between(4, 6)


def test_a_push_does_not_copy_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes in blocks of 20 ms would copy 500 GB otherwise."""
    joined = list[int]()
    concatenate = np.concatenate
    monkeypatch.setattr(np, "concatenate", lambda parts: joined.append(len(parts)) or concatenate(parts))
    kept = KeptSamples()
    for _ in range(1_000):
        kept.push(np.zeros(320, np.float32))
    assert not joined
    kept.between(0, 640)
    assert joined == [3]
