"""The result of an evaluation, as data, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from emo_rt.evaluate.footage import Footage
from emo_rt.evaluate.intervals import CONFIDENCE, Estimate
from emo_rt.evaluate.metrics import METRICS, Metric
from emo_rt.evaluate.moments import Moment
from emo_rt.evaluate.onnx_network import NetworkFile
from emo_rt.evaluate.reading import Reading
from emo_rt.version import __version__

PAPER = ("fid", "lse_c", "f_sim", "fvd", "e_fid")
"""Measures of the table in Tian et al. 2024, in its order."""
SCHEMA = 1
"""Of the JSON; raised when a reader of an older one could not use it."""

Value: TypeAlias = "Estimate | str"
"""A measured value, or why there is none."""


@dataclass(frozen=True)
class Row:
    """One video, or one set of videos."""

    name: str
    """File name, or the folder's."""
    kind: Literal["video", "set", "against", "truth"]
    """``set``: all videos that were given; ``against``: a folder of another system; ``truth``: the true videos."""
    videos: int
    """How many."""
    seconds: float
    """Length of them all."""
    took_s: float
    """Seconds that reading them took."""
    values: Mapping[str, Value]
    """By name of the metric."""


@dataclass(frozen=True, eq=False)
class Detail:
    """What a page shows of one video beyond its values."""

    footage: Footage
    """The video."""
    reading: Reading
    """Its curves."""
    moments: Sequence[Moment]
    """Where it is worst."""


@dataclass(frozen=True, eq=False)
class Report:
    """What :func:`emo_rt.evaluate.evaluate` gives."""

    rows: Sequence[Row]
    """Videos first, then sets."""
    networks: Sequence[NetworkFile]
    """Every network that was used, with its hash."""
    settings: Mapping[str, Any]
    """What it was called with."""
    details: Sequence[Detail] = field(default=(), repr=False)
    """One per video of the caller's, for the page."""

    @property
    def metrics(self) -> list[Metric]:
        """Those that have a value in any row, in order."""
        return [m for m in METRICS.values() if any(isinstance(row.values.get(m.name), Estimate) for row in self.rows)]

    def row(self, name: str) -> Row:
        """The row of a video or folder. Raises :class:`KeyError`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: rows, definitions, networks."""
        return {
            "schema": SCHEMA,
            "emo_rt": __version__,
            "settings": dict(self.settings),
            "confidence": CONFIDENCE,
            "networks": [asdict(network) for network in self.networks],
            "metrics": {metric.name: definition(metric) for metric in METRICS.values()},
            "rows": [_row(row) for row in self.rows],
        }

    def json(self) -> str:
        """:meth:`as_dict` as one line."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    def markdown(self) -> str:
        """A row per video and system, the same measures in the same order; first those of the paper's table."""
        published = [metric for name in PAPER if (metric := METRICS[name]) in self.metrics]
        first = [f"As in the table of the EMO paper:\n\n{_table(self, published)}\n\nAll:"] if published else []
        parts = [*first, _table(self, self.metrics), _definitions(self), _networks(self.networks)]
        return "\n\n".join(parts) + "\n"


def definition(metric: Metric) -> dict[str, Any]:
    """What a metric is, as plain values."""
    names = ("title", "unit", "better", "definition", "source", "tolerance", "networks")
    return {name: getattr(metric, name) for name in names}


def _row(row: Row) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("name", "kind", "videos", "seconds", "took_s")}
    values = {
        name: {"missing": value} if isinstance(value, str) else asdict(value) for name, value in row.values.items()
    }
    return {**plain, "values": values}


def shown(value: Value | None, interval: bool = True) -> str:
    """A value for people: ``0.62 (0.55 … 0.70)``, or a dash."""
    if not isinstance(value, Estimate):
        return "–"
    low, high = number(value.low), number(value.high)
    if not interval or low == high:
        return number(value.value)
    return f"{number(value.value)} ({low} … {high})"


def number(value: float) -> str:
    """Three digits that count, without exponents."""
    if abs(value) < 0.001:
        return f"{value:.4f}" if abs(value) >= 0.00005 else "0"
    digits = sum(abs(value) < least for least in (99.95, 9.995, 0.9995))
    text = f"{value:.{digits}f}"
    return text[1:] if text.strip("-0.") == "" and text.startswith("-") else text


ARROWS = {"lower": "↓", "higher": "↑", "nearer": "↔"}
"""Which way is better, in tables."""


def heading(metric: Metric) -> str:
    """Title, unit and arrow."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit} {ARROWS[metric.better]}"


def _table(report: Report, columns: Sequence[Metric]) -> str:
    lines = ["| | " + " | ".join(map(heading, columns)) + " |", "|---|" + "---|" * len(columns)]
    for row in report.rows:
        cells = (shown(row.values.get(metric.name)) for metric in columns)
        lines.append(f"| {_label(row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _label(row: Row) -> str:
    name = row.name.replace("|", "\\|")
    return name if row.kind == "video" else f"**{name}** ({row.videos} {'video' if row.videos == 1 else 'videos'})"


def _definitions(report: Report) -> str:
    lines = [f"- **{m.title}** (`{m.name}`): {m.definition}. Source: {m.source}." for m in report.metrics]
    missing = {
        metric.name: reason
        for metric in METRICS.values()
        for row in report.rows[:1]
        if metric not in report.metrics and isinstance(reason := row.values.get(metric.name), str)
    }
    lines += [f"- `{name}` is not measured: {reason}." for name, reason in missing.items()]
    note = "↓ lower is better, ↑ higher, ↔ nearer to true videos. In brackets: 95 % interval by bootstrap."
    return "\n".join([note, "", *lines])


def _networks(networks: Sequence[NetworkFile]) -> str:
    return "\n".join(f"- {one.name}: `{one.file}`, sha256 `{one.sha256}`" for one in networks)
