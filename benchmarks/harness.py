"""What every measurement shares: repeating, medians, the machine's stamp and matmul ceiling, memory, result files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import emo_rt
from emo_rt.cli import doctor
from emo_rt.errors import InputError, OutputError
from emo_rt.memory import peak_memory

SCHEMA = 1
"""Version of the result files; raised when a key changes its meaning or goes away."""
GEMM_SIDE = 1024
"""Side of the square matrices of the ceiling: large enough for full speed, 12 MB in all."""


@dataclass(frozen=True)
class Spread:
    """How the times of one thing lie, in seconds."""

    median_s: float
    min_s: float
    p90_s: float
    p99_s: float
    max_s: float
    repetitions: int


@dataclass(frozen=True)
class Samples:
    """Times of one thing that was done several times, in seconds."""

    seconds: tuple[float, ...]
    """One per repetition, in order."""

    @property
    def median(self) -> float:
        """The middle one."""
        return self.percentile(50)

    def percentile(self, share: float) -> float:
        """``share``: 0 … 100; between two samples interpolated."""
        return float(np.percentile(self.seconds, share))

    def spread(self) -> Spread:
        """What a result says of them."""
        return Spread(
            median_s=self.median,
            min_s=min(self.seconds),
            p90_s=self.percentile(90),
            p99_s=self.percentile(99),
            max_s=max(self.seconds),
            repetitions=len(self.seconds),
        )


def measure(work: Callable[[], object], rounds: int, warmup: int = 1) -> Samples:
    """Do ``work`` ``warmup`` times unmeasured and ``rounds`` times measured."""
    for _ in range(warmup):
        work()
    return Samples(tuple(timed(work) for _ in range(rounds)))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> list[dict[str, float]]:
    """Seconds of each way by round, every second round in reverse: other load on the machine hits all of them."""
    names = list(ways)
    found = []
    for number in range(rounds):
        order = names if number % 2 == 0 else names[::-1]
        found.append({name: timed(ways[name]) for name in order})
    return found


def environment(threads: int | None) -> dict[str, Any]:
    """The stamp of a result: machine, versions, commit and load. ``threads``: what was asked for, ``None`` = auto."""
    seen = doctor.examine()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "emo_rt": seen.emo_rt,
        "commit": commit(),
        "python": seen.python,
        "platform": seen.platform,
        "cpu": cpu_name(),
        "cores": seen.machine.cores,
        "memory_bytes": seen.machine.memory_bytes,
        "threads": threads or seen.machine.cores,
        "gpus": [asdict(gpu) for gpu in seen.gpus],
        "packages": {name: version for name, version in seen.packages.items() if version},
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gemm_gflops": gemm_gflops(),
    }


def gemm_gflops(rounds: int = 9) -> float:
    """The machine's ceiling: 10⁹ floating-point operations per second of numpy's fp32 matmul, all cores, best round."""
    a, b = np.random.default_rng(0).standard_normal((2, GEMM_SIDE, GEMM_SIDE), np.float32)
    out = np.empty_like(a)
    fastest = min(measure(lambda: np.matmul(a, b, out=out), rounds, warmup=2).seconds)
    return float(2 * GEMM_SIDE**3 / fastest / 1e9)


def cpu_name() -> str:
    """The processor's model, as far as the system says."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Commit of the checkout that emo_rt runs from, ``-dirty`` with uncommitted changes; ``None`` when installed."""
    package = Path(emo_rt.__file__).resolve().parent
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    return None


class PeakMemory:
    """Peak resident memory of this process within a ``with`` block, in bytes; ``None`` where the system cannot say."""

    value: int | None = None

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):  # Linux: "5" sets the recorded peak to what is used now
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        self.value = peak_memory()


def device_memory() -> int | None:
    """Bytes of GPU memory that this process holds, as nvidia-smi sees it; ``None`` without a GPU."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in answer.splitlines() if line.count(",") == 1]
    used = [int(memory) << 20 for pid, memory in rows if pid.strip() == str(os.getpid()) and memory.strip().isdigit()]
    return sum(used) if used else None


def write_text(path: Path, text: str) -> None:
    """Write a result. Raises :class:`OutputError`."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror}") from exc


def as_json(result: Any, **style: Any) -> str:
    """A result as JSON; whatever in it is a dataclass becomes an object with its fields.

    What was left out of a measurement, a field that is ``None`` by default, has no key.
    """
    return json.dumps(result, default=_keys, **style)


def _keys(part: Any) -> dict[str, Any]:
    found = [(field, getattr(part, field.name)) for field in fields(part)]
    return {field.name: value for field, value in found if value is not None or field.default is not None}


def write_result(path: Path, result: Any) -> None:
    """Write a result as JSON. Raises :class:`OutputError`."""
    write_text(path, as_json(result, indent=2, ensure_ascii=False) + "\n")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Where :func:`publish` writes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here")


def publish(result: Any, table: str, given: argparse.Namespace) -> None:
    """Write the files that :func:`add_outputs` asked for, print table and JSON line. Raises :class:`OutputError`."""
    if given.json:
        write_result(given.json, result)
    if given.markdown:
        write_text(given.markdown, table)
    sys.stdout.write(table + "\n" + as_json(result) + "\n")


def read_result(path: Path, benchmark: str) -> dict[str, Any]:
    """Read what :func:`write_result` wrote. Raises :class:`InputError` for anything else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot read {path}: {exc}") from exc
    if not isinstance(result, dict) or result.get("benchmark") != benchmark:
        raise InputError(f"{path} is no result of the benchmark {benchmark!r}")
    if result.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {result.get('schema')}, expected {SCHEMA}; measure again")
    return result
