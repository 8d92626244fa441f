"""What does each shortcut save, and what does it cost? Time against quality over solvers, steps, guidance and caching.

Question: which settings give the best video for a given time, and which are worth a name (``emo-rt animate --mode``)?
Theory: a step with guidance costs two halves, one without costs one, a cached one only the outermost layers. What a
shortcut loses shows first in fine motion and detail: in the mouth's correlation and in the distance of features.

    python -m emo_rt.benchmarks.pareto --json pareto.json --markdown pareto.md

With ``--portrait`` and ``--voice`` it works for **any** bundle, without a checkout: every setting speaks that sentence
and is held against the first by the regression gate of ``emo-rt evaluate`` (:mod:`emo_rt.evaluate.tuning`)::

    python -m emo_rt.benchmarks.pareto --bundle my_bundle --portrait portrait.png --voice speech.wav

Without them, every setting makes the same videos of drawn people: same people, voices and noise
(:mod:`emo_rt.benchmarks.quality`, whose measures are taken; it needs a checkout). ``likeness_db`` is the peak
signal-to-noise ratio against the frames of 40-step DDIM with full guidance. Time is that of the whole video without
encoding; all settings are run in turn, ``--rounds`` times (with 4 people on two CPU cores one round takes about an
hour), and ``speedup`` is the median over rounds of the ratio to 40-step DDIM within a round. With the gate, it is the
ratio of the quickest rounds.
``score`` is the mean of what a setting keeps of 40-step DDIM's lip and energy correlation and identity margin, 1 at
most each; 0.95 is the bar for a preset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from emo_rt import AnimateOptions, Animator
from emo_rt.benchmarks.agreement import psnr
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, interleaved, publish
from emo_rt.benchmarks.quality import generate
from emo_rt.benchmarks.quality_measures import Measures, measure
from emo_rt.benchmarks.quality_people import Person, Pixels, Reader, load_people
from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, read_options
from emo_rt.errors import ConfigError
from emo_rt.evaluate.footage import waveform
from emo_rt.evaluate.subject import Speech
from emo_rt.evaluate.tuning import Curve, Tried, as_options, best_preset
from emo_rt.media.audio import open_audio
from emo_rt.model.presets import Preset
from emo_rt.model.resolve import step_graphs

SUMMARY = (__doc__ or "").partition("\n")[0]
BASE = "ddim 40"
"""What every setting is compared with."""
KEPT = ("lip_correlation", "energy_correlation", "identity_margin")
"""Measures that make the score."""


@dataclass(frozen=True)
class Point:
    """Time and quality of a setting."""

    seconds_per_video: float
    speedup: float
    """Against :data:`BASE`, or what stands in its place."""
    likeness_db: float
    """Peak signal-to-noise ratio against the frames of the same."""
    score: float
    """What is kept of its quality, 1 at most."""
    best: bool
    """No other setting beats it in both time and score."""


@dataclass(frozen=True)
class MeasuredPoint(Point, Measures):
    """With all measures of :mod:`emo_rt.benchmarks.quality`."""


@dataclass(frozen=True)
class GatedPoint(Point):
    """As the regression gate has it."""

    gate: str
    """``passes`` or ``fails``."""
    verdict: str
    """The same in words."""


AnyPoint = TypeVar("AnyPoint", bound=Point)


@dataclass(frozen=True)
class Result:
    """What was measured."""

    benchmark: str
    schema: int
    backend: str
    people: int
    """Pairs of person and sentence."""
    rounds: int
    environment: dict[str, Any]
    settings: Mapping[str, Point]


def settings(steps: Sequence[int], solvers: Sequence[str]) -> dict[str, AnimateOptions]:
    """Solvers by steps; at some steps of the last solver also less guidance and cached inner blocks."""
    chosen = {BASE: AnimateOptions(solver="ddim", steps=40)}
    chosen |= {f"{s} {n}": AnimateOptions(solver=s, steps=n) for s in solvers for n in steps}
    last = solvers[-1]
    for n in steps:
        base = AnimateOptions(solver=last, steps=n)
        for first, end in ((0.2, 0.8), (0.25, 1)):
            chosen[f"{last} {n}, guidance {first}-{end}"] = base.replace(guidance_interval=(first, end))
        chosen[f"{last} {n}, no guidance"] = base.replace(guidance=1.0)
        if n >= 6:
            chosen[f"{last} {n}, cache 2"] = base.replace(deep_cache=2)
            chosen[f"{last} {n}, cache 3"] = base.replace(deep_cache=3)
    return chosen


def compare(
    animator: Animator, people: Sequence[Person], reader: Reader, chosen: Mapping[str, AnimateOptions], rounds: int
) -> dict[str, MeasuredPoint]:
    """Time and quality of each setting; the first is what the others are compared with."""
    base = next(iter(chosen))
    videos: dict[str, list[Pixels]] = {}

    def make(name: str) -> None:
        terminal.note(name)
        videos[name] = generate(animator, people, chosen[name])

    times = interleaved({name: (lambda name=name: make(name)) for name in chosen}, rounds)
    truths = [reader.read(person.frames) for person in people]
    found = {name: measure(people, truths, videos[name], reader, animator.config.frames) for name in chosen}
    rows = {
        name: MeasuredPoint(
            seconds_per_video=median(row[name] for row in times) / len(people),
            speedup=median(row[base] / row[name] for row in times),
            likeness_db=sum(map(psnr, videos[name], videos[base])) / len(people),
            score=kept(found[name], found[base]),
            best=False,
            **vars(found[name]),
        )
        for name in chosen
    }
    return with_best(rows)


def kept(one: Measures, base: Measures) -> float:
    """The score."""
    return sum(min(1.0, getattr(one, key) / getattr(base, key)) for key in KEPT) / len(KEPT)


def with_best(rows: Mapping[str, AnyPoint]) -> dict[str, AnyPoint]:
    """The rows, with those told that no other beats."""
    return {
        name: replace(row, best=not any(is_better(other, row) for key, other in rows.items() if key != name))
        for name, row in rows.items()
    }


def is_better(one: Point, other: Point) -> bool:
    """Whether ``one`` is no slower and no worse, and one of the two really better."""
    faster, better = one.speedup - other.speedup, one.score - other.score
    return faster >= 0 and better >= 0 and (faster > 0 or better > 0)


COLUMNS = ("speedup", "seconds_per_video", "score", "lip_correlation", "energy_correlation", "identity_top1",
           "jitter_ratio", "frechet", "likeness_db")  # fmt: skip


GATE_COLUMNS = ("speedup", "seconds_per_video", "score", "likeness_db", "gate")
"""Those of a table that the regression gate has made."""


def markdown(rows: Mapping[str, Point]) -> str:
    """One line per setting, the fastest last; those that no other beats in both time and score in bold."""
    columns = GATE_COLUMNS if all(isinstance(row, GatedPoint) for row in rows.values()) else COLUMNS
    lines = ["| setting | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in sorted(rows.items(), key=lambda item: item[1].speedup):
        shown = f"**{name}**" if row.best else name
        values = (getattr(row, key) for key in columns)
        cells = (value if isinstance(value, str) else f"{value:.3g}" for value in values)
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def gated(
    animator: Animator, speech: Speech, chosen: Mapping[str, AnimateOptions], rounds: int
) -> dict[str, GatedPoint]:
    """Time of each setting, what it keeps of the best, and what the regression gate says of it.

    The best is :data:`BASE`, or the bundle's own where it cannot run that (a model of few steps).
    """
    base = BASE
    if BASE not in chosen:
        best = best_preset(animator.bundle)
        base = f"{best.solver} {best.steps}"
        chosen = {**chosen, base: as_options(best, animator.bundle)}
    variant = best_preset(animator.bundle).variant
    curve = Curve(animator, speech, as_options(as_preset(chosen[base], variant), animator.bundle))
    tried: dict[str, Tried] = {}

    def make(name: str) -> None:
        terminal.note(name)
        tried[name] = curve.measure(name, as_preset(chosen[name], variant))

    for _ in range(rounds):
        for name in chosen:
            earlier = tried.get(name)
            make(name)
            if earlier is not None and earlier.speed < tried[name].speed:  # the quickest of the rounds
                tried[name] = earlier
    return with_best({name: gate_point(one, tried[base], curve.sound_s) for name, one in tried.items()})


def as_preset(options: AnimateOptions, variant: str = Preset.variant) -> Preset:
    """The settings of a run under a name."""
    return Preset(
        variant=variant,
        solver=options.solver,
        steps=options.steps,
        guidance=options.guidance,
        guidance_interval=options.guidance_interval or (0.0, 1.0),
        deep_cache=options.deep_cache or 1,
    )


def gate_point(one: Tried, base: Tried, sound_s: float) -> GatedPoint:
    """A setting as the gate has measured it."""
    return GatedPoint(
        seconds_per_video=one.speed * sound_s,
        speedup=base.speed / one.speed,
        likeness_db=one.likeness,
        score=one.kept,
        best=False,
        gate="passes" if one.passed else "fails",
        verdict=one.verdict,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.pareto", description=SUMMARY)
    add_options(parser, Machine)
    parser.add_argument("--portrait", type=Path, help="picture of a person, for the regression gate")
    parser.add_argument("--voice", type=Path, help="what the person says, some seconds")
    parser.add_argument("--people", type=int, default=6, help="pairs of person and sentence (default: %(default)s)")
    parser.add_argument("--steps", type=_numbers, default=(4, 8, 12, 20), metavar="N,…")
    parser.add_argument("--solvers", default="ddim,euler,dpmpp_2m,unipc", help="the last one also with shortcuts")
    parser.add_argument("--presets", action="store_true", help="only the bundle's presets, in their order")
    parser.add_argument("--rounds", type=int, default=1)
    add_outputs(parser)
    given = parser.parse_args(arguments)
    if min(given.rounds, *given.steps) < 1 or given.people < 2:
        parser.error("--rounds and --steps are 1 or more, --people 2 or more")
    if (given.portrait is None) != (given.voice is None):
        parser.error("--portrait and --voice go together")
    if given.presets and given.portrait is not None:
        parser.error("--presets is for drawn people; `emo-rt evaluate --regression` compares presets by a portrait")
    rows: Mapping[str, Point]
    chosen = settings(given.steps, given.solvers.split(","))
    with read_options(given, Machine).load() as animator:
        if given.portrait is not None:  # the gate runs them with the variant of the model's best
            bundle, variant = animator.bundle, best_preset(animator.bundle).variant
            chosen = {name: as_options(as_preset(options, variant), bundle) for name, options in chosen.items()}
        chosen = {name: options for name, options in chosen.items() if is_possible(animator, options)}
        if given.portrait is None:
            if given.presets:
                chosen = {name: AnimateOptions(preset=name) for name in animator.bundle.presets}
            people = load_people(given.people, animator.config.size)
            rows = compare(animator, people, Reader(), chosen, given.rounds)
        else:
            speech = Speech(given.portrait, waveform(open_audio(given.voice)))
            rows = gated(animator, speech, chosen, given.rounds)
    result = Result(
        benchmark="pareto",
        schema=SCHEMA,
        backend=animator.backend,
        people=given.people if given.portrait is None else 1,
        rounds=given.rounds,
        environment=environment(given.threads),
        settings=rows,
    )
    publish(result, markdown(rows), given)
    return 0


def is_possible(animator: Animator, options: AnimateOptions) -> bool:
    """Whether the bundle serves a setting, with these very steps, and has the graphs for it. Warms them up."""
    try:
        step_graphs(animator.resolve(options), animator.bundle)
    except ConfigError:
        return False
    animator.warmup(options)
    return True


if __name__ == "__main__":
    sys.exit(main())
