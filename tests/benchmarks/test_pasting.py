"""The benchmark of pasting."""

from __future__ import annotations

import pytest

from emo_rt.benchmarks.pasting import paste_time


def test_pasting_is_timed() -> None:
    found = paste_time(32, 64)
    assert (found.size, found.picture, found.square) == (32, 64, 56)
    assert found.ms > 0
    assert found.ms_per_megapixel == pytest.approx(found.ms / 12 / (56 * 56 / 1e6))
