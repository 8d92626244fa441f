"""Linux's Landlock: a process gives up all files but those of some folders, and signals to others, for ever.

Three system calls, so there is no package for them here: those that exist are months old and have one author each,
which is more to trust than these lines. Numbers and structures are those of ``linux/landlock.h``; the calls have the
same numbers on every processor.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls."""
VERSION_FLAG, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_REG, TRUNCATE = 1 << 8, 1 << 14
FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
"""All rights on files that a version knows; from 5 on also device controls."""
FILES_NOW = (1 << 16) - 1
TCP, SCOPES = 0b11, 0b11
"""Opening and reaching TCP ports (from version 4); sockets without a file, and signals (from 6)."""


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Only files under ``readable`` can be read from now on, and those under ``writable`` be made and changed as well.

    Nothing can be executed, linked or removed. Needs ``no_new_privs``. Returns whether the system can do this.
    """
    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return False
    handled = FILES.get(version, FILES_NOW)
    attributes = struct.pack("=QQQ", handled, TCP, SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = system.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        for rights, folders in (
            (READ_FILE | READ_DIR, readable),
            (READ_FILE | READ_DIR | WRITE_FILE | MAKE_REG | TRUNCATE, writable),
        ):
            for folder in folders:
                _allow(system, ruleset, folder, rights & handled)
        return bool(system.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(system: ctypes.CDLL, ruleset: int, folder: Path, rights: int) -> None:
    """Where there is no such folder, there is nothing to allow."""
    try:
        place = os.open(folder, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        return
    try:
        system.syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
