"""Files that are whole or not there, and hashes of files: one place for what every writer and checker needs."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from emo_rt.checks import check

PART = ".part"
"""End of the name of a file that is being written."""


def path_of(name: str, value: object) -> Path:
    """The path that a caller gave as ``name``. Raises :class:`ConfigError` for what cannot be one."""
    check(isinstance(value, str | os.PathLike), name, value, "a path")
    return Path(cast("str | os.PathLike[str]", value))


def sha256_of(path: Path) -> str:
    """Hash of a file's content, as 64 hexadecimal digits. Raises :class:`OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exclusive(path: Path) -> BinaryIO:
    """The file, made if it is not there, locked for this process. The system lets go of it when the process ends.

    Closing the file lets go of it, too. Raises :class:`BlockingIOError` where another process has it, and
    :class:`OSError`. On Windows nothing is locked. (A builder of engines waits for its turn, and has ``filelock``.)
    """
    file = path.open("ab")
    try:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        pass
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def whole_file(target: Path, *, suffix: str = "", durable: bool = False) -> Iterator[Path]:
    """A hidden name beside ``target`` to write to; it becomes ``target`` at the end, or goes away on an error.

    The rename is one step. ``suffix``: how the hidden name ends, for writers that look at it. ``durable``: the file is
    on the disk before it gets its name, and then the name is, so that it outlasts a power cut. Raises :class:`OSError`.
    """
    scratch = _hidden_name(target, suffix)
    scratch.open("xb").close()  # now rather than after minutes of work; with the permissions that the umask says
    try:
        yield scratch
        if durable:
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
        put_in_place(scratch, target)
        if durable:
            sync_folder(target.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def put_in_place(scratch: Path, target: Path) -> None:
    """Give a file that is complete its name, in one step; what had the name is gone. Raises :class:`OSError`.

    For files that somebody else writes: where the writer is ours, use :func:`whole_file`.
    """
    os.replace(scratch, target)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` to fill; it becomes ``target`` at the end, or goes away on an error.

    ``target`` must not exist or be an empty folder; the folder that it lies in must exist. Raises :class:`OSError`.
    """
    scratch = _hidden_name(target)
    scratch.mkdir()
    try:
        yield scratch
        if target.exists():
            target.rmdir()
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Names of a folder are on the disk, where the system can say so (Windows cannot). Raises :class:`OSError`."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Remove hidden files of writers that were killed; how many. Only while nobody writes there."""
    found = [path for path in folder.glob(f".emo_rt-*{PART}*") if path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _hidden_name(target: Path, suffix: str = "") -> Path:
    """On the same file system, and unlike any other. Short: the target's own name may be as long as names can be."""
    return target.with_name(f".emo_rt-{uuid.uuid4().hex}{PART}{suffix}")
