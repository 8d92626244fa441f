"""What every child process of ours asks of the system."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that a process gets as its parent ends."""
ORPHANED = 3
"""Exit code of a child whose parent is gone."""


def kill_with_parent(parent: int | None = None) -> None:
    """From now on the system kills this process when its parent ends; ends it now if the parent has ended before.

    ``parent``: process id of who started it; not needed in a child of :mod:`multiprocessing`, which knows. Linux only;
    elsewhere nothing happens.

    Linux means the parent's *thread* that started the child: when that thread ends, the child is killed, although the
    process lives on. So start such children in a thread that outlives them: one that waits for them, or a main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if _is_orphan(parent):
            os._exit(ORPHANED)


def _is_orphan(parent: int | None) -> bool:
    """Not by ``getppid() == 1``: in a container the parent may be process 1, and orphans go to another."""
    if parent is not None:
        return os.getppid() != parent
    starter = multiprocessing.parent_process()
    # Not by its id: a fork server stands between the two.
    return starter is not None and not starter.is_alive()
