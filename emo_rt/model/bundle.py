"""A model on disk: ``emo_rt.json`` (the manifest) and ``graphs/*.onnx`` with their weight files.

A bundle is checked before any of it is used: schema version, file names, sizes and hashes, and that the graphs refer to
no file outside.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emo_rt.checks import check, from_dict
from emo_rt.errors import BundleError, BundleIntegrityError, BundleVersionError
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import GraphSpec
from emo_rt.model.onnx_files import external_locations

MANIFEST = "emo_rt.json"
GRAPHS_FOLDER = "graphs"
SCHEMA_VERSION = 1
"""Raised whenever an older emo_rt could not use a newer bundle."""

DTYPES = ("float32", "float16")
"""Float types of networks and weights."""

PLAIN_PATH = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
"""Names of files. Strict: beside ``..`` there are ``C:``, ``\\``, ``//`` … that some reader takes for a way out."""

DEMO_FOLDER = Path(__file__).parent.parent / "assets" / "demo"
"""The bundle inside the package, opened under the name ``demo``."""


@dataclass(frozen=True)
class Bundle:
    """A checked model folder."""

    path: Path
    """The folder."""
    config: ModelConfig
    """Shapes and schedule of the model."""
    dtype: str
    """Float type of the networks: ``float32`` or ``float16``."""
    weights: str
    """Float type in which the weights are stored."""
    graphs: Mapping[str, GraphSpec]
    """What each graph takes and gives."""
    files: Mapping[str, Mapping[str, Any]]
    """Relative path → ``sha256`` and ``bytes``."""
    provenance: Mapping[str, Any]
    """Source, licence, export command, versions."""
    parity: tuple[Mapping[str, Any], ...]
    """Rows of the export's parity check; empty if it was skipped."""

    @classmethod
    def open(cls, source: str | Path, *, verify: bool = True) -> Bundle:
        """Read and check a bundle folder; ``"demo"`` is the one inside the package unless a bundle has that name.

        ``verify``: compare every file with its hash. Raises :class:`BundleError` when there is none,
        :class:`BundleVersionError` for a newer schema, :class:`BundleIntegrityError` for a changed or unsafe file.
        """
        bundled = str(source) == "demo" and not (Path(source) / MANIFEST).exists()
        path = DEMO_FOLDER if bundled else Path(source)
        bundle = cls._from_manifest(path, _read_manifest(path))
        # Installers may hard-link a package's files from their cache; elsewhere a second link is a warning sign.
        bundle._check_files(verify, links_allowed=bundled)
        return bundle

    def graph_path(self, name: str) -> Path:
        """The ONNX file of a graph."""
        return self.path / GRAPHS_FOLDER / f"{name}.onnx"

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, the manifest left out."""
        return sum(int(entry["bytes"]) for entry in self.files.values())

    @property
    def digest(self) -> str:
        """SHA-256 over names and hashes of all files: what tells one model from another."""
        listed = sorted((name, str(entry["sha256"])) for name, entry in self.files.items())
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    @classmethod
    def _from_manifest(cls, path: Path, data: Mapping[str, Any]) -> Bundle:
        try:
            for name in ("dtype", "weights"):
                check(data[name] in DTYPES, name, data[name], " or ".join(DTYPES))
            return cls(
                path=path,
                config=from_dict(ModelConfig, data["config"]),
                dtype=data["dtype"],
                weights=data["weights"],
                graphs={name: GraphSpec.from_dict(name, graph) for name, graph in data["graphs"].items()},
                files={name: {key: file[key] for key in ("sha256", "bytes")} for name, file in data["files"].items()},
                provenance=dict(data["provenance"]),
                parity=tuple(data["parity"]),
            )
        except KeyError as exc:
            raise BundleError(f"{path / MANIFEST} is malformed: it has no {exc}; export the bundle again") from exc
        except (TypeError, ValueError, AttributeError) as exc:
            raise BundleError(f"{path / MANIFEST} is malformed: {exc}; export the bundle again") from exc

    def _check_files(self, verify: bool, links_allowed: bool) -> None:
        for name, entry in self.files.items():
            _check_file(self.path, name, entry, verify, links_allowed)
        for name in self.graphs:
            if not name.isidentifier():
                raise BundleIntegrityError(f"the manifest has a graph {name!r}; expected letters, digits and '_'")
            listed = f"{GRAPHS_FOLDER}/{name}.onnx"
            if listed not in self.files:
                raise BundleIntegrityError(f"{self.path} has graph {name!r} but no file {listed}")
            for location in external_locations(self.graph_path(name)):
                if f"{GRAPHS_FOLDER}/{location}" not in self.files:
                    raise BundleIntegrityError(f"{listed} refers to {location!r}, which is not a file of this bundle")


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Hash every file under ``folder`` and write the manifest last, so that a half-written bundle has none."""
    files = {
        str(PurePosixPath(path.relative_to(folder))): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {"schema": SCHEMA_VERSION, **content, "files": files}
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    scratch = folder / f".{MANIFEST}.part"
    scratch.write_text(text + "\n", encoding="utf-8")
    os.replace(scratch, folder / MANIFEST)


def _read_manifest(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise BundleError(f"no bundle at {path}: it has no {MANIFEST}; `emo-rt export` writes one") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(f"cannot read {path / MANIFEST}: {exc}") from exc
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise BundleError(f"{path / MANIFEST} is no manifest of a bundle: it has no schema version")
    if data["schema"] > SCHEMA_VERSION:
        raise BundleVersionError(
            f"{path} has schema version {data['schema']}, this emo_rt reads up to {SCHEMA_VERSION}; update emo_rt"
        )
    return data


def _check_name(name: str) -> None:
    if not PLAIN_PATH.fullmatch(name):
        raise BundleIntegrityError(
            f"the manifest names {name!r}, which is not a plain path inside the bundle; expected letters, digits, "
            "'_', '-' and '.', in parts separated by '/'"
        )


def _check_file(folder: Path, name: str, entry: Mapping[str, Any], verify: bool, links_allowed: bool) -> None:
    _check_name(name)
    relative = PurePosixPath(name)
    path = folder / relative
    parents = [path, *list(path.parents)[: len(relative.parts) - 1]]
    if any(part.is_symlink() for part in parents):
        raise BundleIntegrityError(f"{path} is a symbolic link; a bundle holds real files only")
    try:
        status = path.stat()
    except OSError as exc:
        raise BundleIntegrityError(f"{path} is missing; export or download the bundle again") from exc
    if not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and not links_allowed):
        raise BundleIntegrityError(f"{path} is not a regular file with a single hard link; copy the bundle")
    if status.st_size != entry["bytes"]:
        raise BundleIntegrityError(f"{path} has {status.st_size} bytes, the manifest says {entry['bytes']}")
    if verify and _sha256(path) != entry["sha256"]:
        raise BundleIntegrityError(f"{path} does not have the hash in the manifest: it was changed or damaged")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
