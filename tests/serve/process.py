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
        self.process = subprocess.Popen(
            [*map(str, command), "--min-free-mb", "0", "--device", "cpu", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, Any]] = []
        while not self.log or self.log[-1]["event"] != "listening":
            self.log.append(self._line())
        self.url: str = self.log[-1]["url"]
        self.port = int(self.url.rpartition(":")[2])

    def _line(self) -> dict[str, Any]:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line, f"the server ended: {self.process.wait()}, {self.log}"
        return dict(json.loads(line))

    def children(self) -> list[int]:
        """All processes under it."""
        return _children(self.process.pid)

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        """As the system kills, when there is no memory."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def terminate(self) -> int:
        """In order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE_S)
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
