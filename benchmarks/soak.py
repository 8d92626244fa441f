"""Does anything grow? Short runs, loads and closes, live sessions, cancels and errors, in one process, over and over.

``python -m emo_rt.benchmarks.soak`` makes 1,000 short runs on one :class:`emo_rt.Animator` and loads and closes 200
more beside it. Every tenth run is cancelled, every tenth fails, and every fiftieth round has a live session. Theory:
after the first rounds, in which caches fill, an allocator's noise is all that is left. So the slope of resident memory
over the second half is below 1 MB per 100 runs, and threads and descriptors are flat. Prints one line per 100 runs and
one JSON object last; exit code 1 where something grows. On Linux, where /proc tells.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from emo_rt import AnimateOptions, Animator, Cancelled, EmoRtError, LiveSettings
from emo_rt.memory import resident_memory
from emo_rt.runtime.avatar import Avatar

MOST_SLOPE = 1e6
"""Bytes of resident memory per 100 runs."""
EVERY = 10
"""Runs between two readings."""
RATE = 16_000


class Soak:
    """One process under load."""

    def __init__(self, bundle: str, animator: Animator, avatar: Avatar, folder: Path) -> None:
        self._bundle, self._animator, self._avatar, self._folder = bundle, animator, avatar, folder
        self._chance = np.random.default_rng(0)
        self.refused = self.cancelled = 0
        """How many runs ended so."""

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
                self._avatar, sound, sample_rate=RATE, steps=1, guidance=1, seed=index, cancel=cancel
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
        options = AnimateOptions(steps=1, guidance=1)
        settings = LiveSettings(idle="loop", loop_s=0.5, pace="asap")
        with self._animator.live(self._avatar, options=options, settings=settings) as session:
            session.push(0.1 * self._chance.standard_normal(4_000, np.float32))
            for _ in range(8):
                next(session)
            session.clear()


def usage() -> tuple[int, int, int]:
    """Resident bytes, threads, descriptors."""
    gc.collect()
    files = Path("/proc/self/fd")
    return resident_memory() or 0, threading.active_count(), len(os.listdir(files)) if files.exists() else 0


def slope(readings: list[tuple[int, int, int]]) -> float:
    """Bytes per 100 runs over the second half, by least squares."""
    late = np.array([reading[0] for reading in readings[len(readings) // 2 :]], np.float64)
    return float(np.polyfit(np.arange(len(late)) * EVERY / 100, late, 1)[0]) if len(late) > 1 else 0.0


def soak(bundle: str, runs: int, loads: int) -> dict[str, object]:
    """All of it. Returns what was seen."""
    readings = list[tuple[int, int, int]]()
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
    late = readings[len(readings) // 2 :]
    grown = slope(readings)
    flat = max(one[1] for one in late) == min(one[1] for one in late) and late[-1][2] <= late[0][2]
    return {
        "runs": runs,
        "loads": loads,
        "cancelled": work.cancelled,
        "refused": work.refused,
        "bytes_per_100_runs": round(grown),
        "threads": [one[1] for one in (readings[0], readings[-1])],
        "descriptors": [one[2] for one in (readings[0], readings[-1])],
        "resident": [one[0] for one in (readings[0], late[0], readings[-1])],
        "passed": flat and grown < MOST_SLOPE,
    }


def main() -> int:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="demo", help="folder of a bundle (default: demo)")
    parser.add_argument("--runs", type=int, default=1_000, help="short runs (default: 1000)")
    parser.add_argument("--loads", type=int, default=200, help="loads and closes among them (default: 200)")
    args = parser.parse_args()
    found = soak(args.bundle, args.runs, args.loads)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
