"""A bundle of schema 1 → a bundle of schema 2. Needs nothing that the runtime does not need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from emo_rt.errors import BundleError, OutputError
from emo_rt.files import whole_folder
from emo_rt.model.bundle import GRAPHS_FOLDER, SCHEMA_VERSION, Bundle, read_manifest, write_manifest
from emo_rt.model.schema1 import as_schema_2
from emo_rt.model.weight_files import name_by_content


def upgrade_bundle(source: Path | str, target: Path | str) -> Bundle:
    """Write the bundle folder ``source`` anew as ``target``, which must not exist or be empty, in today's schema.

    Weights keep every bit, and the graphs compute what they did: only the names of weight files change in them.
    ``source`` stays. Other files beside graphs and weights (a model card) come along; engines do not, since they are
    tied to the graphs' bytes. Raises :class:`BundleError` for a bundle that cannot be read or is up to date, and
    :class:`OutputError` when the folder cannot be written; nothing is left then.
    """
    source, target = Path(source), Path(target)
    refuse_used(target)
    bundle = Bundle.open(source)
    if bundle.schema == SCHEMA_VERSION:
        raise BundleError(f"{source} has schema {SCHEMA_VERSION} already: there is nothing to convert")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(target) as folder:
            _copy(bundle, folder)
            name_by_content(folder / GRAPHS_FOLDER)
            write_manifest(folder, _content(bundle))
    except OSError as exc:
        raise OutputError(f"cannot write {target}: {exc.strerror or exc}") from exc
    return Bundle.open(target)


def refuse_used(target: Path) -> None:
    """Raise :class:`OutputError` unless ``target`` is a new or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} exists and is not an empty folder; choose another one or remove it")


def _copy(bundle: Bundle, folder: Path) -> None:
    for name in bundle.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, folder / name)


def _content(bundle: Bundle) -> dict[str, Any]:
    manifest = as_schema_2(read_manifest(bundle.path))
    return {key: value for key, value in manifest.items() if key not in ("schema", "files")}
