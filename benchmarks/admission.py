"""How many replicas do live sessions need, so that 99 of 100 begin within a second?

A discrete-event simulation with SimPy: sessions arrive at random (Poisson), last some minutes (exponential), and each
takes a place of a replica; who finds none waits in line, first come first served. A replica that is started takes
seconds to load its model; one is started where more than ``BUSY`` of the places are taken, as
``emo_rt.integrations.ray_serve`` does. Theory for a fixed number of replicas: Erlang's C formula; a test compares both.

Everything that it prints is a prediction; ``emo_rt.benchmarks.admission_check`` holds it against real sessions.

    python -m emo_rt.benchmarks.admission
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.errors import EmoRtError, MissingDependencyError

BUSY = 0.75
"""Share of places at which another replica is started."""
LOOK_S = 5.0
"""How often the autoscaler looks."""
GOAL_S = 1.0
"""Longest wait of 99 of 100."""


@dataclass(frozen=True)
class Traffic:
    """Sessions by arrival, seconds from the start, ascending; and how long each lasts."""

    arrivals: NDArray[np.float64]
    durations: NDArray[np.float64]


@dataclass(frozen=True)
class Fleet:
    """Replicas."""

    replicas: int
    """At the start; it never gets fewer."""
    most: int
    """Limit of the autoscaler; the same as ``replicas`` = fixed."""
    places: int
    """Sessions of one replica."""
    start_s: float = 0.0
    """Seconds from the decision until a new replica serves."""


def poisson(concurrent: float, mean_s: float, seconds: float, seed: int) -> Traffic:
    """Random arrivals of which ``concurrent`` are there at a time on average."""
    random = np.random.default_rng(seed)
    count = random.poisson(concurrent / mean_s * seconds)
    return Traffic(np.sort(random.uniform(0, seconds, count)), random.exponential(mean_s, count))


def simulate(traffic: Traffic, fleet: Fleet) -> NDArray[np.float64]:
    """Seconds that each session waits for a place."""
    simpy: Any = _simpy()
    world = simpy.Environment()
    free = simpy.Container(world, init=fleet.replicas * fleet.places)
    waits = np.zeros(len(traffic.arrivals))
    count = {"there": 0, "replicas": fleet.replicas, "ended": 0}

    def session(number: int, duration: float) -> Any:
        count["there"] += 1
        asked = world.now
        yield free.get(1)
        waits[number] = world.now - asked
        yield world.timeout(duration)
        count["there"] -= 1
        count["ended"] += 1
        yield free.put(1)

    def arrive() -> Any:
        for number, (at, duration) in enumerate(zip(traffic.arrivals, traffic.durations, strict=True)):
            yield world.timeout(at - world.now)
            world.process(session(number, duration))

    def start_replica() -> Any:
        yield world.timeout(fleet.start_s)
        yield free.put(fleet.places)

    def scale() -> Any:
        while count["ended"] < len(waits):
            wanted = min(fleet.most, math.ceil(count["there"] / (BUSY * fleet.places)))
            for _ in range(wanted - count["replicas"]):
                world.process(start_replica())
            count["replicas"] = max(count["replicas"], wanted)
            yield world.timeout(LOOK_S)

    world.process(arrive())
    if fleet.most > fleet.replicas:
        world.process(scale())
    world.run()
    return waits


def erlang_c(concurrent: float, places: int) -> float:
    """Probability that a session must wait, for exponential durations (Erlang 1917); needs ``concurrent < places``."""
    blocked = 1.0
    for n in range(1, places + 1):  # Erlang B, by its recursion
        blocked = concurrent * blocked / (n + concurrent * blocked)
    return blocked / (1 - concurrent / places * (1 - blocked))


def p99(waits: NDArray[np.float64]) -> float:
    """Of the second half: at the start all places are free."""
    return float(np.percentile(waits[len(waits) // 2 :], 99))


def needed(concurrent: float, places: int, mean_s: float, seed: int = 0) -> tuple[int, float]:
    """Fewest fixed replicas with ``p99`` ≤ :data:`GOAL_S`, and that wait."""
    traffic = poisson(concurrent, mean_s, 20 * mean_s, seed)
    low, high = math.floor(concurrent / places), 2 * math.ceil(concurrent / places) + 2
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = p99(simulate(traffic, Fleet(middle, middle, places))) <= GOAL_S
        low, high = (low, middle) if is_enough else (middle, high)
    return high, p99(simulate(traffic, Fleet(high, high, places)))


BASE, CROWD, CROWD_S = 20, 40, 60.0
"""Sessions at a time, and how many more come evenly within so many seconds."""


def crowd(places: int, mean_s: float, start_s: float, spare: int) -> float:
    """p99 of the waiting of those who come with a crowd, with ``spare`` replicas more than 20 sessions need."""
    before, begin = poisson(BASE, mean_s, 10 * mean_s, 1), 5 * mean_s
    comers = begin + np.arange(CROWD) * (CROWD_S / CROWD)
    arrivals = np.concatenate([before.arrivals, comers])
    durations = np.concatenate([before.durations, np.random.default_rng(2).exponential(mean_s, CROWD)])
    order = np.argsort(arrivals, kind="stable")
    traffic = Traffic(arrivals[order], durations[order])
    first = math.ceil(BASE / (BUSY * places)) + spare
    waits = simulate(traffic, Fleet(first, 10 * first, places, start_s))
    among = (traffic.arrivals >= begin) & (traffic.arrivals < begin + CROWD_S)
    return float(np.percentile(waits[among], 99))


@dataclass(frozen=True)
class Prediction:
    """What a load needs."""

    concurrent: float
    """Sessions at a time on average."""
    replicas: int
    p99_s: float
    """Of waiting."""
    busy: float
    """Share of the places that is taken."""
    must_wait: float
    """Probability that a session waits, by Erlang's formula."""


@dataclass(frozen=True)
class Crowd:
    """What comes of those who come all at once."""

    start_s: float
    """A replica starts in so many seconds."""
    spare: int
    """Replicas more than the usual load needs."""
    p99_s: float
    """Of waiting."""


@dataclass(frozen=True)
class Result:
    """All that was simulated."""

    schema: int
    benchmark: str
    environment: dict[str, Any]
    predicted: list[Prediction]
    crowds: list[Crowd]


def predicted(places: int, mean_s: float, loads: Sequence[float]) -> list[Prediction]:
    """A row per load."""
    rows = []
    for load in loads:
        replicas, wait = needed(load, places, mean_s)
        taken = replicas * places
        rows.append(Prediction(load, replicas, wait, load / taken, erlang_c(load, taken)))
    return rows


def table(result: Result) -> str:
    """As Markdown."""
    lines = ["| sessions at a time | replicas | places taken | p99 of waiting |", "|---:|---:|---:|---:|"]
    lines += [
        f"| {row.concurrent:g} | {row.replicas} | {row.busy:.0%} | {row.p99_s:.2f} s |" for row in result.predicted
    ]
    lines += ["", "| a replica starts in | spare replicas | p99 of waiting in a crowd |", "|---:|---:|---:|"]
    lines += [f"| {row.start_s:g} s | {row.spare} | {row.p99_s:.2f} s |" for row in result.crowds]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--places", type=int, default=4, help="sessions of one replica (default: %(default)s)")
    parser.add_argument("--mean-s", type=float, default=180.0, help="seconds of a session (default: %(default)s)")
    parser.add_argument("--loads", default="8,40,400,4000", help="sessions at a time (default: %(default)s)")
    add_outputs(parser)
    given = parser.parse_args(argv)
    loads = [float(load) for load in given.loads.split(",")]
    crowds = [
        Crowd(start_s, spare, crowd(given.places, given.mean_s, start_s, spare))
        for start_s in (10.0, 60.0)
        for spare in (0, 2, 4)
    ]
    result = Result(SCHEMA, "admission", environment(1), predicted(given.places, given.mean_s, loads), crowds)
    publish(result, table(result), given)


def _simpy() -> Any:
    try:
        return importlib.import_module("simpy")
    except ImportError as exc:
        raise MissingDependencyError("the simulation needs SimPy; pip install simpy") from exc


if __name__ == "__main__":
    try:
        main()
    except EmoRtError as exc:
        sys.exit(f"error: {exc}")
