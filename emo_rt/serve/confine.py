"""What a child process that decodes strangers' files gives up before it looks at them.

Everywhere: limits of memory, processor time, descriptors and size of files (``setrlimit``). On Linux also: it dies with
its parent, gains no privileges, has neither a network nor children nor power over other processes (seccomp), and sees
no files but its own folder and the programs' libraries (Landlock, from Linux 5.13 on).
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from emo_rt.processes import kill_with_parent
from emo_rt.serve import landlock, seccomp

PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
"""Numbers of Linux (``prctl.h``, ``sched.h``)."""
DESCRIPTORS = 64
"""Open files of the child."""
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/nix/store")
"""Where libraries are, beside Python's own folders."""

PACKAGES = ("site-packages", "dist-packages")
"""How folders of Python's packages are called."""


@dataclass(frozen=True)
class Confined:
    """What the system could do."""

    is_offline: bool = False
    """Whether there is no network."""
    is_apart: bool = False
    """Whether there are no files of others."""


def confine(
    memory: int,
    seconds: float,
    file_bytes: int,
    folder: Path | None = None,
    *,
    may_execute: bool = False,
    parent: int | None = None,
) -> Confined:
    """Limit this process: bytes that it may add to its memory, seconds of processor time, bytes of a file.

    ``folder``: the one that it may read and write from now on; ``None`` = as before. ``parent``: as of
    :func:`emo_rt.processes.kill_with_parent`.
    """
    kill_with_parent(parent)
    _limit(resource.RLIMIT_AS, _address_space() + memory)
    _limit(resource.RLIMIT_CPU, max(1, round(seconds)))
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _limit(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is an error, then
    return _confine_on_linux(folder, may_execute) if sys.platform == "linux" else Confined()


def _confine_on_linux(folder: Path | None, may_execute: bool) -> Confined:
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    is_apart = folder is not None and landlock.restrict(_libraries(), [folder])
    # A namespace of its own would be as good against the network, but gives the child rights over it; and Docker
    # forbids it.
    is_offline = seccomp.restrict(may_execute=may_execute) or system.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    return Confined(is_offline=is_offline, is_apart=is_apart)


def _libraries() -> list[Path]:
    """What Python may still have to load: formats are imported when they are met."""
    own = Path(__file__).parents[1]
    packages = [Path(entry) for entry in sys.path if entry.endswith(PACKAGES)]  # not the folder that it started in
    folders = {Path(sys.prefix), Path(sys.base_prefix), own, *packages, *map(Path, LIBRARIES)}
    return [folder for folder in folders if folder != Path(folder.anchor)]


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
