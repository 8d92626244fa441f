"""What is in a bundle, for people and for programs: `emo-rt info`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from emo_rt.cli import terminal
from emo_rt.cli.options import add_json
from emo_rt.device.onnxruntime_cuda import onnxruntime_memory
from emo_rt.device.tensorrt.plan import Plan, engine_folders, graph_hash, plans_in, profile_shapes, stale_reason
from emo_rt.errors import EngineIntegrityError, MissingDependencyError
from emo_rt.model.bundle import GRAPHS_FOLDER, Bundle
from emo_rt.model.families.registry import family_of
from emo_rt.model.onnx_files import external_locations
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.model.resolve import resolve
from emo_rt.model.tuned import with_tuned
from emo_rt.runtime.gpu_memory import memory_need

REPORT_SCHEMA = 1
"""Version of the JSON report; raised when a key changes its meaning or goes away."""


@dataclass(frozen=True)
class Picture:
    """What comes out."""

    width: int
    """Pixels, as :attr:`height`."""
    height: int
    fps: int


@dataclass(frozen=True)
class Clip:
    """What is made at once."""

    frames: int
    motion_frames: int
    """Frames of the clip before that a clip continues."""
    words: str
    """The same in words."""


@dataclass(frozen=True)
class Defaults:
    """What a run does where no option is given."""

    steps: int
    guidance: float
    preset: str


@dataclass(frozen=True)
class ShownPreset:
    """What a preset does; see :class:`emo_rt.model.options.ResolvedOptions`."""

    variant: str
    solver: str
    steps: int
    guidance: float
    guidance_interval: tuple[float, ...]
    deep_cache: int
    ladder: Sequence[str]
    """Presets that a live session steps down to."""


@dataclass(frozen=True)
class GpuMemory:
    """Memory of a GPU that the default preset takes with ONNX Runtime."""

    counted: int
    """Bytes of weights and tensors."""
    with_libraries: int
    """Bytes with what CUDA's libraries take for themselves."""


@dataclass(frozen=True)
class ShownGraph:
    """A graph on disk."""

    name: str
    role: str
    variant: str | None
    """Variant of the weights that it is for. ``None`` = all."""
    inputs: int
    outputs: int
    bytes: int
    """Of the ONNX file without its weights."""
    weight_files: Mapping[str, int]
    """Name → bytes; graphs may share them."""


@dataclass(frozen=True)
class Parity:
    """Comparison with torch at the export."""

    checked: bool
    outputs: int
    worst: Mapping[str, Any]
    """The row of the bundle's manifest that is nearest to its bound."""


@dataclass(frozen=True)
class Unchecked:
    """An export without comparison."""

    checked: bool = False


@dataclass(frozen=True)
class Engine:
    """A TensorRT engine."""

    folder: str
    graph: str
    package: str
    """Name and version of the TensorRT that built it."""
    target: str
    """What it was built for."""
    precision: str
    bytes: int
    stripped: bool
    """Whether its weights come from the bundle."""
    stale: str | None
    """Why it does not fit the graph. ``None`` = it fits."""


@dataclass(frozen=True)
class RefusedFolder:
    """A place for engines that is not safe."""

    folder: str
    refused: str
    """Why nothing is loaded from it."""


@dataclass(frozen=True)
class Report:
    """What is in a bundle."""

    bundle_schema: int
    outdated: str | None
    """What to do about an older schema. ``None`` = it is today's."""
    name: str
    family: str
    path: str
    bytes: int
    files: int
    hashes_verified: bool
    picture: Picture
    clip: Clip
    defaults: Defaults
    presets: Mapping[str, ShownPreset]
    options: Sequence[str]
    """Names of those that the family heeds."""
    gpu_memory: GpuMemory | None
    """``None`` = not known without the package ``onnx``."""
    dtype: str
    """In which it computes."""
    weights: str
    """Type in which the weights are stored."""
    untrained: bool
    """Whether its picture is noise."""
    provenance: Mapping[str, Any]
    """As the bundle has it: source, licence, command, versions …"""
    graphs: Sequence[ShownGraph]
    parity: Parity | Unchecked
    engines: Sequence[Engine | RefusedFolder]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("bundle", nargs="?", default="demo", help="bundle folder, or demo (default: %(default)s)")
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Check the bundle and print what is in it."""
    show(args.bundle, as_json=args.json)


def show(source: str, *, as_json: bool) -> None:
    """Check the bundle with all its hashes and print what is in it. Raises :class:`BundleError`."""
    report = describe(with_tuned(Bundle.open(source, verify=True)))
    if as_json:
        terminal.say(json.dumps({"schema": REPORT_SCHEMA, **asdict(report)}, indent=2, ensure_ascii=False))
    else:
        terminal.say(as_text(report))


def describe(bundle: Bundle) -> Report:
    """What is in the bundle, which must have been opened with ``verify``."""
    config, family, defaults = bundle.config, family_of(bundle.config), _resolved(bundle, None)
    return Report(
        bundle_schema=bundle.schema,
        outdated=bundle.outdated,
        name=config.name,
        family=config.family,
        path=str(bundle.path),
        bytes=bundle.size_bytes,
        files=len(bundle.files),
        hashes_verified=True,
        picture=Picture(config.size, config.size, config.fps),
        clip=Clip(config.frames, config.motion_frames, family.clip_words),
        defaults=Defaults(defaults.steps, defaults.guidance, defaults.preset),
        presets={name: _preset(bundle, name) for name in bundle.presets},
        options=sorted(family.heeds),
        gpu_memory=_gpu_memory(bundle),
        dtype=bundle.dtype,
        weights=bundle.weights,
        untrained=bundle.is_untrained,
        provenance=dict(bundle.provenance),
        graphs=[_graph(bundle, name) for name in bundle.graphs],
        parity=_parity(bundle),
        engines=_engines(bundle),
    )


def as_text(report: Report) -> str:
    """The same for people."""
    picture, defaults, made = report.picture, report.defaults, report.provenance
    source = str(made.get("source", "unknown"))
    versions = ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items())
    rows = [
        ("name", f"{report.name} (family {report.family}, bundle schema {report.bundle_schema})"),
        ("path", report.path),
        ("size", f"{terminal.size(report.bytes)} in {report.files} files; every hash verified"),
        *([("note", report.outdated)] if report.outdated else []),
        ("picture", f"{picture.width}x{picture.height} pixels, {picture.fps} fps"),
        ("clip", report.clip.words),
        ("default", f"{defaults.preset}: {defaults.steps} steps, guidance {defaults.guidance:g}"),
        ("GPU memory", _gpu_memory_text(report.gpu_memory)),
        ("numbers", f"computed in {report.dtype}, stored in {report.weights}"),
        ("licence", str(made.get("licence", "unknown"))),
        ("source", f"{source}: untrained, its picture is noise" if report.untrained else source),
        ("made by", f"{made.get('command', 'unknown')}  ({versions})"),
        ("parity", _parity_text(report.parity)),
    ]
    tables = _preset_table(report.presets), _graph_table(report.graphs), _engine_table(report.engines)
    return "\n\n".join([terminal.pairs(rows), *tables])


def _resolved(bundle: Bundle, preset: str | None) -> ResolvedOptions:
    return resolve(AnimateOptions(preset=preset), bundle, family_of(bundle.config))


def _preset(bundle: Bundle, name: str) -> ShownPreset:
    chosen = _resolved(bundle, name)
    return ShownPreset(
        variant=chosen.variant,
        solver=chosen.solver,
        steps=chosen.steps,
        guidance=chosen.guidance,
        guidance_interval=chosen.guidance_interval,
        deep_cache=chosen.deep_cache,
        ladder=bundle.presets[name].ladder,
    )


def _gpu_memory(bundle: Bundle) -> GpuMemory | None:
    try:
        need = memory_need(bundle, AnimateOptions(), onnxruntime_memory)
    except MissingDependencyError:
        return None
    return None if need is None else GpuMemory(need.counted, need.nbytes)


def _gpu_memory_text(need: GpuMemory | None) -> str:
    if need is None:
        return "not known without the package onnx"
    counted, whole = terminal.size(need.counted), terminal.size(need.with_libraries)
    return f"{counted} for a run of the default preset with ONNX Runtime, about {whole} with CUDA's libraries"


def _preset_table(presets: Mapping[str, ShownPreset]) -> str:
    rows = [("preset", "weights", "solver", "steps", "guidance", "steps down to, live")]
    for name, preset in presets.items():
        down = ", ".join(preset.ladder) or "-"
        rows.append((name, preset.variant, preset.solver, str(preset.steps), f"{preset.guidance:g}", down))
    return terminal.table(rows)


def _graph(bundle: Bundle, name: str) -> ShownGraph:
    spec, file = bundle.graphs[name], bundle.graph_path(name)
    folder = Path(bundle.path) / GRAPHS_FOLDER
    return ShownGraph(
        name=name,
        role=spec.role,
        variant=spec.variant,
        inputs=len(spec.inputs),
        outputs=len(spec.outputs),
        bytes=file.stat().st_size,
        weight_files={at: (folder / at).stat().st_size for at in sorted(external_locations(file))},
    )


def _parity(bundle: Bundle) -> Parity | Unchecked:
    rows = bundle.parity
    if not rows:
        return Unchecked()
    worst = max(rows, key=lambda row: float(row["relative"]) / float(row["bound"]))
    return Parity(checked=True, outputs=len(rows), worst=dict(worst))


def _parity_text(parity: Parity | Unchecked) -> str:
    if isinstance(parity, Unchecked):
        return "not compared with torch at export"
    worst = parity.worst
    return (
        f"{parity.outputs} outputs compared with torch at export; worst relative error {worst['relative']:.1e} "
        f"({worst['graph']}: {worst['tensor']}), allowed {worst['bound']:.0e}"
    )


def _engines(bundle: Bundle) -> list[Engine | RefusedFolder]:
    """Every engine in the places where the runtime looks. An unsafe place is told, not an error."""
    rows: list[Engine | RefusedFolder] = []
    for folder in engine_folders(bundle):
        try:
            rows += [_engine(bundle, plan) for plan in plans_in(folder)]
        except EngineIntegrityError as exc:
            rows.append(RefusedFolder(str(folder), str(exc)))
    return rows


def _engine(bundle: Bundle, plan: Plan) -> Engine:
    record, key = plan.record, plan.record.key
    reason: str | None = "the bundle has no such graph"
    if key.graph in bundle.graphs:
        hashed, shapes = graph_hash(bundle, key.graph), profile_shapes(bundle, key.graph)
        reason = stale_reason(record, replace(key, graph_sha256=hashed, precision=bundle.dtype, shapes=shapes))
    return Engine(
        folder=str(plan.folder),
        graph=key.graph,
        package=f"{key.package} {key.package_version}",
        target=key.target,
        precision=key.precision,
        bytes=record.size_bytes,
        stripped=plan.is_stripped,
        stale=reason,
    )


def _engine_table(engines: Sequence[Engine | RefusedFolder]) -> str:
    """The state is about the graph only: whether package and GPU fit is known where it runs."""
    if not engines:
        return "no TensorRT engines; `emo-rt build` makes them"
    rows = [("engine", "for", "built with", "size", "state")]
    for engine in engines:
        if isinstance(engine, RefusedFolder):
            rows.append(("-", "-", "-", "-", f"refused: {engine.refused}"))
            continue
        state = f"stale: {engine.stale}" if engine.stale else "fits the graph"
        rows.append((engine.graph, engine.target, engine.package, terminal.size(engine.bytes), state))
    return terminal.table(rows)


def _graph_table(graphs: Sequence[ShownGraph]) -> str:
    rows = [("graph", "inputs", "outputs", "size", "weights in (files may be shared)")]
    for graph in graphs:
        files = ", ".join(f"{name} ({terminal.size(count)})" for name, count in graph.weight_files.items())
        rows.append((graph.name, str(graph.inputs), str(graph.outputs), terminal.size(graph.bytes), files or "-"))
    return terminal.table(rows)
