"""The result of `emo-rt bench` for people: tables for the terminal and as Markdown, and ratios to an earlier result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emo_rt.benchmarks.stages import STAGES
from emo_rt.cli import terminal

Result = dict[str, Any]
Table = tuple[str, list[tuple[str, ...]]]
"""Title, and rows of which the first is the header."""


@dataclass(frozen=True)
class Figure:
    """One figure of a result."""

    title: str
    """What it is, in words."""
    path: tuple[str, ...]
    """Where it is in the result."""
    words: Callable[[float], str]
    """How it is written."""
    better: str = "less"
    """``less`` or ``more``: which way is better."""


def seconds(value: float) -> str:
    """``1.23 s``, ``45.6 ms``."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms" if value >= 0.001 else f"{1000 * value:.3f} ms"


def percent(value: float) -> str:
    """``0.031`` → ``3.1 %``."""
    return f"{100 * value:.1f} %"


def times(value: float) -> str:
    """``2.345`` → ``2.35×``."""
    return f"{value:.2f}×"


def number(value: float) -> str:
    """Up to three digits."""
    return f"{value:.3g}"


def memory(value: float) -> str:
    """Bytes in words."""
    return terminal.size(int(value))


def frames_per_second(value: float) -> str:
    """``12.3 frames/s``."""
    return f"{value:.1f} frames/s"


FIGURES = (
    Figure("one clip, median", ("scenarios", "latency", "median_s"), seconds),
    Figure("  90 % are done within", ("scenarios", "latency", "p90_s"), seconds),
    Figure("  seconds of work per second of video", ("scenarios", "latency", "real_time_factor"), number),
    Figure("stream: time to the first frame", ("scenarios", "stream", "first_frame_s"), seconds),
    Figure("  sound needed before it", ("scenarios", "stream", "audio_needed_s"), seconds),
    Figure("  between clips, median", ("scenarios", "stream", "clip_p50_s"), seconds),
    Figure("  between clips, 90 % within", ("scenarios", "stream", "clip_p90_s"), seconds),
    Figure("  between clips, 99 % within", ("scenarios", "stream", "clip_p99_s"), seconds),
    Figure("  frames that came late", ("scenarios", "stream", "late_frames"), number),
    Figure("video file: speed", ("scenarios", "throughput", "frames_per_second"), frames_per_second, "more"),
    Figure("  seconds of work per second of video", ("scenarios", "throughput", "real_time_factor"), number),
    Figure("cold start: import", ("scenarios", "cold_start", "import_s"), seconds),
    Figure("  load the model", ("scenarios", "cold_start", "load_s"), seconds),
    Figure("  warm-up", ("scenarios", "cold_start", "warmup_s"), seconds),
    Figure("  prepare a portrait", ("scenarios", "cold_start", "prepare_s"), seconds),
    Figure("  first clip", ("scenarios", "cold_start", "first_clip_s"), seconds),
    Figure("  second clip", ("scenarios", "cold_start", "second_clip_s"), seconds),
    Figure("runtime's own share of a clip", ("runtime_overhead",), percent),
    Figure("  time in which no graph runs", ("scenarios", "overhead", "outside_graphs"), percent),
    Figure("faster than plain torch", ("speedup_vs_torch",), times, "more"),
    Figure("  than torch in the original's order", ("scenarios", "torch", "speedup", "original"), times, "more"),
    Figure("peak memory, one clip", ("scenarios", "latency", "peak_rss_bytes"), memory),
    Figure("  video file", ("scenarios", "throughput", "peak_rss_bytes"), memory),
    Figure("  several avatars", ("scenarios", "avatars", "peak_rss_bytes"), memory),
    Figure("GPU memory", ("scenarios", "throughput", "device_bytes"), memory),
)
"""Every figure with a line of its own, in order; one that begins with spaces belongs to the one above."""


def as_text(result: Result, earlier: Result | None = None) -> str:
    """For a terminal."""
    parts = [terminal.pairs(_stamp(result))]
    parts += [f"{title}\n{terminal.table(rows)}" for title, rows in _tables(result, earlier)]
    return "\n\n".join([*parts, *_remarks(result, earlier)])


def as_markdown(result: Result, earlier: Result | None = None) -> str:
    """The same as Markdown tables."""
    parts = ["# emo-rt bench", "\n".join(f"- {name}: {value}" for name, value in _stamp(result))]
    for title, rows in _tables(result, earlier):
        header, *body = [f"| {' | '.join(cell.strip() for cell in row)} |" for row in rows]
        parts += [f"## {title}", "\n".join([header, f"|---|{'---:|' * (len(rows[0]) - 1)}", *body])]
    return "\n\n".join([*parts, *_remarks(result, earlier)]) + "\n"


def stage_bars(result: Result) -> list[tuple[str, float]]:
    """Stages and their seconds, for the chart."""
    return list(result["scenarios"]["stages"]["seconds"].items())


def value_at(result: Result, path: Sequence[str]) -> float | None:
    """The value at a path; ``None`` where there is none."""
    value: Any = result
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _stamp(result: Result) -> list[tuple[str, str]]:
    machine, model, setting = result["environment"], result["model"], result["setting"]
    load = machine["load_before"]
    busy = f"; load before the measurement {load:.1f}" if load is not None else ""
    names = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "numpy", "torch")
    versions = [f"{name} {machine['packages'][name]}" for name in names if name in machine["packages"]]
    rows = [
        ("model", f"{model['name']}, {model['size']}x{model['size']} pixels, clips of {model['frames']} frames "
                  f"at {model['fps']} fps, {model['dtype']}" + (", untrained" if model["untrained"] else "")),
        ("run", f"{model['backend']}, {setting['steps']} steps of {setting['solver']}, {machine['threads']} threads"),
        ("processor", f"{machine['cpu']}, {machine['cores']} cores{busy}"),
        ("matmul", f"{machine['gemm_gflops']:.0f} GFLOP/s fp32 (numpy): the ceiling of this processor"),
        ("versions", f"emo_rt {machine['emo_rt']} ({machine['commit'] or 'installed'}), Python {machine['python']}, "
                     f"{', '.join(versions)}"),
    ]  # fmt: skip
    gpus = [f"{gpu['name']}, driver {gpu['driver']}" for gpu in machine["gpus"]]
    return [*rows, ("GPUs", "; ".join(gpus))] if gpus else rows


def _tables(result: Result, earlier: Result | None) -> Iterator[Table]:
    yield "Results" + (" (ratio = now / before)" if earlier else ""), _figures(result, earlier)
    if "stages" in result["scenarios"]:
        yield "Where the time of one clip goes", _stages(result)
    if rows := _graphs(result):
        yield "Graphs on their own", rows
    if "avatars" in result["scenarios"]:
        yield "Several avatars at once", _avatars(result)


def _figures(result: Result, earlier: Result | None) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("what", "now", "before", "ratio", "") if earlier else ("what", "value")]
    for figure in FIGURES:
        value = value_at(result, figure.path)
        if value is None:
            continue
        cells = [figure.title, figure.words(value)]
        if earlier is not None:
            cells += _compared(figure, value, value_at(earlier, figure.path))
        rows.append(tuple(cells))
    return rows


def _compared(figure: Figure, value: float, before: float | None) -> list[str]:
    if before is None:
        return ["-", "-", ""]
    if before == 0 or figure.words is percent:  # shares near zero have no meaningful ratio
        return [figure.words(before), "-", ""]
    ratio = value / before
    verdict = "" if abs(ratio - 1) < 0.05 else "better" if (ratio < 1) == (figure.better == "less") else "worse"
    return [figure.words(before), f"{ratio:.2f}", verdict]


def _stages(result: Result) -> list[tuple[str, ...]]:
    found = result["scenarios"]["stages"]["seconds"]
    total = sum(value for name, value in found.items() if name != "reference")
    rows: list[tuple[str, ...]] = [("stage", "time", "share of the clip", "what it is")]
    for name, value in found.items():
        share = "-" if name == "reference" else percent(value / total)
        rows.append((name, seconds(value), share, STAGES[name]))
    return rows


def _graphs(result: Result) -> list[tuple[str, ...]]:
    """Times of the graphs; with counted work (``--against torch``) their speed, too."""
    graphs = result["scenarios"].get("stages", {}).get("graphs", {})
    work, ceiling = result["scenarios"].get("torch", {}).get("gmac", {}), result["environment"]["gemm_gflops"]
    if not graphs:
        return []
    rows: list[tuple[str, ...]] = [("graph", "runs", "one run", *(("GFLOP/s", "of the ceiling") if work else ()))]
    for name, found in graphs.items():
        cells = [name, str(found["runs"]), seconds(found["median_s"])]
        if work:
            speed = 2 * work[name] / found["median_s"] if name in work else None
            cells += [f"{speed:.1f}", percent(speed / ceiling)] if speed else ["-", "-"]
        rows.append(tuple(cells))
    return rows


def _avatars(result: Result) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("avatars", "together", "each", "median of one run")]
    for row in result["scenarios"]["avatars"]["rows"]:
        each = row["frames_per_second"] / row["avatars"]
        together = frames_per_second(row["frames_per_second"])
        rows.append((str(row["avatars"]), together, frames_per_second(each), seconds(row["median_s"])))
    return rows


def _remarks(result: Result, earlier: Result | None) -> Iterator[str]:
    """What a newcomer should know to read the figures."""
    model, speed = result["model"], value_at(result, ("scenarios", "throughput", "real_time_factor"))
    if speed is not None:
        word = "faster" if speed <= 1 else "slower"
        yield f"A video is made {max(speed, 1 / speed):.1f} times {word} than it plays ({model['fps']} fps)."
    overhead, goal = result["runtime_overhead"], value_at(result, ("scenarios", "overhead", "goal"))
    if overhead is not None and goal is not None and overhead > goal:
        yield f"The runtime's own share of a clip is above its goal of {percent(goal)}; other load adds to it."
    if earlier is not None:
        yield from _differences(result, earlier)


def _differences(result: Result, earlier: Result) -> Iterator[str]:
    """Why two results may not be comparable."""
    paths = [("environment", "cpu"), ("environment", "threads"), ("model", "name"), ("model", "step_graph_sha256"),
             ("model", "backend"), *(("setting", name) for name in result["setting"])]  # fmt: skip
    for path in paths:
        now, before = value_at(result, path), value_at(earlier, path)
        if now != before:
            yield f"Not the same in both results: {path[1].replace('_', ' ')} is {now}, it was {before}."
