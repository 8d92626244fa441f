"""What every child process of ours asks of the system."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that a process gets as its parent ends."""


def kill_with_parent() -> None:
    """From now on the system kills this process when its parent ends. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
