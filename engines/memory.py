"""Largest memory of this process during a build."""

from __future__ import annotations

import contextlib
from pathlib import Path

PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""What to write into ``clear_refs`` so that the peak starts again at the current size (proc(5))."""


def reset_peak() -> None:
    """Start again at the current size; where the system cannot, later peaks contain earlier ones."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")


def peak_bytes() -> int | None:
    """Largest resident memory since :func:`reset_peak`; ``None`` where the system does not say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return None
