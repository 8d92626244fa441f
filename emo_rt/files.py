"""Files that are whole or not there, regular files, and hashes: one place for what every reader and writer needs."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from emo_rt.checks import check

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = ".part"
"""End of the name of a file that is being written."""
STALE_S = 60.0
"""Seconds after which an unlocked hidden file is a leftover: one that was just put in another's place has no lock."""

_swept: set[Path] = set()
"""Folders that this process has swept."""


def path_of(name: str, value: object) -> Path:
    """The path that a caller gave as ``name``. Raises :class:`ConfigError` for what cannot be one."""
    check(isinstance(value, str | os.PathLike), name, value, "a path")
    path = Path(cast("str | os.PathLike[str]", value))
    check("\0" not in str(path), name, value, "a path without a zero byte")
    return path


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, to read from. Links are followed. Raises :class:`OSError`.

    Raises :class:`NotRegularError` for a folder, a pipe, a socket or a device. Looks before it opens, as opening a
    device may do things, and again after it.
    """
    _require_regular(os.stat(path))
    # Without O_NONBLOCK, a pipe put in the file's place meanwhile would keep us waiting for somebody who writes.
    extra = ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
    handle = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in extra))
    try:
        _require_regular(os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


class NotRegularError(OSError):
    """What is there is no regular file; the message says what it is."""


def _require_regular(found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    special = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise NotRegularError(f"it is {special.get(stat.S_IFMT(found.st_mode), 'a device')}; expected a regular file")


def read_bounded(path: Path, most: int) -> bytes:
    """Content of a regular file of at most ``most`` bytes. Raises :class:`OSError` for anything else."""
    with open(open_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it is too large; expected {most:,} bytes at most")
    return content


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
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def whole_file(target: Path, *, suffix: str = "", durable: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """A hidden name beside ``target`` to write to; it becomes ``target`` at the end, or goes away on an error.

    The rename is one step. ``suffix``: how the hidden name ends, for writers that look at it. ``durable``: the file is
    on the disk before it gets its name, and then the name is, so that it outlasts a power cut. Without ``overwrite``
    what is at ``target``, now or at the end, is kept. Raises :class:`OSError`; of it :class:`FileExistsError`.
    """
    if _exists(target) and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with ExitStack() as held:
        scratch = held.enter_context(_claimed(target, suffix))
        try:
            yield scratch
            if durable:
                with scratch.open("rb+") as file:
                    os.fsync(file.fileno())
            if overwrite:
                put_in_place(scratch, target)
            else:
                put_beside(scratch, target)
            if durable:
                sync_folder(target.parent)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


@contextmanager
def _claimed(target: Path, suffix: str) -> Iterator[Path]:
    """A new, empty, hidden file beside ``target``. It is locked meanwhile, so that nobody takes it for a leftover."""
    _sweep_once(target.parent)
    while True:
        scratch = _hidden_name(target, suffix)
        with scratch.open("xb") as file:  # now rather than after minutes of work; with the umask's permissions
            if not _lock(file.fileno()) or os.fstat(file.fileno()).st_nlink:  # not swept before it was locked
                yield scratch
                return


def _exists(target: Path) -> bool:
    """Whether there is something. Raises :class:`OSError` now for a name that cannot be, like one that is too long."""
    try:
        target.lstat()
    except FileNotFoundError:
        return False
    return True


def put_beside(scratch: Path, target: Path) -> None:
    """Give a file that is complete its name, in one step, if nothing has it. Raises :class:`FileExistsError`."""
    try:
        os.link(scratch, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        target.open("xb").close()
        os.replace(scratch, target)
    else:
        scratch.unlink()


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
    _exists(target)
    _sweep_once(target.parent)
    scratch = _hidden_name(target)
    scratch.mkdir()
    with ExitStack() as held:
        held.callback(shutil.rmtree, scratch, ignore_errors=True)
        if fcntl is not None:
            handle = os.open(scratch, os.O_RDONLY)
            held.callback(os.close, handle)
            _lock(handle)
        yield scratch
        if target.exists():
            target.rmdir()
        scratch.rename(target)


def sync_folder(folder: Path) -> None:
    """Names of a folder are on the disk, where the system can say so (Windows cannot). Raises :class:`OSError`."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path, older_than_s: float = 0.0) -> int:
    """Remove hidden files and folders of writers that were killed; how many.

    What a living writer holds is locked, and stays. Where the system has no such locks (Windows), only while nobody
    writes there.
    """
    found = [path for path in folder.glob(f".emo_rt-*{PART}*") if _is_left(path, older_than_s)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # in a folder of many users, another's file
                path.unlink()
    return len(found)


def _is_left(path: Path, older_than_s: float) -> bool:
    """Whether its writer is gone. A pipe or a link of that name is not ours."""
    try:
        found = path.lstat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return False
        if time.time() - found.st_mtime < older_than_s:
            return False
        if fcntl is None:
            return True
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return _lock(handle)
        finally:
            os.close(handle)
    except OSError:
        return False


def _lock(handle: int) -> bool:
    """Lock an open file for as long as it is open; whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep_once(folder: Path) -> None:
    """Remove what killed processes left in a folder, the first time that this process writes there."""
    if fcntl is not None and folder not in _swept:
        _swept.add(folder)
        remove_leftovers(folder, STALE_S)


def _hidden_name(target: Path, suffix: str = "") -> Path:
    """On the same file system, and unlike any other. Short: the target's own name may be as long as names can be."""
    return target.with_name(f".emo_rt-{uuid.uuid4().hex}{PART}{suffix}")
