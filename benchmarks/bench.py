"""What `emo-rt bench` does once its arguments are read: how fast is this model on this machine?

Question
    How long does a clip take, how soon does a stream speak, how many frames per second does a long video get, what do
    several avatars cost, where does the time go, how much of it is the runtime's own, and how much faster is all this
    than plain torch?

Method
    One loaded model, the demo's portrait and voice. Every scenario is warmed up; short ones are repeated and their
    median is reported. What is compared (runtime and bare graphs, runtime and torch) runs in alternation, in one run.
    The cold start is measured in fresh processes. The stamp says on what machine, with what load before, and how fast
    numpy's matmul is there, which bounds every graph.

Command
    emo-rt bench [--only latency,stream,…] [--against torch] [--json FILE] [--markdown FILE] [--chart FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from emo_rt.benchmarks import chart, report
from emo_rt.benchmarks.cold_start import cold_start
from emo_rt.benchmarks.harness import (
    SCHEMA,
    PeakMemory,
    device_memory,
    environment,
    read_result,
    write_result,
    write_text,
)
from emo_rt.benchmarks.latency import single_clip
from emo_rt.benchmarks.overhead import runtime_overhead
from emo_rt.benchmarks.stages import breakdown
from emo_rt.benchmarks.streaming import stream
from emo_rt.benchmarks.subject import Model, Setting, Subject
from emo_rt.benchmarks.throughput import offline, several
from emo_rt.cli import terminal
from emo_rt.cli.animation import UNTRAINED
from emo_rt.errors import ConfigError, MissingDependencyError
from emo_rt.schema.compound import Listing
from emo_rt.schema.kinds import Choice
from emo_rt.schema.option import Outside, check_options

if TYPE_CHECKING:  # it needs torch
    from emo_rt.benchmarks.against_torch import AgainstTorch

NAME = "bench"
"""``benchmark`` in the result file."""
SCENARIOS: dict[str, Callable[[Subject], Any]] = {
    "latency": single_clip,
    "stream": stream,
    "throughput": offline,
    "avatars": several,
    "stages": breakdown,
    "overhead": runtime_overhead,
    "cold_start": lambda subject: cold_start(subject.setting, min(3, subject.setting.rounds)),
}
"""Scenarios by name, in the order in which they run. Each gives a dataclass."""
CPU_ONLY = ("overhead",)
"""Scenarios that are left out on a GPU unless they are asked for."""
QUICK = {"steps": 2, "rounds": 1, "clips": 2}
"""What ``--quick`` sets: only to see that everything runs."""
TORCH_ROUNDS = 3
"""Most rounds against torch, which is slow."""
TorchComparison = Callable[[Subject, int, int], "AgainstTorch"]
"""Subject, threads, rounds → times beside those of torch."""


@dataclass(frozen=True)
class Request:
    """What to measure and where to put it, as given on the command line."""

    setting: Setting = field(default_factory=Setting)
    """What to measure."""
    only: Annotated[tuple[str, ...] | None, Listing(tuple(SCENARIOS))] = None
    """Scenarios. ``None`` = all."""
    against: Annotated[str | None, Choice(("torch",))] = None
    """Also run the plain torch formulation: slow, needs emo_rt[export]. ``None`` = none."""
    quick: bool = False
    """Few steps and rounds: only to see that it runs."""
    json: Path | None = None
    """Result with a stable schema. ``None`` = none."""
    markdown: Path | None = None
    """Tables as Markdown. ``None`` = none."""
    chart: Path | None = None
    """Where the time goes, as bars: .html or .svg. ``None`` = none."""
    compare: Annotated[Path | None, Outside(placeholder="OLD.json")] = None
    """Show ratios to an earlier --json result. ``None`` = none."""
    quiet: Annotated[bool, Outside(is_hidden=True)] = False
    """No progress on stderr."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.chart is not None:
            chart.check_name(self.chart)
            if self.only and "stages" not in self.only:
                raise ConfigError("the chart shows the stages; add stages to --only, or leave --only out")


@dataclass(frozen=True)
class Result:
    """What was measured; see :data:`emo_rt.benchmarks.harness.SCHEMA`."""

    benchmark: str
    schema: int
    environment: dict[str, Any]
    """Of :func:`emo_rt.benchmarks.harness.environment`."""
    setting: dict[str, Any]
    model: Model
    scenarios: dict[str, dict[str, Any]]
    """By name: the fields of its dataclass, and ``peak_rss_bytes`` and ``device_bytes``."""
    runtime_overhead: float | None
    """The runtime's own share of a clip. ``None`` = not measured, as below."""
    speedup_vs_torch: float | None


def run(request: Request) -> None:
    """Measure, print the tables, write the files. Raises :class:`ConfigError`, :class:`OutputError`, …"""
    earlier = read_result(request.compare, NAME) if request.compare else None
    compare_with_torch = _torch_comparison() if request.against else None
    setting = replace(request.setting, **QUICK) if request.quick else request.setting
    say: Callable[[str], None] = (lambda _: None) if request.quiet else terminal.note
    result = asdict(measure(setting, request.only, compare_with_torch, say))  # as `earlier` is
    terminal.say(report.as_text(result, earlier))
    if request.json:
        write_result(request.json, result)
    if request.markdown:
        write_text(request.markdown, report.as_markdown(result, earlier))
    if request.chart:
        chart.write(request.chart, report.stage_bars(result))


def measure(
    setting: Setting,
    only: tuple[str, ...] | None = None,
    compare_with_torch: TorchComparison | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run the scenarios. ``say`` gets a line for each."""
    say("measuring: the machine")
    stamp = environment(setting.threads)
    scenarios: dict[str, dict[str, Any]] = {}
    with Subject(setting) as subject:
        model, values = subject.describe(), setting.to_dict(subject.resolved)
        if model.untrained:
            say(f"note: {UNTRAINED.format(name=subject.config.name)}; times are those of a trained one")
        subject.animator.warmup(setting.options())
        for name in only or [name for name in SCENARIOS if subject.recorder or name not in CPU_ONLY]:
            say(f"measuring: {name.replace('_', ' ')}")
            scenarios[name] = _with_memory(SCENARIOS[name], subject)
        if compare_with_torch is not None:
            say("measuring: plain torch (slow)")
            rounds = min(setting.rounds, TORCH_ROUNDS)
            scenarios["torch"] = asdict(compare_with_torch(subject, stamp["threads"], rounds))
    return Result(
        benchmark=NAME,
        schema=SCHEMA,
        environment=stamp,
        setting=values,
        model=model,
        scenarios=scenarios,
        runtime_overhead=scenarios.get("overhead", {}).get("overhead"),
        speedup_vs_torch=scenarios.get("torch", {}).get("speedup", {}).get("plain"),
    )


def _with_memory(scenario: Callable[[Subject], Any], subject: Subject) -> dict[str, Any]:
    with PeakMemory() as memory:
        found = scenario(subject)
    on_gpu = subject.animator.device != "cpu"
    return {**asdict(found), "peak_rss_bytes": memory.value, "device_bytes": device_memory() if on_gpu else None}


def _torch_comparison() -> TorchComparison:
    try:
        from emo_rt.benchmarks.against_torch import against_torch
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(f"--against torch needs {exc.name}; pip install 'emo_rt[export]'") from exc
    return against_torch
