"""What does `emo-rt batch` cost, and what does it save, against a loop over an Animator?

The same rows in three or four ways, alternated round by round: a loop in this process that prepares each portrait once;
the same loop as it is first written, with ``prepare`` for each row; a batch with one worker; with two. A row's time
counts from the first finished row to the last, so that loading the model is not in it; it is reported beside it. The
batch adds to a row: a journal line before and after it, a message to another process and back, the hash of the video,
and two waits for the disk. Goal: 5 % or less per row with one worker. Two workers share the cores that one has.

    python -m emo_rt.benchmarks.batch --rows 40 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from emo_rt import Animator, Request
from emo_rt.batch import Model, Progress, Row, read_manifest, run_batch
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.cli.demo import DEMO_FACE, DEMO_PORTRAIT
from emo_rt.errors import EmoRtError

GOAL = 0.05
"""Largest share that the batch may add to a row."""
Way = Callable[[Path], list[float]]
"""Makes all rows in a new folder; when each of them had ended."""


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

    def run(folder: Path) -> list[float]:
        folder.mkdir()
        order = sorted(rows, key=lambda row: row.fields["portrait"]) if grouped else rows
        return list(_loop(animator, order, folder, grouped))

    return run


def _loop(animator: Animator, rows: Sequence[Row], folder: Path, grouped: bool) -> Iterator[float]:
    avatar, prepared = None, ""
    for row in rows:
        request = Request.from_dict(row.fields)
        if avatar is None or not (grouped and prepared == request.portrait):
            if avatar is not None:
                avatar.close()
            avatar, prepared = animator.prepare(request.portrait, options=request.prepare), request.portrait
        animator.animate(avatar, request.voice, options=request.animate).save(folder / f"{row.id}.mp4", request.video)
        yield perf_counter()
    if avatar is not None:
        avatar.close()


def batch(manifest: Path, model: Model, workers: int) -> Way:
    """`emo-rt batch` with so many workers."""

    def run(folder: Path) -> list[float]:
        ended: list[float] = []

        def note(progress: Progress) -> None:
            ended.extend([perf_counter()] * (progress.done - len(ended)))

        summary = run_batch(manifest, folder, model=model, workers=workers, progress=note)
        if summary.failed or summary.poisoned:
            raise EmoRtError(f"{summary.failed + summary.poisoned} rows failed; see {summary.results}")
        return ended

    return run


def measure(ways: dict[str, Way], rounds: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """By way and round: seconds per row, and until the first row had ended. Every second round in reverse."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            start = perf_counter()
            ended = ways[name](folder / f"{number} {name}")
            row_s = (ended[-1] - ended[0]) / (len(ended) - 1)
            found[name].append({"row_s": row_s, "first_s": ended[0] - start})
    return found


def compared(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """What ours takes more, as a share: median over the rounds, and its 95 % interval (bootstrap over rounds)."""
    ratios = np.array(ours) / np.array(other) - 1
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def report(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Rows per hour, time to the first row, and each way against the grouped loop."""
    rows = {name: [one["row_s"] for one in rounds] for name, rounds in found.items()}
    base = rows["loop, grouped"]
    return {
        name: {
            "rows_per_hour": 3600 / float(np.median(times)),
            "row_s": float(np.median(times)),
            "first_s": float(np.median([one["first_s"] for one in found[name]])),
            "more_than_grouped_loop": compared(times, base),
        }
        for name, times in rows.items()
    }


def table(result: dict[str, Any]) -> str:
    """As Markdown."""
    lines = ["| way | rows per hour | s per row | first row after | time per row against the grouped loop |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, way in result["ways"].items():
        more = way["more_than_grouped_loop"]
        share = f"{more['median']:+.1%} ({more['low']:+.1%} … {more['high']:+.1%})"
        lines.append(f"| {name} | {way['rows_per_hour']:.0f} | {way['row_s']:.3f} | {way['first_s']:.1f} s | {share} |")
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
    given = parser.parse_args(argv)
    cores = given.threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name, Animator.load(given.bundle, device="cpu", threads=cores) as animator:
        folder = Path(name)
        manifest = write_rows(folder, given.rows, given.portraits, given.seconds, given.steps)
        rows = read_manifest(manifest)
        ways = {
            "loop, grouped": loop(animator, rows, grouped=True),
            "loop, prepare per row": loop(animator, rows, grouped=False),
            "batch, 1 worker": batch(manifest, Model(given.bundle, "cpu", threads=cores), 1),
            "batch, 2 workers": batch(manifest, Model(given.bundle, "cpu", threads=max(1, cores // 2)), 2),
        }
        list(islice(_loop(animator, rows, folder, True), 2))  # warm
        before = environment(cores)
        found = measure(ways, given.rounds, folder)
    setting = {key: getattr(given, key) for key in ("bundle", "rows", "portraits", "rounds", "seconds", "steps")}
    result = {"schema": SCHEMA, "benchmark": "batch", "environment": before, "setting": setting, "goal": GOAL}
    result |= {"ways": report(found), "rounds": found, "load_after": os.getloadavg()[0]}
    publish(result, table(result), given)


if __name__ == "__main__":
    try:
        main()
    except EmoRtError as exc:
        sys.exit(f"error: {exc}")
