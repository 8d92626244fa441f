"""What does `emo-rt batch` cost, and what does it save, against a loop over an Animator?

The same rows in four ways, alternated round by round: a loop in this process that prepares each portrait once; the same
loop as it is first written, with ``prepare`` for each row; a batch with one worker; with two; with ``--ray`` also both
on a Ray cluster of this machine. A row's time
counts from the first finished row to the last, so that loading the model is not in it; it is reported beside it. The
batch adds to a row: a journal line before and after it, a message to another process and back, the hash of the video,
and two waits for the disk. Goal: 5 % or less per row with one worker. Two workers share the cores that one has.

On a machine with other work, times by the clock say little; processor time per row, of this process and its workers
together over the second half of the rows (all models are loaded then), is nearly free of that. Linux only.

    python -m emo_rt.benchmarks.batch --rows 40 --rounds 5 --ray
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import multiprocessing
import os
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from emo_rt import Animator, Request
from emo_rt.batch import Cluster, Model, Progress, Row, Share, read_manifest, run_batch, run_batch_on_ray
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.cli.demo import DEMO_FACE, DEMO_PORTRAIT
from emo_rt.errors import EmoRtError

GOAL = 0.05
"""Largest share that the batch may add to a row."""
Moment = tuple[float, float]
"""By the clock, and processor time of this process and its workers, in seconds."""
LOOP = "loop, grouped"
"""What the others are held against."""
Way = Callable[[Path], list[Moment]]
"""Makes all rows in a new folder; when each of them had ended."""


def now() -> Moment:
    """This moment."""
    cpu = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), cpu


def write_rows(folder: Path, rows: int, portraits: int, seconds: float, steps: int) -> Path:
    """A manifest whose neighbours have different portraits: files of the same picture with different bytes."""
    for number in range(portraits):
        (folder / f"{number}.png").write_bytes(DEMO_PORTRAIT.read_bytes() + bytes([number]))
    sound = np.random.default_rng(0).uniform(-8000, 8000, round(16_000 * seconds)).astype("<i2")
    with wave.open(str(folder / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    face = [DEMO_FACE.left, DEMO_FACE.top, DEMO_FACE.right, DEMO_FACE.bottom]
    common = {"voice": "voice.wav", "face_box": face, "steps": steps}
    lines = [json.dumps({"id": n, "portrait": f"{n % portraits}.png", "seed": n, **common}) for n in range(rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "rows.jsonl"


def loop(animator: Animator, rows: Sequence[Row], *, grouped: bool) -> Way:
    """A plain loop; ``grouped``: rows of one portrait behind each other, prepared once."""

    def run(folder: Path) -> list[Moment]:
        folder.mkdir()
        order = sorted(rows, key=lambda row: row.fields["portrait"]) if grouped else rows
        return list(_loop(animator, order, folder, grouped))

    return run


def _loop(animator: Animator, rows: Sequence[Row], folder: Path, grouped: bool) -> Iterator[Moment]:
    avatar, prepared = None, ""
    for row in rows:
        request = Request.from_dict(row.fields)
        if avatar is None or not (grouped and prepared == request.portrait):
            if avatar is not None:
                avatar.close()
            avatar, prepared = animator.prepare(request.portrait, options=request.prepare), request.portrait
        animator.animate(avatar, request.voice, options=request.animate).save(folder / f"{row.id}.mp4", request.video)
        yield now()
    if avatar is not None:
        avatar.close()


def batch(manifest: Path, model: Model, workers: int) -> Way:
    """`emo-rt batch` with so many workers."""

    def run(folder: Path) -> list[Moment]:
        ended: list[Moment] = []

        def note(progress: Progress) -> None:
            if progress.done > len(ended):
                ended.extend([now()] * (progress.done - len(ended)))

        summary = run_batch(manifest, folder, model=model, workers=workers, progress=note)
        if summary.failed or summary.poisoned:
            raise EmoRtError(f"{summary.failed + summary.poisoned} rows failed; see {summary.results}")
        return ended

    return run


def on_ray(manifest: Path, model: Model, workers: int) -> Way:
    """`emo-rt batch --ray` with so many workers, on the cluster that this process is connected to.

    A row ended when its video got its last byte. Processor time of a cluster is not measured.
    """

    def run(folder: Path) -> list[Moment]:
        cluster = Cluster(share=Share(cpus=float(model.threads or 1)))
        summary = run_batch_on_ray(manifest, folder, cluster=cluster, model=model, workers=workers)
        if summary.failed or summary.poisoned:
            raise EmoRtError(f"{summary.failed + summary.poisoned} rows failed; see {summary.results}")
        shift = time.perf_counter() - time.time()
        ended = sorted(video.stat().st_mtime for video in (folder / "videos").iterdir())
        return [(at + shift, math.nan) for at in ended]

    return run


@contextmanager
def local_cluster() -> Iterator[None]:
    """A cluster of this machine, for the time of the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = importlib.import_module("ray")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    ray.init("local", num_cpus=4, object_store_memory=100_000_000, include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Round:
    """One way, once."""

    row_s: float
    """Seconds per row by the clock."""
    cpu_s: float
    """And of processors."""
    first_s: float
    """Until the first row had ended."""


@dataclass(frozen=True)
class More:
    """What one way takes more than another, as a share."""

    median: float
    low: float
    """End of the 95 % interval."""
    high: float


@dataclass(frozen=True)
class Report:
    """All rounds of one way: medians, and how it stands to the grouped loop."""

    rows_per_hour: float
    row_s: float
    cpu_s: float
    first_s: float
    more_row_s: More
    more_cpu_s: More


def measure(ways: dict[str, Way], rounds: int, folder: Path, minutes: float) -> dict[str, list[Round]]:
    """By way, all rounds.

    Every second round in reverse; no round begins that would end after ``minutes``.
    """
    found: dict[str, list[Round]] = {name: [] for name in ways}
    begun = time.monotonic()
    for number in range(rounds):
        if (time.monotonic() - begun) * (number + 1) > 60 * minutes * number > 0:
            break
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            start, _ = now()
            ended = ways[name](folder / f"{number} {name}")
            row_s = (ended[-1][0] - ended[0][0]) / (len(ended) - 1)
            middle = len(ended) // 2
            cpu_s = (ended[-1][1] - ended[middle - 1][1]) / (len(ended) - middle)
            found[name].append(Round(row_s, cpu_s, ended[0][0] - start))
    return found


def compared(ours: Sequence[float], other: Sequence[float]) -> More:
    """What ours takes more: median over the rounds, and its 95 % interval (bootstrap over rounds)."""
    ratios = np.array(ours) / np.array(other) - 1
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return More(float(np.median(ratios)), float(low), float(high))


def report(found: dict[str, list[Round]]) -> dict[str, Report]:
    """Rows per hour, time to the first row, and each way against the grouped loop."""
    return {name: _report(rounds, found[LOOP]) for name, rounds in found.items()}


def _report(rounds: list[Round], base: list[Round]) -> Report:
    row_s = float(np.median([one.row_s for one in rounds]))
    return Report(
        rows_per_hour=3600 / row_s,
        row_s=row_s,
        cpu_s=float(np.median([one.cpu_s for one in rounds])),
        first_s=float(np.median([one.first_s for one in rounds])),
        more_row_s=compared([one.row_s for one in rounds], [one.row_s for one in base]),
        more_cpu_s=compared([one.cpu_s for one in rounds], [one.cpu_s for one in base]),
    )


def table(ways: Mapping[str, Report]) -> str:
    """As Markdown."""
    lines = [
        "| way | rows per hour | first row after | s per row | against the grouped loop | CPU s per row | against it |"
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, way in ways.items():
        cells = [name, f"{way.rows_per_hour:.0f}", f"{way.first_s:.1f} s"]
        for seconds, more in ((way.row_s, way.more_row_s), (way.cpu_s, way.more_cpu_s)):
            if math.isnan(seconds):
                cells += ["not measured", ""]
                continue
            cells += [f"{seconds:.3f}", f"{more.median:+.1%} ({more.low:+.1%} … {more.high:+.1%})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bundle", default="demo", help="model (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=40, help="rows in each round (default: %(default)s)")
    parser.add_argument("--portraits", type=int, default=4, help="different portraits (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each video (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="solver steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of the loop and of all workers together")
    add_outputs(parser)
    parser.add_argument("--minutes", type=float, default=60.0, help="fewer rounds if need be (default: %(default)s)")
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this machine (extra ray)")
    given = parser.parse_args(argv)
    cores = given.threads or len(os.sched_getaffinity(0))
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        animator = exits.enter_context(Animator.load(given.bundle, device="cpu", threads=cores))
        manifest = write_rows(folder, given.rows, given.portraits, given.seconds, given.steps)
        rows = read_manifest(manifest)
        ways = {
            LOOP: loop(animator, rows, grouped=True),
            "loop, prepare per row": loop(animator, rows, grouped=False),
            "batch, 1 worker": batch(manifest, Model(given.bundle, "cpu", threads=cores), 1),
            "batch, 2 workers": batch(manifest, Model(given.bundle, "cpu", threads=max(1, cores // 2)), 2),
        }
        if given.ray:
            exits.enter_context(local_cluster())
            for workers in (1, 2):
                model = Model(given.bundle, "cpu", threads=max(1, cores // workers))
                ways[f"Ray, {workers} worker{'s' * (workers > 1)}"] = on_ray(manifest, model, workers)
        list(islice(_loop(animator, rows, folder, True), 2))  # warm
        before = environment(cores)
        found = measure(ways, given.rounds, folder, given.minutes)
    setting = {key: getattr(given, key) for key in ("bundle", "rows", "portraits", "rounds", "seconds", "steps")}
    result = {"schema": SCHEMA, "benchmark": "batch", "environment": before, "setting": setting, "goal": GOAL}
    ways_found = report(found)
    result |= {"ways": ways_found, "rounds": found, "load_after": os.getloadavg()[0]}
    publish(result, table(ways_found), given)


if __name__ == "__main__":
    try:
        main()
    except EmoRtError as exc:
        sys.exit(f"error: {exc}")
