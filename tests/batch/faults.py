"""Strikes a run while a row is in flight, and knows that it is.

A worker is in flight with a row when the journal has the attempt without an end and the worker holds the unfinished
video open. Both are looked at while the worker is stopped (SIGSTOP), so the answer cannot grow old.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emo_rt.files import PART
from tests.batch.conftest import events

PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from emo_rt.cli import main; raise SystemExit(main(sys.argv[1:]))"
)
"""The command, with Ctrl-C heard also where the tests run in the background."""
PAUSE_S = 0.02
"""Between two looks: a row in flight is there for a second."""
PATIENCE_S = 300
"""After this the run is taken for broken; nothing is measured with it."""


def running(out: Path) -> dict[str, int]:
    """Rows that were begun and have not ended → process of the worker."""
    found: dict[str, int] = {}
    for event in events(out):
        if event["event"] == "attempt":
            found[event["key"]] = event["worker"]
        elif "key" in event:
            found.pop(event["key"], None)
    return found


def seize(out: Path, wanted: Callable[[str], bool], is_over: Callable[[], bool] = lambda: False) -> int | None:
    """Wait for a row in flight whose key is wanted and stop its worker. The worker; ``None`` once all is over."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_over():
        assert time.monotonic() < deadline, "no row came into flight"
        for key, worker in running(out).items():
            if wanted(key) and _is_stopped_in_flight(out, key, worker):
                return worker
        time.sleep(PAUSE_S)
    return None


def _is_stopped_in_flight(out: Path, key: str, worker: int) -> bool:
    """Stops it; lets it go on if it does not write a video."""
    with suppress(ProcessLookupError):
        if _holds_video(worker):
            os.kill(worker, signal.SIGSTOP)
            until(lambda: state(worker) in "TZX")
            if _holds_video(worker) and running(out).get(key) == worker:
                return True
            os.kill(worker, signal.SIGCONT)
    return False


def _holds_video(worker: int) -> bool:
    with suppress(OSError):
        for entry in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(OSError):
                name = os.readlink(entry)
                if PART in name and not name.endswith("(deleted)"):
                    return True
    return False


def state(process: int) -> str:
    """Letter of Linux: R, S, T stopped, Z dead but not waited for, X gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(PAUSE_S)


class Killer(threading.Thread):
    """Kills the workers of wanted rows in flight, so many times."""

    def __init__(self, out: Path, wanted: Callable[[str], bool], times: int) -> None:
        super().__init__()
        self._out, self._wanted, self._times = out, wanted, times
        self.over = threading.Event()
        self.killed = 0

    def run(self) -> None:
        while self.killed < self._times:
            worker = seize(self._out, self._wanted, self.over.is_set)
            if worker is None:
                return
            os.kill(worker, signal.SIGKILL)
            until(lambda: state(worker) in "ZX")  # noqa: B023 - called at once
            self.killed += 1

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


@contextmanager
def started(arguments: list[str], stderr: int = subprocess.PIPE, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which is gone at the end."""
    line = [sys.executable, "-c", PROGRAM, "batch", *arguments]
    driver = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=stderr, text=True, **settings)  # type: ignore[call-overload]
    try:
        yield driver
    finally:
        driver.kill()
        driver.communicate()
