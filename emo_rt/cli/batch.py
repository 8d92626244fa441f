"""`emo-rt batch`: the videos of a list."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from functools import partial
from pathlib import PurePath
from typing import Any

from emo_rt.batch import Cluster, Model, Progress, Summary, run_batch, run_batch_on_ray
from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_quiet, read_options

EXAMPLES = """examples:
  emo-rt batch rows.jsonl -o videos --workers 2
  emo-rt batch rows.csv -o videos --retry-failed
  emo-rt batch rows.jsonl -o /shared/videos --workers 16 --ray

A row of rows.jsonl:
  {"id": "a1", "portrait": "a.png", "voice": "a1.wav", "options": {"mode": "fast", "seed": 7}}"""
STOPPING = "finishing the running rows; Ctrl-C again stops them ..."
STOPPED = 130
"""Exit code after Ctrl-C or SIGTERM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    where = ".jsonl, .csv or .parquet with id, portrait, voice and options; paths from its folder"
    parser.add_argument("manifest", metavar="MANIFEST", help=where)
    out = "folder for videos/, results.jsonl and journal.jsonl; the same command goes on where it ended"
    parser.add_argument("-o", "--out", metavar="FOLDER", required=True, help=out)
    workers = "processes, each with the model loaded; they share the cores (default: %(default)s)"
    parser.add_argument("--workers", metavar="N", type=int, default=1, help=workers)
    again = "run also the rows that failed or were given up (default: keep their results)"
    parser.add_argument("--retry-failed", action="store_true", help=again)
    table = "also write results.parquet at the end (default: if the manifest is one)"
    parser.add_argument("--parquet", action="store_true", help=table)
    ray = "run on a Ray cluster, run from one of its machines (default ADDRESS: the one that is found, else a new one)"
    parser.add_argument("--ray", metavar="ADDRESS", nargs="?", const="", default=None, help=ray)
    add_options(parser.add_argument_group("model and machine"), Machine)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns the exit code: 1 where a row failed. Raises what :func:`run_batch` raises."""
    model = Model(**asdict(read_options(args, Machine)))
    settings: dict[str, Any] = {"workers": args.workers, "retry_failed": args.retry_failed}
    settings["parquet"] = args.parquet or PurePath(args.manifest).suffix.lower() == ".parquet"
    try:
        with terminal.ProgressBar("rows", quiet=args.quiet) as bar, terminal.stop_event(STOPPING) as stop:
            shown = _Shown(bar)
            run = run_batch if args.ray is None else partial(run_batch_on_ray, cluster=Cluster(args.ray or None))
            summary = run(args.manifest, args.out, model=model, progress=shown.show, stop=stop, **settings)
    except KeyboardInterrupt:
        terminal.note(f"stopped; what has ended is in {args.out}, the same command goes on")
        return STOPPED
    if not args.quiet:
        terminal.say(receipt(summary))
    if summary.left:
        return STOPPED
    return 1 if summary.failed or summary.poisoned or summary.skipped_bad else 0


def receipt(summary: Summary) -> str:
    """What a run did, in one or two lines."""
    ended = [f"{summary.made} made"]
    ended += [f"{summary.failed} failed"] if summary.failed else []
    ended += [f"{summary.poisoned} given up"] if summary.poisoned else []
    ended += [f"{summary.left} left"] if summary.left else []
    lines = [f"{summary.results}: {', '.join(ended)} in {terminal.duration(summary.wall_s)}"]
    if summary.skipped:
        bad = f", {summary.skipped_bad} of them not ok (--retry-failed runs these again)" if summary.skipped_bad else ""
        lines.append(f"skipped, since they had ended before: {summary.skipped}{bad}")
    return "\n".join(lines)


class _Shown:
    """Progress as a bar with rate, time left and failures."""

    def __init__(self, bar: terminal.ProgressBar) -> None:
        self._bar = bar
        self._start = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Redraw it."""
        if progress.done == 0:
            return
        rate = progress.done / max(time.monotonic() - self._start, 1e-3) * 3600
        more = f", {rate:.0f} rows/h" + (f", {progress.failed} failed" if progress.failed else "")
        self._bar.update(progress.done, progress.total, more)
