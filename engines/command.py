"""What `emo-rt build` does once its arguments are read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from emo_rt.cli import terminal
from emo_rt.engines.builder import Built, Hooks, build_engines
from emo_rt.engines.monitor import Progress
from emo_rt.engines.options import BuildRequest
from emo_rt.engines.report import attention_text
from emo_rt.model.bundle import Bundle

REPORT_SCHEMA = 1
"""Version of the JSON; raised when a key changes its meaning or goes away."""
SHOWN = 3
"""Names of attentions in one line."""
STATES = {True: "built", False: "up to date"}


@dataclass(frozen=True)
class Request:
    """What to build, and how to tell, as given on the command line."""

    bundle: str
    """Bundle folder, or ``demo``."""
    build: BuildRequest
    """Which engines, with what, for what."""
    as_json: bool = False
    """Print the result as JSON."""
    quiet: bool = False
    """No progress and no result."""


def run(request: Request) -> None:
    """Build what is absent or stale, print a line per engine. Raises what :func:`build_engines` raises."""
    bundle = Bundle.open(request.bundle)
    with terminal.stop_event() as stop, _Display(request.quiet) as display:
        built = build_engines(bundle, request.build, Hooks(display.line, display.bar, stop))
    if request.as_json:
        terminal.say(json.dumps(_plain(built), indent=2, ensure_ascii=False))
    elif not request.quiet:
        terminal.say(_receipt(built))


class _Display:
    """Lines with the time since the start, and a bar for the graph at hand. A context manager."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._start = quiet, time.perf_counter()
        self._bar: terminal.ProgressBar | None = None

    def line(self, text: str) -> None:
        self._close_bar()
        if not self._quiet:
            terminal.note(f"[{time.perf_counter() - self._start:6.1f} s] {text}")

    def bar(self, graph: str) -> Progress:
        self._bar = terminal.ProgressBar(graph, quiet=self._quiet)
        return self._bar.update

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()


def _plain(built: list[Built]) -> dict[str, Any]:
    rows = [{"built": one.is_new, "path": str(one.plan.path), **asdict(one.plan.record)} for one in built]
    return {"schema": REPORT_SCHEMA, "engines": rows}


def _receipt(built: list[Built]) -> str:
    record = built[0].plan.record
    total = terminal.size(sum(one.plan.record.size_bytes for one in built))
    stripped = " without weights" if built[0].plan.is_stripped else ""
    where = f"{built[0].plan.folder}: {len(built)} engines{stripped}, {total}, for {record.key.target}"
    lines = [_table(built), "", *_remarks(built), f"{where}, {record.key.package} {record.key.package_version}"]
    return "\n".join(lines)


def _table(built: list[Built]) -> str:
    rows = [("graph", "build", "peak memory", "plan", "scratch", "layers", "in fp32", "attention fused", "state")]
    for one in built:
        record, report = one.plan.record, one.plan.record.report
        rows.append(
            (
                record.key.graph,
                terminal.duration(record.seconds),
                _size(record.peak_memory_bytes),
                _size(record.size_bytes),
                _size(report.get("scratch_bytes")),
                _count(report.get("layers")),
                _count(report["fp32_layers"]["count"]),
                attention_text(dict(report)),
                STATES[one.is_new],
            )
        )
    return terminal.table(rows)


def _remarks(built: list[Built]) -> list[str]:
    """What a table has no room for: which attention is not fused, and how sure the figures are."""
    lines = _attention_remarks(built)
    sources = {one.plan.record.report["interface_checked_on"] for one in built}
    if sources != {"engine"}:
        lines.append(f"no GPU here loads these engines: the figures are from the {' and the '.join(sorted(sources))}")
    if len(built[0].plan.record.key.capabilities) > 1:
        lines.append("layers are those that TensorRT shows: of one of the targets")
    return lines


def _attention_remarks(built: list[Built]) -> list[str]:
    """Which attentions have no kernel of their own. In fp32 that is all of them, which one line says."""
    plain = {one.plan.record.key.graph: one.plan.record.report["attention"]["not_fused"] or [] for one in built}
    if built[0].plan.record.key.precision == "float32" and any(plain.values()):
        return ["TensorRT fuses attention in half precision only: export with --dtype fp16 for speed on a GPU"]
    return [
        f"{graph}: not fused: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if names[SHOWN:] else ''}"
        for graph, names in plain.items()
        if names
    ]


def _size(count: int | None) -> str:
    return "?" if count is None else terminal.size(count)


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)
