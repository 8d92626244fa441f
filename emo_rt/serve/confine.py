"""What a child process that decodes strangers' files gives up before it looks at them.

Everywhere: limits of memory, processor time, descriptors and size of files (``setrlimit``). On Linux also: it dies with
its parent, gains no privileges, and has no network where the system lets a user make namespaces. What it may call and
which files it may read is not limited: no kept Python library drives seccomp or Landlock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from emo_rt.processes import kill_with_parent

PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
"""Numbers of Linux (``prctl.h``, ``sched.h``)."""
DESCRIPTORS = 64
"""Open files of the child."""


def confine(memory: int, seconds: float, file_bytes: int) -> bool:
    """Limit this process: bytes that it may add to its memory, seconds of processor time, bytes of a file.

    Returns whether it is without a network now.
    """
    _limit(resource.RLIMIT_AS, _address_space() + memory)
    _limit(resource.RLIMIT_CPU, max(1, round(seconds)))
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _limit(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is an error, then
    return sys.platform == "linux" and _confine_on_linux()


def die_with_parent() -> None:
    """The system kills this process when its parent ends. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        kill_with_parent()
        if os.getppid() == 1:
            os._exit(1)  # it ended before we asked


def _confine_on_linux() -> bool:
    die_with_parent()
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(system.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)


def _limit(kind: int, value: int) -> None:
    """Both limits, so that they cannot be raised again; never above what is allowed already."""
    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
        resource.setrlimit(kind, (value, value))


def _address_space() -> int:
    """Bytes that are mapped now: libraries, mostly."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    return 0
