"""Parquet, in and out. The only module that needs the extra ``batch``."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo_rt.errors import InputError, MissingDependencyError, OutputError
from emo_rt.files import whole_file


def require_parquet() -> Any:
    """The package that reads and writes Parquet. Raises :class:`MissingDependencyError`."""
    try:
        pyarrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise MissingDependencyError("Parquet needs pyarrow; install it with: pip install 'emo_rt[batch]'") from exc
    return pyarrow


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a table as plain values; nulls are left out, ``options`` may be a text of JSON or a struct.

    Raises :class:`InputError`, :class:`MissingDependencyError`.
    """
    pyarrow = require_parquet()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from map(_plain, batch.to_pylist())
    except pyarrow.ArrowException as exc:
        raise InputError(f"the manifest {path} is no Parquet table: {exc}") from exc


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], strings: Sequence[str], numbers: Sequence[str]) -> None:
    """A table of results, whole or not there. ``strings``, ``numbers``: names of text and of float64 columns; what is
    in neither is an integer or a yes or no. Mappings become texts of JSON. Raises :class:`OutputError`.
    """
    pyarrow = require_parquet()
    kinds = {name: pyarrow.string() for name in strings} | {name: pyarrow.float64() for name in numbers}
    names = list(rows[0])
    columns = {name: [_cell(row[name]) for row in rows] for name in names}
    arrays = [pyarrow.array(columns[name], kinds.get(name)) for name in names]
    try:
        with whole_file(path.absolute(), durable=True) as scratch:
            pyarrow.parquet.write_table(pyarrow.table(arrays, names=names), scratch)
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc}") from exc


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in row.items() if value is not None}
    options = found.get("options")
    if isinstance(options, str):
        with contextlib.suppress(ValueError):  # the manifest says that it is no object
            found["options"] = json.loads(options)
    elif isinstance(options, Mapping):
        found["options"] = {name: value for name, value in options.items() if value is not None}
    return found


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
