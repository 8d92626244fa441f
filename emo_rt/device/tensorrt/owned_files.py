"""Files that only their owner can have written: how native code is read from disk, and put there.

The folder is opened first and every file relative to it, without following links, so that what was checked is what is
read. Windows has no such modes; there only links are refused.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from emo_rt.errors import EngineIntegrityError
from emo_rt.files import whole_file

POSIX = os.name == "posix"
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
ROOT_ID = 0


class OwnedFolder:
    """An open folder that only its owner, who is this user or root, can write. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`EngineIntegrityError` for an unsafe folder, :class:`FileNotFoundError` for none."""
        self.path = path
        self._handle: int | None = None
        if path.is_symlink():
            raise EngineIntegrityError(f"{path} is a symbolic link; engines are loaded from a real folder only")
        if not POSIX:
            return
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW)
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise EngineIntegrityError(f"{path} is no folder that can be read: {exc.strerror}") from exc
        try:
            _refuse_foreign(os.fstat(self._handle), path)
        except EngineIntegrityError:
            self.close()
            raise

    def names(self) -> list[str]:
        """Names in the folder, sorted."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))

    def read(self, name: str) -> bytes:
        """A file's content. Raises :class:`EngineIntegrityError` unless it is a plain file of the owner's alone."""
        path = self.path / name
        if Path(name).name != name or path.is_symlink():
            raise EngineIntegrityError(f"{path} is a link or lies elsewhere; engines are read from plain files only")
        target = path if self._handle is None else name
        try:
            handle = os.open(target, os.O_RDONLY | NO_FOLLOW | getattr(os, "O_BINARY", 0), dir_fd=self._handle)
        except OSError as exc:
            raise EngineIntegrityError(f"cannot read {path}: {exc.strerror}") from exc
        try:
            _refuse_unsafe(os.fstat(handle), path)
            with open(handle, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(handle)

    def close(self) -> None:
        """Close the folder. Safe twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def write_owned(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, with these permissions whatever the umask. Raises :class:`OSError`.

    Written beside the target and to the disk first, then renamed.
    """
    with whole_file(path) as scratch, scratch.open("r+b") as file:
        file.write(content)
        file.flush()
        if POSIX:
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    if POSIX:  # so that the new name survives a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _refuse_unsafe(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise EngineIntegrityError(f"{path} is not a plain file with a single hard link; build it again")
    _refuse_foreign(status, path)


def _refuse_foreign(status: os.stat_result, path: Path) -> None:
    if not POSIX:
        return
    if status.st_uid not in (ROOT_ID, os.geteuid()):
        raise EngineIntegrityError(
            f"{path} belongs to user {status.st_uid}, you are {os.geteuid()}; an engine is native code, so it is "
            "loaded only from files of your own or root's: build it yourself, or copy it"
        )
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise EngineIntegrityError(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):o}), and an engine is native code; "
            f"if you trust what is in it: chmod go-w {path}"
        )
