"""Do real live sessions wait as the simulation of the very same arrivals says?

One replica on a Ray cluster that is started here, with a place for one session; sessions of seconds that arrive at
random, so that many must wait. Expected: the same waits, but for what opening a session takes. Extra ``ray``, SimPy.

    python -m emo_rt.benchmarks.admission_check --bundle DIR
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.benchmarks.admission import Fleet, Traffic, poisson, simulate
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.errors import EmoRtError

PLACES = 1
"""Of the one replica. It must hold them in real time; one does on any machine."""
CONCURRENT, MEAN_S, SECONDS = 0.6, 4.0, 70.0
"""Sessions at a time on average, how long they last, and the length of the run."""


PORTRAIT = f"data:image/png;base64,{base64.b64encode(DEMO_PORTRAIT.read_bytes()).decode()}"


@dataclass(frozen=True)
class Waits:
    """How long sessions waited, in seconds."""

    mean: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Setting:
    """Under what they waited."""

    sessions: int
    places: int
    open_s: float
    """What opening one takes where nobody waits."""
    load: float
    """Of the machine."""


@dataclass(frozen=True)
class Check:
    """Real waits beside the simulated ones."""

    real: Waits
    simulated: Waits
    setting: Setting
    median_apart_s: float
    """Between a session's two waits."""
    correlation: float


def checked(bundle: str) -> Check:
    """What sessions waited, and what they should: seconds from the connection to the first message of the video.

    Opening a session takes a while also where nobody waits: its median there is added to the simulated wait, and a
    session holds its place for that long more.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, serve = importlib.import_module("ray"), importlib.import_module("ray.serve")
    traffic = poisson(CONCURRENT, MEAN_S, SECONDS, seed=5)
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        ray.init("local", num_cpus=4, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"port": port})
            _deploy(data, bundle)
            alone = [asyncio.run(_session(port, 0.0, 0.5)) for _ in range(7)]
            open_s = float(np.median(alone[2:]))
            real = np.array(asyncio.run(_all(port, traffic)))
        finally:
            serve.shutdown()
            ray.shutdown()
    longer = Traffic(traffic.arrivals, traffic.durations + open_s)
    simulated = simulate(longer, Fleet(1, 1, PLACES)) + open_s
    return Check(
        real=waits_of(real),
        simulated=waits_of(simulated),
        setting=Setting(len(real), PLACES, open_s, os.getloadavg()[0]),
        median_apart_s=float(np.median(np.abs(real - simulated))),
        correlation=float(np.corrcoef(real, simulated)[0, 1]),
    )


def _deploy(data: str, bundle: str) -> None:
    from emo_rt.integrations.ray_serve import ServeOnRay, deploy
    from emo_rt.serve.settings import Limits

    limits = Limits(max_sessions_per_key=1000, min_free_mb=0)
    deploy(
        ServeOnRay(
            data=data,
            bundles={"model": bundle},
            sessions=PLACES,
            most_waiting=1000,
            job_replicas=0,
            device="cpu",
            limits=limits,
        )
    )


async def _all(port: int, traffic: Traffic) -> list[float]:
    pairs = zip(traffic.arrivals, traffic.durations, strict=True)
    return await asyncio.gather(*(_session(port, at, duration) for at, duration in pairs))


async def _session(port: int, at: float, duration: float) -> float:
    """Seconds until it began; it is closed ``duration`` later."""
    connect = importlib.import_module("websockets.asyncio.client").connect
    start = {
        "type": "session.start",
        "image_reference": {"image_url": PORTRAIT},
        "num_inference_steps": 1,
        "idle": "loop",
        "extra_params": {"guidance": 1, "face_box": "full"},
    }
    await asyncio.sleep(at)
    asked = time.monotonic()
    async with connect(f"ws://127.0.0.1:{port}/v1/realtime/video", open_timeout=300) as connection:
        await connection.send(json.dumps(start))
        first = json.loads(await connection.recv())
        if first["type"] != "video.start":
            raise RuntimeError(f"a session did not begin: {first}")
        waited = time.monotonic() - asked
        with suppress(TimeoutError):
            async with asyncio.timeout(duration):
                async for _ in connection:  # a viewer takes what comes
                    pass
        return waited


def waits_of(waits: NDArray[np.float64]) -> Waits:
    """Of all sessions."""
    return Waits(float(waits.mean()), float(np.percentile(waits, 50)), float(np.percentile(waits, 90)))


def table(check: Check) -> str:
    """As Markdown."""
    lines = ["| waiting | real | simulated |", "|---|---:|---:|"]
    simulated = asdict(check.simulated)
    lines += [f"| {name} | {real:.2f} s | {simulated[name]:.2f} s |" for name, real in asdict(check.real).items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bundle", default="demo", help="model that holds a session in real time")
    add_outputs(parser)
    given = parser.parse_args(argv)
    check = checked(given.bundle)
    result = {"schema": SCHEMA, "benchmark": "admission_check", "environment": environment(1), **asdict(check)}
    publish(result, table(check), given)


if __name__ == "__main__":
    try:
        main()
    except EmoRtError as exc:
        sys.exit(f"error: {exc}")
