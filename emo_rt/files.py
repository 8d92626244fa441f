"""Files that are whole or not there, and hashes of files: one place for what every writer and checker needs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""End of the name of a file that is being written."""


def sha256_of(path: Path) -> str:
    """Hash of a file's content, as 64 hexadecimal digits. Raises :class:`OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A hidden name beside ``target`` to write to; it becomes ``target`` at the end, or goes away on an error.

    On the same file system, so that the rename is one step. Raises :class:`OSError`.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART)
    os.close(handle)
    scratch = Path(name)
    try:
        scratch.chmod(0o644)  # mkstemp's files are private
        yield scratch
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` to fill; it becomes ``target`` at the end, or goes away on an error.

    ``target`` must not exist or be an empty folder. Raises :class:`OSError`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch
        if target.exists():
            target.rmdir()
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
