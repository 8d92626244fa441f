"""Files of other machines by URL (``s3://``, ``gs://``, …), through fsspec. The only module that needs ``remote``."""

from __future__ import annotations

import errno
import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from emo_rt.errors import InputError, MissingDependencyError, OutputError
from emo_rt.files import PART

URL = re.compile(r"[A-Za-z][\w+.-]*://")
"""How a path begins that is of another machine."""
WHOLE_BY_THEMSELVES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"})
"""Stores where a file that is being written cannot be seen. Elsewhere it gets its name at the end."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
"""What does not go away by itself."""


def is_url(path: object) -> bool:
    """Whether this names a file of another machine."""
    return isinstance(path, str) and URL.match(path) is not None


def join(base: str, name: str) -> str:
    """A name of a list, relative to the list's own folder, a URL; URLs and absolute paths stay."""
    return name if is_url(name) or name.startswith("/") else f"{base.rstrip('/')}/{name}"


def parent(url: str) -> str:
    """The folder of a URL."""
    return url.rpartition("/")[0]


class Remote:
    """A place by its URL: a file, or a folder with files."""

    def __init__(self, url: str) -> None:
        """Raises :class:`InputError` for an unknown kind of URL, :class:`MissingDependencyError`."""
        self.url = url
        try:
            core = importlib.import_module("fsspec.core")
        except ImportError as exc:
            raise MissingDependencyError(f"{url} needs fsspec; pip install 'emo_rt[remote]'") from exc
        try:
            self._files, self._path = core.url_to_fs(url)
        except ImportError as exc:  # fsspec says which package
            raise MissingDependencyError(f"{url}: {exc}") from exc
        except Exception as exc:  # each kind of store has errors of its own
            raise InputError(f"{url} cannot be opened: {exc}") from exc
        kinds = self._files.protocol
        self._is_whole = bool(WHOLE_BY_THEMSELVES & ({kinds} if isinstance(kinds, str) else {*kinds}))

    def fingerprint(self) -> str | None:
        """Changes with the content; ``None`` if there is no such file. Reads no content."""
        try:
            return str(self._files.ukey(self._path)) if self._files.isfile(self._path) else None
        except Exception:  # noqa: BLE001 - as a file that cannot be read: the row says why
            return None

    def names(self) -> set[str]:
        """Of the files in this folder; none if there is no folder. Raises :class:`OutputError`."""
        with _failing(OutputError, f"{self.url} cannot be read"):
            self._files.invalidate_cache()
            if not self._files.isdir(self._path):
                return set()
            return {PurePosixPath(found).name for found in self._files.ls(self._path, detail=False)}

    def fetch(self, target: Path) -> Path:
        """Copy the file here. Raises :class:`InputError`."""
        with _failing(InputError, f"{self.url} cannot be read"):
            self._files.get_file(self._path, str(target))
        return target

    def put(self, source: Path) -> None:
        """Make it a copy of ``source``, in one step for whoever looks. Raises :class:`OutputError`."""
        with _failing(OutputError, f"{self.url} cannot be written"):
            folder, _, name = self._path.rpartition("/")
            if self._is_whole:
                self._files.put_file(str(source), self._path)
                return
            self._files.makedirs(folder, exist_ok=True)
            scratch = f"{folder}/.emo_rt-{name}{PART}"
            self._files.put_file(str(source), scratch)
            self._files.mv(scratch, self._path)


@contextmanager
def fetched(fields: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The fields with copies here in the place of URLs, as long as the block runs. Raises :class:`InputError`."""
    with tempfile.TemporaryDirectory(prefix="emo_rt-") as folder:

        def here(value: Any, number: str) -> Any:
            if isinstance(value, list):
                return [here(one, f"{number}-{n}") for n, one in enumerate(value)]
            return str(Remote(value).fetch(Path(folder, number + suffix(value)))) if is_url(value) else value

        yield {name: here(value, name) if name in names else value for name, value in fields.items()}


def suffix(url: str) -> str:
    """``.png`` of ``s3://a/b.png``: readers look at it."""
    return PurePosixPath(url).suffix


@contextmanager
def _failing(kind: type[InputError] | type[OutputError], message: str) -> Iterator[None]:
    """What a store raises becomes ours. What may pass has a cause that says so."""
    try:
        yield
    except OSError as exc:
        if exc.errno is not None or isinstance(exc, FINAL):
            raise kind(f"{message}: {exc}") from exc
        raise kind(f"{message}: {exc}") from OSError(errno.EREMOTEIO, str(exc))
    except FINAL as exc:
        raise kind(f"{message}: {exc}") from exc
    except Exception as exc:  # noqa: BLE001 - each store has errors of its own, of its network above all
        raise kind(f"{message}: {type(exc).__name__}: {exc}") from OSError(errno.EREMOTEIO, str(exc))
