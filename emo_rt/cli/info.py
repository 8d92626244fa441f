"""What is in a bundle, for people and for programs: `emo-rt info`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
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
    terminal.say(json.dumps(report, indent=2, ensure_ascii=False) if as_json else as_text(report))


def describe(bundle: Bundle) -> dict[str, Any]:
    """Plain values, stable under :data:`REPORT_SCHEMA`. The bundle must have been opened with ``verify``."""
    config, defaults = bundle.config, _resolved(bundle, None)
    return {
        "schema": REPORT_SCHEMA,
        "bundle_schema": bundle.schema,
        "outdated": bundle.outdated,
        "name": config.name,
        "family": config.family,
        "path": str(bundle.path),
        "bytes": bundle.size_bytes,
        "files": len(bundle.files),
        "hashes_verified": True,
        "picture": {"width": config.size, "height": config.size, "fps": config.fps},
        "clip": {"frames": config.frames, "motion_frames": config.motion_frames, "words": family_of(config).clip_words},
        "defaults": {"steps": defaults.steps, "guidance": defaults.guidance, "preset": defaults.preset},
        "presets": {name: _preset(bundle, name) for name in bundle.presets},
        "options": sorted(family_of(config).heeds),
        "gpu_memory": _gpu_memory(bundle),
        "dtype": bundle.dtype,
        "weights": bundle.weights,
        "untrained": bundle.is_untrained,
        "provenance": dict(bundle.provenance),
        "graphs": [_graph(bundle, name) for name in bundle.graphs],
        "parity": _parity(bundle),
        "engines": _engines(bundle),
    }


def as_text(report: dict[str, Any]) -> str:
    """The same for people."""
    picture, clip, defaults, made = report["picture"], report["clip"], report["defaults"], report["provenance"]
    source = str(made.get("source", "unknown"))
    versions = ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items())
    rows = [
        ("name", f"{report['name']} (family {report['family']}, bundle schema {report['bundle_schema']})"),
        ("path", report["path"]),
        ("size", f"{terminal.size(report['bytes'])} in {report['files']} files; every hash verified"),
        *([("note", bundle_note)] if (bundle_note := report["outdated"]) else []),
        ("picture", f"{picture['width']}x{picture['height']} pixels, {picture['fps']} fps"),
        ("clip", clip["words"]),
        ("default", f"{defaults['preset']}: {defaults['steps']} steps, guidance {defaults['guidance']:g}"),
        ("GPU memory", _gpu_memory_text(report["gpu_memory"])),
        ("numbers", f"computed in {report['dtype']}, stored in {report['weights']}"),
        ("licence", str(made.get("licence", "unknown"))),
        ("source", f"{source}: untrained, its picture is noise" if report["untrained"] else source),
        ("made by", f"{made.get('command', 'unknown')}  ({versions})"),
        ("parity", _parity_text(report["parity"])),
    ]
    tables = _preset_table(report["presets"]), _graph_table(report["graphs"]), _engine_table(report["engines"])
    return "\n\n".join([terminal.pairs(rows), *tables])


def _resolved(bundle: Bundle, preset: str | None) -> ResolvedOptions:
    return resolve(AnimateOptions(preset=preset), bundle, family_of(bundle.config))


def _preset(bundle: Bundle, name: str) -> dict[str, Any]:
    """What the preset does, and what a live session steps down to."""
    chosen = _resolved(bundle, name)
    kept = ("variant", "solver", "steps", "guidance", "guidance_interval", "deep_cache")
    return {name: getattr(chosen, name) for name in kept} | {"ladder": bundle.presets[name].ladder}


def _gpu_memory(bundle: Bundle) -> dict[str, int] | None:
    """Bytes that the default preset takes with ONNX Runtime; ``None`` without the package ``onnx``."""
    try:
        need = memory_need(bundle, AnimateOptions(), onnxruntime_memory)
    except MissingDependencyError:
        return None
    return None if need is None else {"counted": need.counted, "with_libraries": need.nbytes}


def _gpu_memory_text(need: dict[str, int] | None) -> str:
    if need is None:
        return "not known without the package onnx"
    counted, whole = terminal.size(need["counted"]), terminal.size(need["with_libraries"])
    return f"{counted} for a run of the default preset with ONNX Runtime, about {whole} with CUDA's libraries"


def _preset_table(presets: dict[str, Any]) -> str:
    rows = [("preset", "weights", "solver", "steps", "guidance", "steps down to, live")]
    for name, preset in presets.items():
        guidance = f"{preset['guidance']:g}"
        down = ", ".join(preset["ladder"]) or "-"
        rows.append((name, preset["variant"], preset["solver"], str(preset["steps"]), guidance, down))
    return terminal.table(rows)


def _graph(bundle: Bundle, name: str) -> dict[str, Any]:
    spec, file = bundle.graphs[name], bundle.graph_path(name)
    return {
        "name": name,
        "role": spec.role,
        "variant": spec.variant,
        "inputs": len(spec.inputs),
        "outputs": len(spec.outputs),
        "bytes": file.stat().st_size,
        "weight_files": {
            location: (Path(bundle.path) / GRAPHS_FOLDER / location).stat().st_size
            for location in sorted(external_locations(file))
        },
    }


def _parity(bundle: Bundle) -> dict[str, Any]:
    """Summary of the comparison with torch that the export made."""
    rows = bundle.parity
    if not rows:
        return {"checked": False}
    worst = max(rows, key=lambda row: float(row["relative"]) / float(row["bound"]))
    return {"checked": True, "outputs": len(rows), "worst": dict(worst)}


def _parity_text(parity: dict[str, Any]) -> str:
    if not parity["checked"]:
        return "not compared with torch at export"
    worst = parity["worst"]
    return (
        f"{parity['outputs']} outputs compared with torch at export; worst relative error {worst['relative']:.1e} "
        f"({worst['graph']}: {worst['tensor']}), allowed {worst['bound']:.0e}"
    )


def _engines(bundle: Bundle) -> list[dict[str, Any]]:
    """Every engine in the places where the runtime looks. An unsafe place is told, not an error."""
    rows: list[dict[str, Any]] = []
    for folder in engine_folders(bundle):
        try:
            rows += [_engine(bundle, plan) for plan in plans_in(folder)]
        except EngineIntegrityError as exc:
            rows.append({"folder": str(folder), "refused": str(exc)})
    return rows


def _engine(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    record, key = plan.record, plan.record.key
    reason: str | None = "the bundle has no such graph"
    if key.graph in bundle.graphs:
        hashed, shapes = graph_hash(bundle, key.graph), profile_shapes(bundle, key.graph)
        reason = stale_reason(record, replace(key, graph_sha256=hashed, precision=bundle.dtype, shapes=shapes))
    return {
        "folder": str(plan.folder),
        "graph": key.graph,
        "package": f"{key.package} {key.package_version}",
        "target": key.target,
        "precision": key.precision,
        "bytes": record.size_bytes,
        "stripped": plan.is_stripped,
        "stale": reason,
    }


def _engine_table(engines: list[dict[str, Any]]) -> str:
    """The state is about the graph only: whether package and GPU fit is known where it runs."""
    if not engines:
        return "no TensorRT engines; `emo-rt build` makes them"
    rows = [("engine", "for", "built with", "size", "state")]
    for engine in engines:
        if "refused" in engine:
            rows.append(("-", "-", "-", "-", f"refused: {engine['refused']}"))
            continue
        state = f"stale: {engine['stale']}" if engine["stale"] else "fits the graph"
        rows.append((engine["graph"], engine["target"], engine["package"], terminal.size(engine["bytes"]), state))
    return terminal.table(rows)


def _graph_table(graphs: list[dict[str, Any]]) -> str:
    rows = [("graph", "inputs", "outputs", "size", "weights in (files may be shared)")]
    for graph in graphs:
        files = ", ".join(f"{name} ({terminal.size(count)})" for name, count in graph["weight_files"].items())
        rows.append(
            (graph["name"], str(graph["inputs"]), str(graph["outputs"]), terminal.size(graph["bytes"]), files or "-")
        )
    return terminal.table(rows)
