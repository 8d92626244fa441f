"""A model on disk: ``emo_rt.json`` (the manifest) and ``graphs/`` with ONNX files and the weight files that they share.

A weight file is named by its content; every tensor is stored once, however many graphs use it. A bundle is checked
before any of it is used: schema version, file names, sizes and hashes, and that the graphs refer to no file outside.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from emo_rt.checks import check, from_dict
from emo_rt.errors import BundleError, BundleIntegrityError, BundleVersionError, ConfigError
from emo_rt.files import path_of, read_bounded, sha256_of, whole_file
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import GraphSpec
from emo_rt.model.onnx_files import external_locations
from emo_rt.model.presets import Preset, Variant
from emo_rt.model.schema1 import as_schema_2
from emo_rt.model.weight_files import WEIGHTS, weight_file_name

MANIFEST = "emo_rt.json"
GRAPHS_FOLDER = "graphs"
SCHEMA_VERSION = 2
"""Raised whenever an older emo_rt could not use a newer bundle."""

LARGEST_MANIFEST = 64 << 20
"""Bytes. The demo's has 23 kB."""

DTYPES = ("float32", "float16")
"""Float types of networks and weights."""

PLAIN_PATH = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
"""Names of files. Strict: beside ``..`` there are ``C:``, ``\\``, ``//`` … that some reader takes for a way out."""

RANDOM_WEIGHTS = "random weights"
"""``source`` in the provenance of a bundle that nobody trained."""
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
    """What each graph takes and gives, and what it serves."""
    variants: Mapping[str, Variant]
    """Sets of weights to step with."""
    presets: Mapping[str, Preset]
    """Named settings."""
    default_preset: str
    """Name of the preset that holds where none is asked for."""
    files: Mapping[str, Mapping[str, Any]]
    """Relative path → ``sha256`` and ``bytes``."""
    provenance: Mapping[str, Any]
    """Source, licence, export command, versions, and what kind of pictures the model was trained on."""
    parity: tuple[Mapping[str, Any], ...]
    """Rows of the export's parity check; empty if it was skipped."""
    schema: int = SCHEMA_VERSION
    """Schema of the manifest on disk."""

    @classmethod
    def open(cls, source: str | Path, *, verify: bool = True) -> Bundle:
        """Read and check a bundle folder; ``"demo"`` is the one inside the package unless a bundle has that name.

        ``verify``: compare every file with its hash. Raises :class:`BundleError` when there is none,
        :class:`BundleVersionError` for a newer schema, :class:`BundleIntegrityError` for a changed or unsafe file.
        """
        check(isinstance(verify, bool), "verify", verify, "True or False")
        path = path_of("bundle", source)
        bundled = str(path) == "demo" and not (path / MANIFEST).exists()
        path = DEMO_FOLDER if bundled else path
        bundle = cls._from_manifest(path, read_manifest(path))
        # Installers may hard-link a package's files from their cache; elsewhere a second link is a warning sign.
        bundle._check_files(verify, links_allowed=bundled)
        return bundle

    @property
    def is_untrained(self) -> bool:
        """Whether the bundle says of itself that its weights are random."""
        return self.provenance.get("source") == RANDOM_WEIGHTS

    @property
    def trained_on(self) -> Literal["drawings", "photographs"] | None:
        """Kind of pictures that the model knows, where the bundle says it."""
        said = self.provenance.get("trained_on")
        return said if said in ("drawings", "photographs") else None

    def graph_path(self, name: str) -> Path:
        """The ONNX file of a graph."""
        return self.path / GRAPHS_FOLDER / f"{name}.onnx"

    def find(self, role: str, variant: str, *, guided: bool = False, cached: bool = False) -> str | None:
        """Name of the graph for a role: the variant's own, else the one that serves all; ``None`` if there is none."""
        for owner in (variant, None):
            for name, graph in self.graphs.items():
                if (graph.role, graph.variant, graph.guided, graph.cached) == (role, owner, guided, cached):
                    return name
        return None

    @property
    def outdated(self) -> str | None:
        """What to do about an older schema; ``None`` for today's."""
        if self.schema == SCHEMA_VERSION:
            return None
        command = f"emo-rt export --upgrade {self.path} -o NEW_FOLDER"
        return f"{self.path} has schema {self.schema} and is read as one of {SCHEMA_VERSION}; `{command}` converts it"

    @property
    def sha256(self) -> str:
        """Hash of the content: what is kept for a bundle beside it (engines, avatars, tuned presets) is kept under it.

        It says nothing of the manifest: a bundle that offers other presets computes the same.
        """
        content = "\n".join(f"{name} {entry['sha256']}" for name, entry in sorted(self.files.items()))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, the manifest left out."""
        return sum(int(entry["bytes"]) for entry in self.files.values())

    @classmethod
    def _from_manifest(cls, path: Path, written: Mapping[str, Any]) -> Bundle:
        try:
            data = written if written["schema"] > 1 else as_schema_2(written)
            for name in ("dtype", "weights"):
                check(data[name] in DTYPES, name, data[name], " or ".join(DTYPES))
            bundle = cls(
                path=path,
                config=from_dict(ModelConfig, data["config"]),
                dtype=data["dtype"],
                weights=data["weights"],
                graphs={name: GraphSpec.from_dict(name, graph) for name, graph in data["graphs"].items()},
                variants={name: from_dict(Variant, variant) for name, variant in data["variants"].items()},
                presets={name: from_dict(Preset, preset) for name, preset in data["presets"].items()},
                default_preset=data["default_preset"],
                files={name: {key: file[key] for key in ("sha256", "bytes")} for name, file in data["files"].items()},
                provenance=dict(data["provenance"]),
                parity=tuple(data["parity"]),
                schema=written["schema"],
            )
            bundle.check_offers()
        except KeyError as exc:
            raise BundleError(f"{path / MANIFEST} is malformed: it has no {exc}; export the bundle again") from exc
        except (TypeError, ValueError, AttributeError, ConfigError) as exc:
            raise BundleError(f"{path / MANIFEST} is malformed: {exc}; export the bundle again") from exc
        return bundle

    def check_offers(self) -> None:
        """Raise :class:`ConfigError` where a preset or a graph names what is not there."""
        presets, variants = ", ".join(self.presets), ", ".join(self.variants)
        check(self.default_preset in self.presets, "default_preset", self.default_preset, f"one of {presets}")
        for name, preset in self.presets.items():
            check(preset.variant in self.variants, f"variant of preset {name}", preset.variant, f"one of {variants}")
            check(set(preset.ladder) <= set(self.presets), f"ladder of preset {name}", preset.ladder, presets)
        for name, graph in self.graphs.items():
            known = graph.variant is None or graph.variant in self.variants
            check(known, f"variant of graph {name}", graph.variant, f"one of {variants}")

    def _check_files(self, verify: bool, links_allowed: bool) -> None:
        for name, entry in self.files.items():
            _check_file(self.path, name, entry, verify, links_allowed)
            if self.schema > 1 and name.endswith(WEIGHTS):
                _check_content_name(name, entry)
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
        str(PurePosixPath(path.relative_to(folder))): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {"schema": SCHEMA_VERSION, **content, "files": files}
    with whole_file(folder / MANIFEST) as scratch:
        scratch.write_text(_text(manifest) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Mapping[str, Any]:
    """The manifest of the bundle folder ``path`` as it is written, with a schema that is known.

    Raises :class:`BundleError`, :class:`BundleVersionError`.
    """
    try:
        data = json.loads(read_bounded(path / MANIFEST, LARGEST_MANIFEST).decode("utf-8"))
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


def _text(value: Any, indent: int = 0) -> str:
    """JSON whose innermost lists and objects take one line: a tensor is a line, not eight."""
    inner = list(value.values()) if isinstance(value, Mapping) else value
    is_leaf = not isinstance(value, Mapping | list | tuple) or not any(_is_deep(one) for one in inner)
    if is_leaf:
        return json.dumps(value, ensure_ascii=False)
    start = "\n" + " " * (indent + 1)
    if isinstance(value, Mapping):
        rows = [f"{json.dumps(key, ensure_ascii=False)}: {_text(one, indent + 1)}" for key, one in value.items()]
        return "{" + ",".join(start + row for row in rows) + "\n" + " " * indent + "}"
    return "[" + ",".join(start + _text(one, indent + 1) for one in value) + "\n" + " " * indent + "]"


def _is_deep(value: Any) -> bool:
    """Whether it is an object or a list that is worth a line of its own."""
    return isinstance(value, Mapping) or (isinstance(value, list | tuple) and any(isinstance(x, str) for x in value))


def _check_name(name: str) -> None:
    if not PLAIN_PATH.fullmatch(name):
        raise BundleIntegrityError(
            f"the manifest names {name!r}, which is not a plain path inside the bundle; expected letters, digits, "
            "'_', '-' and '.', in parts separated by '/'"
        )


def _check_content_name(name: str, entry: Mapping[str, Any]) -> None:
    """A weight file is what its name says, so that one that is there under this name need not be fetched again."""
    expected = f"{GRAPHS_FOLDER}/{weight_file_name(str(entry['sha256']))}"
    if name != expected:
        raise BundleIntegrityError(f"the manifest has a weight file {name!r}; by its hash its name is {expected!r}")


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
    if verify and sha256_of(path) != entry["sha256"]:
        raise BundleIntegrityError(f"{path} does not have the hash in the manifest: it was changed or damaged")
