"""Does anything grow? Short runs, loads and closes, live sessions, cancels and errors, in one process, over and over.

``python -m emo_rt.benchmarks.soak`` makes 1,000 short runs on one :class:`emo_rt.Animator` and loads and closes 200
more beside it. Every tenth run is cancelled, every tenth fails, and every fiftieth round has a live session. Theory:
after the first rounds, in which caches fill, nothing grows. So the slope of resident memory over the second half is
below 1 MB per 100 runs, and threads and descriptors are flat. Memory that is free goes back to the system before it is
read: what the C library keeps for later goes up and down by 10 MB. What is resident after the first rounds is the
model's own: its weights, and the scratch memory that ONNX Runtime keeps. Prints one line per 100 runs, a table, and
one JSON line last; exit code 1 where something grows. On Linux, where /proc tells.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from emo_rt import AnimateOptions, Animator, Cancelled, EmoRtError, LiveSettings
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.memory import resident_memory
from emo_rt.runtime.avatar import Avatar

MOST_SLOPE = 1e6
"""Bytes of resident memory per 100 runs."""
EVERY = 10
"""Runs between two readings."""
RATE = 16_000
Reading: TypeAlias = tuple[int, int, int]
"""Resident bytes, threads, descriptors."""


@dataclass(frozen=True)
class Growth:
    """Whether anything has grown over the second half. Triples: after the first rounds, in the middle, at the end."""

    bytes_per_100_runs: int
    """Slope of resident memory."""
    threads: tuple[int, int, int]
    descriptors: tuple[int, int, int]
    resident: tuple[int, int, int]
    """Bytes."""
    passed: bool


@dataclass(frozen=True)
class Seen(Growth):
    """All that was seen."""

    bundle: str
    """Name of its folder."""
    runs: int
    loads: int
    """Loads and closes."""
    cancelled: int
    """Runs, as :attr:`refused`."""
    refused: int
    live: int
    """Live sessions."""


class Soak:
    """One process under load."""

    def __init__(self, bundle: str, animator: Animator, avatar: Avatar, folder: Path) -> None:
        self._bundle, self._animator, self._avatar, self._folder = bundle, animator, avatar, folder
        # The cheapest that the model has: a distilled student where there is one.
        self._options = AnimateOptions(preset="realtime")
        self._chance = np.random.default_rng(0)
        self.refused = self.cancelled = self.spoken = 0
        """How many runs ended so, and live sessions."""

    def run(self, index: int) -> None:
        """A short video, written to a file; some are cancelled, some fail."""
        sound = 0.1 * self._chance.standard_normal(int(self._chance.integers(800, 4_000)), np.float32)
        cancel = threading.Event()
        try:
            if index % 10 == 3:
                self._animator.animate(self._avatar, self._folder / "absent.wav")
            if index % 10 == 7:
                cancel.set()
            video = self._animator.animate(
                self._avatar, sound, sample_rate=RATE, options=self._options, seed=index, cancel=cancel
            )
            video.save(self._folder / "a.mp4")
        except Cancelled:
            self.cancelled += 1
        except EmoRtError:
            self.refused += 1

    def load_and_close(self) -> None:
        """Another animator, used once."""
        with Animator.load(self._bundle, device="cpu", threads=1, verify=False) as animator:
            picture = self._chance.integers(0, 256, (64, 64, 3), np.uint8)
            animator.prepare(picture, face_box="full").close()

    def live(self) -> None:
        """A live session that says something and is interrupted."""
        settings = LiveSettings(idle="loop", loop_s=0.5, pace="asap")
        with self._animator.live(self._avatar, options=self._options, settings=settings) as session:
            session.push(0.1 * self._chance.standard_normal(4_000, np.float32))
            for _ in range(8):
                next(session)
            session.clear()
        self.spoken += 1


def usage() -> Reading:
    """Resident bytes, threads, descriptors. What is free goes back to the system first, where that can be asked for."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    files = Path("/proc/self/fd")
    return resident_memory() or 0, threading.active_count(), len(os.listdir(files)) if files.exists() else 0


def slope(readings: list[Reading]) -> float:
    """Bytes per 100 runs over the second half, by least squares."""
    late = np.array([reading[0] for reading in readings[len(readings) // 2 :]], np.float64)
    return float(np.polyfit(np.arange(len(late)) * EVERY / 100, late, 1)[0]) if len(late) > 1 else 0.0


def soak(bundle: str, amount: argparse.Namespace) -> Seen:
    """All of it, ``amount.runs`` with ``amount.loads`` among them. Returns what was seen."""
    runs, loads, readings = amount.runs, amount.loads, list[Reading]()
    with TemporaryDirectory() as folder, Animator.load(bundle, device="cpu", threads=1) as animator:
        avatar = animator.prepare(np.full((64, 64, 3), 128, np.uint8), face_box="full")
        work = Soak(bundle, animator, avatar, Path(folder))
        for index in range(runs):
            work.run(index)
            if index * loads // runs != (index + 1) * loads // runs:
                work.load_and_close()
            if index % 50 == 25:
                work.live()
            if index % EVERY == EVERY - 1:
                readings.append(usage())
            if index % 100 == 99:
                memory, threads, files = readings[-1]
                sys.stderr.write(f"{index + 1} runs: {memory / 1e6:.1f} MB, {threads} threads, {files} descriptors\n")
    return Seen(
        bundle=Path(bundle).name,
        runs=runs,
        loads=loads,
        cancelled=work.cancelled,
        refused=work.refused,
        live=work.spoken,
        **vars(judged(readings)),
    )


def judged(readings: list[Reading]) -> Growth:
    """Whether anything has grown over the second half."""
    late = readings[len(readings) // 2 :]
    grown = slope(readings)
    flat = max(one[1] for one in late) == min(one[1] for one in late) and late[-1][2] <= late[0][2]
    memory, threads, files = zip(readings[0], late[0], readings[-1], strict=True)
    return Growth(round(grown), threads, files, memory, passed=flat and grown < MOST_SLOPE)


def table(seen: Seen) -> str:
    """What was seen, as Markdown."""
    rows = ["| | first | middle | last |", "|---|--:|--:|--:|"]
    memory = " | ".join(f"{value / 1e6:.1f} MB" for value in seen.resident)
    rows.append(f"| resident memory | {memory} |")
    for what, found in (("threads", seen.threads), ("descriptors", seen.descriptors)):
        rows.append(f"| {what} | {' | '.join(map(str, found))} |")
    runs = f"{seen.runs} runs, {seen.loads} loads and closes, {seen.live} live sessions"
    ends = f"{seen.cancelled} cancelled, {seen.refused} refused"
    grown = f"{seen.bytes_per_100_runs / 1e6:.2f} MB per 100 runs (goal: less than {MOST_SLOPE / 1e6:g})"
    return "\n".join([*rows, "", f"{runs}; {ends}. Slope of the second half: {grown}.", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m emo_rt.benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", default="demo", help="folder of a bundle (default: demo)")
    parser.add_argument("--runs", type=int, default=1_000, help="short runs (default: 1000)")
    parser.add_argument("--loads", type=int, default=200, help="loads and closes among them (default: 200)")
    add_outputs(parser)
    args = parser.parse_args(arguments)
    if args.runs < 2 * EVERY or args.loads < 0:
        parser.error(f"--runs is {2 * EVERY} or more, --loads 0 or more")
    seen = soak(args.bundle, args)  # before the machine is looked at, which fills memory
    result = {"benchmark": "soak", "schema": SCHEMA, "environment": environment(1), **vars(seen)}
    publish(result, table(seen), args)
    return 0 if seen.passed else 1


if __name__ == "__main__":
    sys.exit(main())
