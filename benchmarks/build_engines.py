"""How long does it take to build TensorRT engines of a full-size model, how much memory, and how large are they?

    python -m emo_rt.benchmarks.build_engines --preset emo --target sm89

Theory. A graph is read, folded and fused once, then a kernel is compiled for every fused piece of another form;
``tensorrt_rtx`` does so without a GPU. Time grows with the number of different pieces, not with the pixels. A plan
holds the weights once and the kernels. The builder holds the weights two to three times, so memory is what limits.

The weights are random; nothing here depends on them. Engines that are up to date are not built again unless
``--force``. Expected: a table with one row per graph, and as the last line one JSON object.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_rt import Bundle, __version__
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, publish
from emo_rt.cli.terminal import duration, note, size
from emo_rt.engines.builder import Built, Hooks, build_engines
from emo_rt.engines.options import BuilderOptions, BuildRequest
from emo_rt.engines.report import attention_text


@dataclass(frozen=True)
class Row:
    """One graph."""

    graph: str
    package: str
    """With its version."""
    seconds: float
    peak_memory_bytes: int | None
    """Of the process that built it."""
    plan_bytes: int
    report: dict[str, Any]
    """As the engine's sidecar has it: what the builder said."""


@dataclass(frozen=True)
class Result:
    """All that was built, and where."""

    benchmark: str
    schema: int
    emo_rt: str
    preset: str
    dtype: str
    target: str
    optimization_level: int
    cores: int | None
    load_average: float
    machine: str
    export_seconds: float | None
    """``None`` where the bundle was there."""
    seconds: float
    """All graphs."""
    graphs: list[Row]


def main() -> None:
    """Export if need be, build, report."""
    args = _arguments()
    folder = args.folder / args.preset
    export_s = None if (folder / "emo_rt.json").exists() else _export(args, folder)
    bundle = Bundle.open(folder)
    options = BuilderOptions(optimization_level=args.optimization_level)
    request = BuildRequest(args.package, args.target, args.graphs, options, args.folder / "engines", args.force)
    start = time.perf_counter()
    built = build_engines(bundle, request, Hooks(report=note))
    result = Result(
        benchmark="build_engines",
        schema=SCHEMA,
        emo_rt=__version__,
        preset=args.preset,
        dtype=bundle.dtype,
        target=args.target,
        optimization_level=args.optimization_level,
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[0], 1),
        machine=platform.machine(),
        export_seconds=export_s,
        seconds=round(time.perf_counter() - start, 1),
        graphs=[_row(one) for one in built],
    )
    publish(result, _markdown(result), args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=("emo", "hallo", "echomimic", "demo", "tiny"), default="emo")
    parser.add_argument("--dtype", choices=("fp16", "fp32"), default="fp16", help="arithmetic of the exported graphs")
    parser.add_argument("--package", choices=("auto", "tensorrt", "tensorrt_rtx"), default="auto")
    parser.add_argument("--target", default="sm89", help="as emo-rt build has it")
    parser.add_argument("--graphs", type=lambda text: tuple(text.split(",")), help="only these, with commas")
    parser.add_argument("--optimization-level", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/build_engines"), help="for bundle and engines")
    parser.add_argument("--force", action="store_true", help="build again what is up to date")
    add_outputs(parser)
    return parser.parse_args()


def _export(args: argparse.Namespace, folder: Path) -> float:
    """In a process of its own, so that its memory is not counted. Seconds."""
    start = time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    what = ["--preset", args.preset, "--random-weights", "--dtype", args.dtype, "--no-check"]
    subprocess.run([sys.executable, "-m", "emo_rt.cli", "export", *what, "-o", str(folder)], check=True, stdout=2)
    return round(time.perf_counter() - start, 1)


def _row(built: Built) -> Row:
    record = built.plan.record
    return Row(
        graph=record.key.graph,
        package=f"{record.key.package} {record.key.package_version}",
        seconds=record.seconds,
        peak_memory_bytes=record.peak_memory_bytes,
        plan_bytes=record.size_bytes,
        report=dict(record.report),
    )


def _markdown(result: Result) -> str:
    lines = [
        "| graph | build | peak memory | plan | scratch | layers | attention fused |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result.graphs:
        cells = [
            f"`{row.graph}`",
            duration(row.seconds),
            size(row.peak_memory_bytes or 0),
            size(row.plan_bytes),
            size(row.report["scratch_bytes"] or 0),
            str(row.report["layers"]),
            attention_text(row.report),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    total = sum(row.plan_bytes for row in result.graphs)
    return "\n".join([*lines, f"| all | {duration(result.seconds)} | | {size(total)} | | | |"])


if __name__ == "__main__":
    main()
