"""Largest memory of this process during a build."""

from __future__ import annotations

import contextlib
from pathlib import Path

from emo_rt.memory import high_water_mark

RESET_PEAK = "5"
"""What to write into ``clear_refs`` so that the peak starts again at the current size (proc(5))."""


def reset_peak() -> None:
    """Start again at the current size; where the system cannot, later peaks contain earlier ones."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")


def peak_bytes() -> int | None:
    """Largest resident memory since :func:`reset_peak`; ``None`` where the system does not say."""
    return high_water_mark()
