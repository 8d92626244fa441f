"""A real server: a process of its own on a port of loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.serve.conftest import PATIENCE_S, wait_until


class ServerProcess:
    """Runs ``emo-rt serve``. A context manager."""

    def __init__(self, bundle: Path, data: Path, *arguments: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "emo_rt.cli", "serve", bundle, "--data", data, "--port", port, "--threads", 1]
        data.mkdir(exist_ok=True)
        self._log = data.with_name("log.jsonl")  # a pipe that nobody reads would stop it when it is full
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "--min-free-mb", "0", "--device", "cpu", *arguments], stderr=log
            )
        wait_until(lambda: self.process.poll() is not None or bool(self.events("listening")))
        assert self.process.poll() is None, self._log.read_text()
        self.url: str = self.events("listening")[0]["url"]
        self.port = int(self.url.rpartition(":")[2])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        whole = self._log.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["event"] == name]

    def children(self) -> list[int]:
        """All processes under it."""
        return _children(self.process.pid)

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        """As the system kills, when there is no memory."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """In order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        return self.process.returncode

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def _children(pid: int) -> list[int]:
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return found + [below for one in found for below in _children(one)]


def wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(_is_alive(pid) for pid in pids))


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
