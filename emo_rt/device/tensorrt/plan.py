"""TensorRT plans on disk: what each was built from, whether it may be used here, and where it lies.

Beside every plan lies a JSON file, which says what the plan was built from and vouches for it with its hash. A plan is
native code: it is read only if its sidecar vouches for it and nobody but its owner can have written either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.device.tensorrt.owned_files import OwnedFolder
from emo_rt.device.tensorrt.package import TensorRT
from emo_rt.errors import EngineIntegrityError, EngineStaleError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.bundle import DEMO_FOLDER, GRAPHS_FOLDER, Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of
from emo_rt.model.onnx_files import external_locations

SCHEMA_VERSION = 1
"""Of the sidecar. Raised whenever an older emo_rt could not judge a newer plan."""
ENGINES_FOLDER = "engines"
"""Folder of the plans inside a bundle."""
CACHE_VARIABLE = "EMO_RT_ENGINE_CACHE"
"""Environment variable: folder for engines outside the bundles, one folder per bundle in it."""
FRONTEND_SAMPLES = 400
"""Receptive field of wav2vec 2.0's convolutions (its section 4.1: 25 ms): no shorter sound gives a feature."""
LONGEST_FILE_S = 60
"""Longest sound for models that encode whole files, seconds: the upper end of their engine's profile."""

Profile = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest, usual and largest shape of one input."""


@dataclass(frozen=True)
class PlanKey:
    """Everything that a plan depends on.

    Also used to ask for a plan; a request with ``options`` = ``None`` accepts a plan built with any options.
    """

    graph: str
    """Name of the graph."""
    graph_sha256: str
    """Hash over the ONNX file and every weight file that it refers to."""
    package: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    package_version: str
    """Version of the package. TensorRT loads only plans of its own version."""
    capabilities: tuple[str, ...]
    """Compute capabilities, like ``sm89``: those it was built for; in a request, those that it must serve."""
    gpu: str | None
    """Name of the GPU that it was tuned on. ``None``: it runs on every GPU of the capabilities."""
    precision: str
    """Number type inside the graph. It comes from the ONNX file: TensorRT networks here are strongly typed."""
    shapes: Mapping[str, Profile]
    """Input with a dynamic axis → smallest, usual and largest shape."""
    options: Mapping[str, int | bool | None] | None
    """Options of the builder."""

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        graph: str,
        package: TensorRT,
        capabilities: Sequence[str],
        gpu: str | None,
        options: Mapping[str, int | bool | None] | None = None,
    ) -> PlanKey:
        """The key of a graph of an opened bundle."""
        return cls(
            graph=graph,
            graph_sha256=graph_hash(bundle, graph),
            package=package.name,
            package_version=package.version,
            capabilities=tuple(capabilities),
            gpu=gpu,
            precision=bundle.dtype,
            shapes=profile_shapes(bundle, graph),
            options=options,
        )

    @property
    def target(self) -> str:
        """What it runs on, in words: ``sm86, sm89`` or ``NVIDIA L4 (sm89)``."""
        names = ", ".join(self.capabilities)
        return f"{self.gpu} ({names})" if self.gpu else names

    @property
    def stem(self) -> str:
        """File name without its end. A rebuild for the same target replaces the file."""
        target = "_".join([*self.capabilities, *([self.gpu] if self.gpu else [])])
        return f"{self.graph}-{self.package}-{re.sub(r'[^A-Za-z0-9_]+', '_', target)}"


@dataclass(frozen=True)
class PlanRecord:
    """The sidecar of a plan."""

    key: PlanKey
    """What it was built from."""
    file: str
    """Name of the plan, in the same folder."""
    sha256: str
    """Hash of the plan."""
    size_bytes: int
    """Size of the plan."""
    emo_rt: str
    """Version that built it."""
    seconds: float
    """Wall time of the build."""
    peak_memory_bytes: int | None
    """Largest memory of the building process; ``None``: the system did not say."""
    report: Mapping[str, Any]
    """What the builder said of the engine: layers, attentions, scratch memory."""

    def to_json(self) -> str:
        """Text of the sidecar."""
        return json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes, source: Path) -> PlanRecord:
        """Read :meth:`to_json`. Raises :class:`EngineIntegrityError` when it does not have that form."""
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if schema != SCHEMA_VERSION:
                raise ValueError(f"schema {schema}, this emo_rt reads {SCHEMA_VERSION}")
            record = cls(**{**data, "key": _read_key(data["key"])})
            _check_types(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise EngineIntegrityError(f"{source} does not describe a plan: {exc}; build the engine again") from exc
        return record


@dataclass(frozen=True)
class Plan:
    """A plan that may be loaded."""

    folder: Path
    """Where it lies."""
    record: PlanRecord
    """What its sidecar says."""

    @property
    def path(self) -> Path:
        """The plan's file."""
        return self.folder / self.record.file

    @property
    def is_stripped(self) -> bool:
        """Whether it has no weights and must be refitted from the ONNX file before it runs."""
        return bool((self.record.key.options or {}).get("strip_weights"))

    def read(self) -> bytes:
        """The plan, checked. Raises :class:`EngineIntegrityError` if it is not what the sidecar vouches for."""
        try:
            with OwnedFolder(self.folder) as folder:
                data = folder.read(self.record.file)
        except FileNotFoundError as exc:
            raise EngineIntegrityError(f"{self.folder} is gone; build the engine again") from exc
        found = hashlib.sha256(data).hexdigest()
        if found != self.record.sha256:
            raise EngineIntegrityError(
                f"{self.path} has sha256 {found[:12]}…, its sidecar vouches for {self.record.sha256[:12]}…: it was "
                "changed or damaged, and is not loaded; build the engine again"
            )
        return data


def stale_reason(record: PlanRecord, wanted: PlanKey) -> str | None:
    """Why a plan cannot serve, in words; ``None`` if it can."""
    built = record.key
    hashes = f"{built.graph_sha256[:12]} → {wanted.graph_sha256[:12]}"
    versions = f"{built.package} {built.package_version}, here is {wanted.package_version}"
    serves = set(wanted.capabilities) <= set(built.capabilities) and built.gpu in (None, wanted.gpu)
    any_options = wanted.options is None
    reasons = (
        (built.graph == wanted.graph, f"it is of graph {built.graph}, wanted is {wanted.graph}"),
        (built.graph_sha256 == wanted.graph_sha256, f"the graph or its weights changed since ({hashes})"),
        (built.package == wanted.package, f"it was built with {built.package}, wanted is {wanted.package}"),
        (built.package_version == wanted.package_version, f"it was built with {versions}"),
        (built.precision == wanted.precision, f"it computes in {built.precision}, wanted is {wanted.precision}"),
        (serves, f"it was built for {built.target}, wanted is {wanted.target}"),
        (built.shapes == wanted.shapes, f"it takes {_text(built.shapes)}, wanted is {_text(wanted.shapes)}"),
        (
            any_options or built.options == wanted.options,
            f"it was built with {_text(built.options)}, wanted is {_text(wanted.options)}",
        ),
    )
    return next((text for fits, text in reasons if not fits), None)


def find_plan(bundle: Bundle, graph: str, package: TensorRT, gpu: Gpu, cache: Path | None = None) -> Plan:
    """The plan of a graph for this package and GPU; of several, the one for the fewest kinds of GPU.

    ``cache``: as in :func:`engine_folders`. Raises :class:`EngineStaleError` when there is none that can serve, with
    the reasons and the command that builds one, :class:`EngineIntegrityError` for an unsafe folder.
    """
    wanted = PlanKey.of(bundle, graph, package, (gpu.capability,), gpu.name)
    folders = engine_folders(bundle, cache)
    found = [one for folder in folders for one in _sidecars(folder)]
    plans = [one for one in found if isinstance(one, Plan) and one.record.key.graph == graph]
    unreadable = [one for one in found if isinstance(one, str)]
    reasons = {id(plan): stale_reason(plan.record, wanted) for plan in plans}
    usable = [plan for plan in plans if reasons[id(plan)] is None]
    if usable:
        return min(usable, key=lambda plan: len(plan.record.key.capabilities))
    command = f"emo-rt build {bundle_name(bundle)} --package {package.name}"
    why = "; ".join([*(f"{plan.path.name}: {reasons[id(plan)]}" for plan in plans), *unreadable])
    if why:
        raise EngineStaleError(f"no engine for graph {graph!r} can be used: {why}. Build it again: {command}")
    places = ", ".join(str(folder) for folder in folders)
    raise EngineStaleError(f"there is no engine for graph {graph!r} in {places}; build it: {command}")


def plans_in(folder: Path) -> list[Plan]:
    """Every plan that a sidecar in ``folder`` describes; none if there is no such folder.

    A sidecar that cannot be understood, say of a newer emo_rt, is left out. Raises :class:`EngineIntegrityError` for
    an unsafe folder or sidecar.
    """
    return [one for one in _sidecars(folder) if isinstance(one, Plan)]


def _sidecars(folder: Path) -> list[Plan | str]:
    """A plan for each sidecar, or why it describes none."""
    found: list[Plan | str] = []
    try:
        with OwnedFolder(folder) as opened:
            for name in [name for name in opened.names() if name.endswith(".json")]:
                text = opened.read(name)
                try:
                    found.append(Plan(folder, PlanRecord.from_json(text, folder / name)))
                except EngineIntegrityError as exc:
                    found.append(str(exc))
    except FileNotFoundError:
        return []
    return found


def engine_folders(bundle: Bundle, cache: Path | None = None) -> tuple[Path, ...]:
    """Folders in which a bundle's engines are looked for, in this order.

    ``cache``: look only in the bundle's folder inside this one. Otherwise: the one that :data:`CACHE_VARIABLE` names,
    the bundle's own, the user's cache.
    """
    if cache is not None:
        return (_inside(cache, bundle),)
    named = os.environ.get(CACHE_VARIABLE)
    places = [_inside(Path(named), bundle)] if named else []
    return (*places, bundle.path / ENGINES_FOLDER, _inside(user_cache(), bundle))


def build_folder(bundle: Bundle, cache: Path | None = None) -> Path:
    """Where new engines go: the first of :func:`engine_folders`, but nothing is written into an installed package or
    a folder that this user cannot write."""
    own = bundle.path / ENGINES_FOLDER
    folders = engine_folders(bundle, cache)
    blocked = bundle.path == DEMO_FOLDER or not os.access(own if own.exists() else bundle.path, os.W_OK)
    return folders[1] if folders[0] == own and blocked else folders[0]


def user_cache() -> Path:
    """Folder for engines of bundles that cannot be written."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "emo_rt" / ENGINES_FOLDER


def bundle_name(bundle: Bundle) -> str:
    """How a command line names the bundle."""
    return "demo" if bundle.path == DEMO_FOLDER else str(bundle.path)


def graph_hash(bundle: Bundle, graph: str) -> str:
    """Hash over a graph's ONNX file and its weights, from the hashes in the manifest."""
    names = [f"{graph}.onnx", *sorted(external_locations(bundle.graph_path(graph)))]
    lines = [f"{name} {bundle.files[f'{GRAPHS_FOLDER}/{name}']['sha256']}" for name in names]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def profile_shapes(bundle: Bundle, graph: str) -> dict[str, Profile]:
    """Inputs with a dynamic axis → smallest, usual and largest shape. Only ``waveform`` has one."""
    dynamic = [tensor for tensor in bundle.graphs[graph].inputs if any(isinstance(size, str) for size in tensor.shape)]
    sizes = _waveform_samples(bundle.config)
    return {
        tensor.name: tuple(tuple(size if isinstance(size, int) else n for size in tensor.shape) for n in sizes)  # type: ignore[misc]
        for tensor in dynamic
    }


def _waveform_samples(config: ModelConfig) -> tuple[int, int, int]:
    """Smallest, usual and largest number of samples: of the windows, or of whole files where there are none."""
    windows = family_of(config).hearing
    if windows.is_whole_file:
        return FRONTEND_SAMPLES, AUDIO_SAMPLE_RATE * 5, AUDIO_SAMPLE_RATE * LONGEST_FILE_S
    return FRONTEND_SAMPLES, windows.samples, windows.samples + round(AUDIO_SAMPLE_RATE / config.fps)  # for rounding


def _inside(cache: Path, bundle: Bundle) -> Path:
    """A bundle's folder in a cache: named after the content, so that two machines agree on it."""
    return cache / f"{bundle.config.name}-{bundle.sha256[:12]}"


def _read_key(data: Mapping[str, Any]) -> PlanKey:
    names = {field.name for field in fields(PlanKey)}
    if set(data) != names:
        raise ValueError(f"its key has {sorted(data)}, expected {sorted(names)}")
    shapes = {name: tuple(tuple(shape) for shape in shapes) for name, shapes in data["shapes"].items()}
    return PlanKey(**{**data, "capabilities": tuple(data["capabilities"]), "shapes": shapes})


def _check_types(record: PlanRecord) -> None:
    """Only what is used to judge and to find the plan."""
    texts = (record.file, record.sha256, record.key.graph, record.key.graph_sha256, record.key.package)
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.report, dict):
        raise ValueError("a value has another type than expected")
    if Path(record.file).name != record.file or not record.file.endswith(".plan"):
        raise ValueError(f"the plan's name is {record.file!r}, expected a plain name that ends in .plan")


def _text(mapping: Mapping[str, Any] | None) -> str:
    return json.dumps(mapping, default=list)
