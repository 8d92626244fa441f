"""The simulation of live sessions that arrive."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.benchmarks.admission import (
    Crowd,
    Fleet,
    Result,
    Traffic,
    erlang_c,
    needed,
    p99,
    poisson,
    predicted,
    simulate,
    table,
)

pytest.importorskip("simpy", reason="the simulation needs SimPy")


def test_who_finds_no_place_waits_in_line() -> None:
    traffic = Traffic(np.array([0.0, 1.0, 2.0, 3.0]), np.array([10.0, 4.0, 1.0, 1.0]))
    assert simulate(traffic, Fleet(1, 1, 2)).tolist() == [0, 0, 3, 3], "places are free at 5, 6 and 10 s"


def test_fixed_replicas_are_as_erlang_says() -> None:
    """M/M/n: share of those that wait, and for how long. 30,000 sessions; the error of the share is about 0.01."""
    concurrent, places, mean_s = 8.0, 10, 1.0
    waits = simulate(poisson(concurrent, mean_s, 4_000, seed=3), Fleet(5, 5, 2))
    share = erlang_c(concurrent, places)
    assert share == pytest.approx(0.409, abs=0.001), "Erlang's table for 8 erlangs and 10 servers"
    assert float(np.mean(waits > 0)) == pytest.approx(share, abs=0.04)
    assert float(np.mean(waits)) == pytest.approx(share * mean_s / (places - concurrent), rel=0.25)


def test_the_autoscaler_starts_replicas_where_places_run_short() -> None:
    traffic = Traffic(np.arange(8.0) / 10, np.full(8, 100.0))
    fixed, scaled = simulate(traffic, Fleet(1, 1, 4)), simulate(traffic, Fleet(1, 4, 4, start_s=20))
    assert fixed[4:].tolist() == pytest.approx([99.6] * 4, abs=1e-9)
    assert (scaled[:4].max(), scaled[4:].max() < 26) == (0, True), "looks after 5 s, starts for 20"


def test_fewest_replicas_are_the_fewest() -> None:
    replicas, wait = needed(8.0, 4, 20.0)
    fewer = simulate(poisson(8.0, 20.0, 400.0, 0), Fleet(replicas - 1, replicas - 1, 4))
    assert wait <= 1 < p99(fewer)


def test_the_table_has_a_row_per_load_and_per_crowd() -> None:
    (row,) = predicted(4, 20.0, [8.0])
    assert (row.replicas, row.p99_s) == needed(8.0, 4, 20.0)
    assert row.busy == 8 / (4 * row.replicas)
    lines = table(Result(1, "admission", {}, [row], [Crowd(10.0, 2, 1.5)])).splitlines()
    assert lines[2].startswith(f"| 8 | {row.replicas} | {row.busy:.0%} |")
    assert lines[-1] == "| 10 s | 2 | 1.50 s |"
