"""How much memory this process takes, as far as the system says."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def peak_memory() -> int | None:
    """Largest memory of this process so far, in bytes; ``None`` where the system does not say."""
    own = high_water_mark()  # getrusage() would count what the parent had before exec
    if own is not None:
        return own
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def high_water_mark() -> int | None:
    """Largest resident memory of this program alone, in bytes, as Linux counts it; ``None`` elsewhere."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return None


def resident_memory() -> int | None:
    """Memory of this process now, in bytes; where the system does not say, its largest so far, or ``None``."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory()
