"""The command ``emo-rt`` from its first moment: what Ctrl-C does while Python still imports the package.

That takes up to some seconds, and an interrupt in the middle of it would show a traceback of whatever module was being
imported. Nothing was begun by then, so the process can end at once.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

STOPPED = 130
"""As in :mod:`emo_rt.cli`."""


def main() -> int:
    """Run the command line. Returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    is_heard = before is signal.default_int_handler  # it is ignored under nohup, and stays so
    if is_heard:
        signal.signal(signal.SIGINT, _end)
    from emo_rt.cli import main as run

    if is_heard:
        signal.signal(signal.SIGINT, before)
    return run()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Not by an exception: modules that are being imported catch some."""
    try:
        os.write(2, b"stopped; no output was written\n")
    finally:
        os._exit(STOPPED)
