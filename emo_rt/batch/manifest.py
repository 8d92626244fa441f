"""The list of videos to make: JSON lines, CSV or Parquet → rows. A bad row is a row with an error, never the end."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_rt.batch import tables
from emo_rt.batch.remote import Remote, is_url, join, parent, suffix
from emo_rt.errors import ConfigError, EmoRtError, InputError
from emo_rt.files import path_of
from emo_rt.runtime.request import SECTIONS, Request
from emo_rt.schema.compound import Several
from emo_rt.schema.kinds import File
from emo_rt.schema.option import Option, options_of

ID, OPTIONS = "id", "options"
"""What a row has beside the fields of :class:`emo_rt.Request`."""
KNOWN = {option.name: option for section in SECTIONS for option in options_of(section) if not option.is_hidden}
"""Fields of a request by their outside names."""
INPUTS = ("portrait", "voice")


def _is_file(option: Option) -> bool:
    kind = option.kind.item if isinstance(option.kind, Several) else option.kind
    return isinstance(kind, File)


FILES = (*INPUTS, *(name for name, option in KNOWN.items() if _is_file(option)))
"""Fields that name files."""


@dataclass(frozen=True)
class Row:
    """One video of a manifest."""

    number: int
    """From 1."""
    id: str
    """As the manifest says; ``row N`` where it does not."""
    written: str
    """The row as it is written: who changes it asks for another video."""
    fields: Mapping[str, Any]
    """What :meth:`emo_rt.Request.from_dict` reads, paths made absolute; empty for a bad row."""
    options_sha256: str = ""
    """:meth:`emo_rt.Request.digest`."""
    error: EmoRtError | None = None
    """Why no video can be made of it."""


def rows_of(manifest: str | Path | Sequence[Row]) -> list[Row]:
    """The rows of a file, or those that were given. Raises as :func:`read_manifest`."""
    return read_manifest(manifest) if isinstance(manifest, str | os.PathLike) else list(manifest)


def read_manifest(path: str | Path) -> list[Row]:
    """All rows, in order. Paths in it are relative to its own folder; they and ``path`` may be URLs (extra ``remote``).

    ``path``: ``.jsonl`` (an object a line), ``.csv`` (with a header) or ``.parquet`` (extra ``batch``). Each row has
    ``id``, ``portrait``, ``voice``, and options of :class:`emo_rt.Request`: as fields of their own, or in an object
    ``options``. A row that cannot be read, or whose id was there before, has an ``error``. Raises
    :class:`ConfigError` for another kind of file, :class:`InputError` for a file that cannot be read or has no row,
    :class:`MissingDependencyError`.
    """
    if is_url(path):
        return _read_remote(str(path))
    path = path_of("manifest", path)
    base = path.parent.absolute()
    return _read(path, lambda name: name if is_url(name) else str(base / name))


def _read_remote(url: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="emo_rt-") as folder:
        path = Remote(url).fetch(Path(folder, f"manifest{suffix(url)}"))
        return _read(path, lambda name: join(parent(url), name), called=url)


def _read(path: Path, place: Callable[[str], str], called: str = "") -> list[Row]:
    """``place``: where a file is that a row names. ``called``: name of the list in messages."""
    name = called or str(path)
    reader = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv_rows, ".parquet": tables.read_rows}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise ConfigError(f"the manifest {name} ends in {path.suffix!r}; expected .jsonl, .csv or .parquet")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        for number, found in enumerate(reader(path), 1):
            row = _row(number, found, place, seen)
            seen.setdefault(row.id, number)
            rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"the manifest {name} cannot be read: {exc}") from exc
    if not rows:
        raise InputError(f"the manifest {name} has no row; expected one per video")
    return rows


def _row(number: int, found: Mapping[str, Any] | EmoRtError, place: Callable[[str], str], seen: Mapping[str, int]
         ) -> Row:  # fmt: skip
    if isinstance(found, EmoRtError):
        return Row(number, f"row {number}", str(found), {}, error=found)
    written = json.dumps(found, sort_keys=True, default=str)
    name = f"row {number}"
    try:
        name = _id(found, name)
        if name in seen:
            raise ConfigError(f"id {name!r} is that of row {seen[name]}, too; expected an id of its own")
        request = Request.from_dict(_flat(found))
        return Row(number, name, written, _absolute(request.to_dict(), place), request.digest())
    except EmoRtError as exc:
        return Row(number, name, written, {}, error=exc)


def _id(found: Mapping[str, Any], otherwise: str) -> str:
    given = found.get(ID)
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise ConfigError(f"id of {otherwise} is {given!r}; expected a text or an integer")
    return str(given)


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the row and of its ``options``, as one mapping."""
    fields = {name: value for name, value in found.items() if name not in (ID, OPTIONS)}
    options = found.get(OPTIONS)
    if options is None:
        return fields
    if not isinstance(options, Mapping):
        raise ConfigError(f"options is {options!r}; expected an object")
    twice = sorted(fields.keys() & options.keys())
    if twice:
        raise ConfigError(f"{', '.join(twice)} is in the row and in its options; expected it once")
    return fields | dict(options)


def _absolute(fields: dict[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    def placed(value: Any) -> Any:
        return [place(one) for one in value] if isinstance(value, list) else place(value)

    return {name: placed(value) if name in FILES else value for name, value in fields.items()}


def _json_lines(path: Path) -> Iterator[Mapping[str, Any] | EmoRtError]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _json_object(line, number)


def _json_object(line: bytes, number: int) -> Mapping[str, Any] | EmoRtError:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return InputError(f"line {number} is no JSON: {exc}")
    if not isinstance(found, dict):
        return InputError(f"line {number} is a {type(found).__name__}; expected an object with id, portrait and voice")
    return found


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any] | EmoRtError]:
    """Empty cells are not given."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            try:
                if None in cells:
                    raise InputError(f"line {reader.line_num} has more cells than the header")
                yield {name: _cell(name, text) for name, text in cells.items() if text}
            except EmoRtError as exc:
                yield exc


def _cell(name: str, text: str) -> Any:
    """The JSON value of a cell, which is written as on the command line."""
    if name == OPTIONS:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"options is {text!r}; expected a JSON object") from exc
    option = KNOWN.get(name)
    if option is None:
        return text
    try:
        return option.dump(option.kind.read(text))
    except (EmoRtError, ValueError) as exc:
        raise ConfigError(f"{name} is {text!r}; expected {option.expected}") from exc
