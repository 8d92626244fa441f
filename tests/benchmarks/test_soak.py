"""The benchmark that looks for what grows."""

from __future__ import annotations

import argparse

import pytest

from emo_rt.benchmarks.soak import MOST_SLOPE, Reading, judged, soak
from emo_rt.model.bundle import Bundle


def test_a_short_one(tiny_bundle: Bundle) -> None:
    """Too short to say whether memory grows; threads and descriptors must be flat."""
    result = soak(str(tiny_bundle.path), argparse.Namespace(runs=20, loads=2))
    assert (result.runs, result.cancelled, result.refused) == (20, 2, 2)
    assert len(set(result.threads[1:])) == 1
    assert result.descriptors[1] >= result.descriptors[2]


@pytest.mark.parametrize(
    ("grown", "passed"),
    [((0, 0, 0), True), ((MOST_SLOPE, 0, 0), False), ((0, 0.1, 0), False), ((0, 0, 0.1), False)],
    ids=["nothing", "memory", "threads", "descriptors"],
)
def test_what_grows_is_seen(grown: tuple[float, float, float], passed: bool) -> None:
    """``grown``: per 10 runs."""
    start = (500_000_000, 1, 6)
    readings: list[Reading] = []
    for index in range(100):
        memory, threads, files = (int(first + step * index) for first, step in zip(start, grown, strict=True))
        readings.append((memory, threads, files))
    assert judged(readings).passed == passed
