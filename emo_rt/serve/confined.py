"""Run a program within the limits of :mod:`emo_rt.serve.confine`: ``python -m emo_rt.serve.confined PARENT PROGRAM …``.

``PARENT``: process id of who starts it. A process of its own, because limits that are set between fork and exec are
not safe in a process with threads.
"""

from __future__ import annotations

import os
import sys

from emo_rt.serve.confine import confine

MEMORY, SECONDS, FILE_BYTES = 512 << 20, 20.0, 0
"""Bytes of memory, seconds of processor time, bytes of a file: it writes none."""

if __name__ == "__main__":
    confine(MEMORY, SECONDS, FILE_BYTES, may_execute=True, parent=int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
