"""What the benchmark of `emo-rt batch` makes of its rounds."""

from __future__ import annotations

import json
import math

import pytest

from emo_rt.benchmarks.batch import LOOP, Round, compared, report, table
from emo_rt.benchmarks.harness import as_json

ROUNDS = {
    LOOP: [Round(1.0, 2.0, 3.0), Round(1.2, 2.2, 3.0), Round(1.1, 2.1, 3.0)],
    "batch": [Round(1.1, 2.0, 5.0), Round(1.32, 2.2, 5.0), Round(1.21, 2.1, 6.0)],
    "Ray": [Round(2.0, math.nan, 9.0)] * 3,
}


def test_each_way_is_held_against_the_loop_round_by_round() -> None:
    found = report(ROUNDS)
    assert found["batch"].more_row_s.median == pytest.approx(0.1)
    assert found["batch"].more_row_s.low == pytest.approx(found["batch"].more_row_s.high) == pytest.approx(0.1)
    assert (found["batch"].more_cpu_s.median, found[LOOP].more_row_s.median) == (0, 0)
    assert (found["batch"].first_s, found[LOOP].rows_per_hour) == (5.0, pytest.approx(3600 / 1.1))
    assert json.loads(as_json(found))["batch"]["more_row_s"]["median"] == found["batch"].more_row_s.median


def test_the_interval_holds_the_median() -> None:
    more = compared([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0])
    assert more.low < more.median == 1.5 < more.high


def test_what_was_not_measured_is_called_so() -> None:
    lines = table(report(ROUNDS)).splitlines()
    assert lines[3].startswith("| batch | 2975 | 5.0 s | 1.210 | +10.0% (+10.0% … +10.0%) |")
    assert lines[4].endswith("| not measured |  |")
