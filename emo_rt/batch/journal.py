"""What was begun and how it ended, on disk before it is true anywhere else.

``journal.jsonl`` is the only truth: each line is an event, and a line is on the disk before what it announces starts
(``attempt``) or is told to anybody (``result``). All else, ``results.jsonl`` too, can be made from it. Events:

======== ================================================================================
input    a file's size, time and hash, so that the next run need not read it
attempt  a row starts; ``alone``: nothing else runs beside it
retry    it ended with an error that may pass
died     it ended with its worker
stopped  the driver stopped it: that is not the row's fault
lost     it ended with the driver (found by the next run) or its machine. Only an attempt ``alone`` counts
again    ``--retry-failed``: what was is forgotten
result   the last word
======== ================================================================================
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emo_rt.batch.result import RowResult
from emo_rt.errors import OutputError
from emo_rt.files import sync_folder, whole_file

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
MOST_DEATHS = 3
"""A row that killed so many workers is poisoned."""


@dataclass
class History:
    """What is known of a row."""

    attempts: int = 0
    """How often it was started."""
    deaths: int = 0
    """How often that killed its worker, or alone the driver."""
    errors: int = 0
    """How often it was tried again after an error."""
    is_suspect: bool = False
    """It ran as the driver ended: it shall run alone."""
    is_open: bool = False
    """It was started, and nothing is known of the end."""
    is_alone: bool = False
    """Whether that attempt runs alone."""
    result: RowResult | None = None
    """The last word."""

    @property
    def is_poisoned(self) -> bool:
        """Whether it must not be started again."""
        return self.deaths >= MOST_DEATHS

    @property
    def must_be_alone(self) -> bool:
        """Also the last try before it is called poisoned: its neighbours may have been to blame."""
        return self.is_suspect or self.deaths == MOST_DEATHS - 1


class Journal:
    """The journal of a folder. A context manager; one process at a time has it."""

    def __init__(self, path: Path) -> None:
        """Read it, or start it; attempts that a former run left open are ``lost``. Raises :class:`OutputError`."""
        self._path = path
        self.rows: dict[str, History] = {}
        self.inputs: dict[str, tuple[int, int, str]] = {}
        with _writing(path):
            for number, event in _events(path):
                try:
                    self._apply(event)
                except (KeyError, TypeError, ValueError):
                    logger.warning("%s: line %d is no event of this version and is left out", path, number)
            self._file = path.open("ab")
            _end_torn_line(path)
            sync_folder(path.parent)
        for key in self.open_rows():
            self.lost(key)

    def open_rows(self) -> list[str]:
        """Rows that were begun, and nothing is known of the end."""
        return [key for key, row in self.rows.items() if row.is_open]

    def row(self, key: str) -> History:
        """What is known of a row."""
        return self.rows.setdefault(key, History())

    def begin(self, key: str, worker: int, *, alone: bool) -> None:
        """A row is about to be started by a process."""
        self._write("attempt", key, worker=worker, alone=alone)

    def retry(self, key: str, error: str) -> None:
        """It will be tried again."""
        self._write("retry", key, error=error)

    def died(self, key: str, exit_code: int | None) -> None:
        """Its worker died."""
        self._write("died", key, exit_code=exit_code)

    def lost(self, key: str) -> None:
        """It ended with the driver, or with its machine."""
        self._write("lost", key, alone=self.row(key).is_alone)

    def stopped(self, key: str) -> None:
        """The driver stopped it."""
        self._write("stopped", key)

    def again(self, key: str) -> None:
        """Forget what was."""
        self._write("again", key)

    def end(self, result: RowResult) -> None:
        """The last word on a row."""
        self._write("result", result.key, result=result.to_dict())

    def know_input(self, path: str, size: int, mtime_ns: int, sha256: str) -> None:
        """The hash of a file that has this size and time. Not forced to the disk: it can be had again."""
        self._append({"event": "input", "path": path, "size": size, "mtime_ns": mtime_ns, "sha256": sha256})

    def close(self) -> None:
        """Safe twice. What a full disk did not take is let go: it was told to nobody."""
        _close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, event: str, key: str, **more: Any) -> None:
        self._append({"event": event, "key": key, **more})
        with _writing(self._path):
            os.fsync(self._file.fileno())

    def _append(self, event: Mapping[str, Any]) -> None:
        with _writing(self._path):
            self._file.write(_line(event))
            self._file.flush()
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "input":
            self.inputs[event["path"]] = (event["size"], event["mtime_ns"], event["sha256"])
            return
        row = self.row(event["key"])
        if kind == "attempt":
            row.attempts += 1
            row.is_alone = event["alone"]
        row.is_open = kind == "attempt"
        row.deaths += kind == "died" or (kind == "lost" and event["alone"])
        row.errors += kind == "retry"
        row.is_suspect = kind == "lost" or (row.is_suspect and kind in ("attempt", "stopped"))
        if kind == "result":
            row.result = RowResult.from_dict(event["result"])
        elif kind == "again":
            self.rows[event["key"]] = History()


class ResultsFile:
    """``results.jsonl``: one line per row that has ended, for whoever watches."""

    def __init__(self, path: Path, known: list[RowResult]) -> None:
        """Start it anew with what is known. Raises :class:`OutputError`."""
        self._path = path
        with _writing(path):
            with whole_file(path.absolute()) as scratch, scratch.open("wb") as file:
                file.writelines(_line(result.to_dict()) for result in known)
            self._file = path.open("ab")

    def add(self, result: RowResult) -> None:
        """A row has ended. Raises :class:`OutputError`."""
        with _writing(self._path):
            self._file.write(_line(result.to_dict()))
            self._file.flush()

    def close(self) -> None:
        """Safe twice. What a full disk did not take is let go: it was told to nobody."""
        _close(self._file)


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode(errors="replace") + b"\n"


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):
        file.close()  # writes what it still has; afterwards it is closed also where that fails


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the system raises becomes :class:`OutputError`."""
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc}") from exc


def _end_torn_line(path: Path) -> None:
    """So that the next event has a line of its own, where the last writer was killed in the middle of one."""
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
            file.write(b"\n")


def _events(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                event = json.loads(line)
                assert isinstance(event, dict)
            except (ValueError, AssertionError):
                logger.warning("%s: line %d cannot be read and is left out", path, number)
                continue
            yield number, event
