"""The gate: is B as good as A? Two settings, engines or videos of one model, the same sentence and the same noise.

Two questions, because they have different answers. ``equal``: does B compute the same? Every frame must be A's to
rounding: another engine, a new version, a re-exported bundle. ``quality``: is B as good, though its frames differ?
Fewer steps, a distilled student: only what one sees counts, so measures decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.evaluate.assessment import Eyes, Portraits, eyes_of, held_against
from emo_rt.evaluate.context import DLIB, Context
from emo_rt.evaluate.footage import Footage, open_video, videos_in
from emo_rt.evaluate.frechet import FrechetSample, too_few
from emo_rt.evaluate.intervals import Estimate, Sample, estimate_change
from emo_rt.evaluate.lips import LAGS, lagged_correlations
from emo_rt.evaluate.metrics import METRICS, Metric, Taken, take, worsening
from emo_rt.evaluate.moments import worst_moments
from emo_rt.evaluate.onnx_network import NetworkFile
from emo_rt.evaluate.options import LEAST_PSNR, Against, Expect
from emo_rt.evaluate.pictures import MOST_DB, psnr, ssim
from emo_rt.evaluate.reading import Reading
from emo_rt.evaluate.report import SCHEMA, Detail, definition, number
from emo_rt.version import __version__

Values = NDArray[np.float64]

MOST_LANDMARKS = 1.0
"""Percent of the eye distance by which landmarks of an equal video may be off, on average."""
MOST_SWAP = 0.4
"""Distance of dlib's embeddings of A's and B's faces above which they are two people. dlib says 0.6 of photographs that
may differ in light and age; two videos of one portrait do not: parts of one video differ by 0.07, two drawn people by
0.59 (measured)."""
MOST_LAG = 0
"""Frames by which B's lips may be late or early against A's."""
LEAST_LIPS = 0.8
"""Correlation that B's lip gap must have with A's, where A's mouth moves. A steady mouth has none worth the name."""
MOVING = 0.01
"""Standard deviation of the lip gap, in eye distances, from which a mouth moves."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    """What."""
    value: float
    """As it is."""
    limit: str
    """As it should be, in words."""
    passed: bool
    """Whether it is."""
    at_s: float | None = None
    """Where it is worst, in seconds."""
    words: str = ""
    """The value in a sentence, for the verdict."""


@dataclass(frozen=True)
class Change:
    """One measure of A and B."""

    metric: str
    """Its name."""
    before: float
    """Of A."""
    after: float
    """Of B."""
    change: Estimate
    """After minus before, with its interval over resampled seconds."""
    tolerance: float
    """What it may get worse by."""
    passed: bool
    """Not worse by more than that, or not surely worse at all."""


@dataclass(frozen=True, eq=False)
class Regression:
    """The gate's answer."""

    first: str
    """What A is."""
    second: str
    """What B is."""
    expect: Expect
    """The question."""
    checks: Sequence[Check]
    """Frames, landmarks, lips and identity of B against A."""
    changes: Sequence[Change]
    """Every measure that both have."""
    networks: Sequence[NetworkFile]
    """What looked."""
    psnr: Values
    """(T,) dB of each frame."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """That making A and B took, where they were made now."""
    details: Sequence[Detail] = field(default=(), repr=False)
    """A and B, for the page."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Measure that cannot be compared → why."""

    @property
    def passed(self) -> bool:
        """Whether all holds."""
        return all(one.passed for one in self.checks) and all(one.passed for one in self.changes)

    @property
    def verdict(self) -> str:
        """One line."""
        failures = [one.words for one in self.checks if not one.passed] + [
            f"{METRICS[one.metric].title} {number(one.before)} → {number(one.after)}"
            for one in self.changes
            if not one.passed
        ]
        if failures:
            return f"FAIL: {self.second} against {self.first}: {'; '.join(failures)}"
        worst = float(self.psnr.min()) if len(self.psnr) else 0.0
        asked = "the same frames as" if self.expect == "equal" else "as good as"
        return f"PASS: {self.second} is {asked} {self.first}: worst frame {worst:.1f} dB, {len(self.changes)} measures"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            "emo_rt": __version__,
            "first": self.first,
            "second": self.second,
            "expect": self.expect,
            "passed": self.passed,
            "verdict": self.verdict,
            "seconds": list(self.seconds),
            "checks": [asdict(one) for one in self.checks],
            "changes": [asdict(one) for one in self.changes],
            "missing": dict(self.missing),
            "metrics": {one.metric: definition(METRICS[one.metric]) for one in self.changes},
            "networks": [asdict(one) for one in self.networks],
            "psnr": [round(float(value), 3) for value in self.psnr],
        }

    def json(self) -> str:
        """:meth:`as_dict` as one line."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    def markdown(self) -> str:
        """Verdict and both tables."""
        lines = [self.verdict, "", "| check | value | expected | |", "|---|---|---|---|"]
        for check in self.checks:
            where = "" if check.at_s is None else f", worst at {check.at_s:.2f} s"
            lines.append(f"| {check.name} | {number(check.value)}{where} | {check.limit} | {_mark(check.passed)} |")
        lines += ["", "| measure | A | B | change, 95 % interval | may get worse by | |", "|---|---|---|---|---|---|"]
        for one in self.changes:
            moved = f"{number(one.change.value)} ({number(one.change.low)} … {number(one.change.high)})"
            cells = (METRICS[one.metric].title, number(one.before), number(one.after), moved, number(one.tolerance))
            lines.append(f"| {' | '.join(cells)} | {_mark(one.passed)} |")
        lines += ["", *(f"- `{name}` is not compared: {why}." for name, why in self.missing.items())]
        return "\n".join(lines) + "\n"


def _mark(passed: bool) -> str:
    return "✓" if passed else "**✗**"


def compare(
    first: Footage,
    second: Footage,
    expect: Expect = "equal",
    against: Against | None = None,
    *,
    least_psnr: float = LEAST_PSNR,
    seconds: tuple[float, float] = (0.0, 0.0),
    eyes: Eyes | None = None,
) -> Regression:
    """Hold video B against video A. ``least_psnr``: dB that every frame needs where ``expect`` is ``equal``.

    ``seconds``: that making them took, for the record. ``eyes``: networks that are open already.
    Raises :class:`InputError` for videos of another size or rate, and what :func:`emo_rt.evaluate.evaluate` raises.
    """
    if abs(first.fps - second.fps) > 0.01:
        raise InputError(
            f"{first.name} has {first.fps:g} frames a second, {second.name} {second.fps:g}; expected one rate"
        )
    against = against or Against()
    eyes = eyes or eyes_of(against)
    truths = [] if against.truth is None else [eyes.read(open_video(path)) for path in videos_in(against.truth)]
    context = held_against(against, eyes, Portraits(against.portrait, eyes), truths)
    if against.voice is not None:
        first, second = (one.with_voice(against.voice) for one in (first, second))
    likeness, structure = frame_likeness(first, second)
    readings = eyes.read(first), eyes.read(second)
    checks = [*_frame_checks(likeness, structure, readings, expect, least_psnr), *_face_checks(*readings, expect)]
    found = list(_changes(*readings, context))
    changes = [one for one in found if isinstance(one, Change)]
    missing = dict(one for one in found if not isinstance(one, Change))
    details = [
        Detail(footage, reading, worst_moments(reading, context))
        for footage, reading in zip((first, second), readings, strict=True)
    ]
    return Regression(
        first=first.name,
        second=second.name,
        expect=expect,
        checks=checks,
        changes=changes,
        networks=eyes.networks,
        psnr=likeness,
        seconds=seconds,
        details=details,
        missing=missing,
    )


def frame_likeness(first: Footage, second: Footage) -> tuple[Values, Values]:
    """PSNR in dB and SSIM of each pair of frames; those that only one video has are left out."""
    decibels, structure = [], []
    for one, other in zip_longest(first.frames(), second.frames()):
        if one is None or other is None:
            break
        if one.shape != other.shape:
            raise InputError(
                f"{first.name} has frames of {one.shape}, {second.name} of {other.shape}; expected the same"
            )
        decibels.append(psnr(one, other))
        structure.append(1.0 if decibels[-1] == MOST_DB else ssim(one, other))
    return np.array(decibels), np.array(structure)


def _frame_checks(
    decibels: Values, structure: Values, readings: tuple[Reading, Reading], expect: Expect, least: float
) -> Iterator[Check]:
    first, second = readings
    words = f"{len(second)} frames instead of {len(first)}"
    yield Check("frames", len(second), str(len(first)), len(first) == len(second), words=words)
    if not len(decibels):
        return
    worst, strict = int(decibels.argmin()), expect == "equal"
    words = f"worst frame {decibels.min():.1f} dB"
    limit = f"{least:g} dB or more" if strict else "told, not judged"
    fine = not strict or float(decibels.min()) >= least
    yield Check("PSNR of the worst frame", float(decibels.min()), limit, fine, worst / first.fps, words)
    yield Check("PSNR, mean", float(decibels.mean()), "told, not judged", True)
    yield Check("SSIM, mean", float(structure.mean()), "told, not judged", True)


def _face_checks(first: Reading, second: Reading, expect: Expect) -> Iterator[Check]:
    """Landmarks, lips and identity of B against A."""
    count = min(len(first), len(second))
    both = first.found[:count] & second.found[:count]
    if not both.any():
        words = "no face was found in both, so nothing says that one is as good"
        yield Check("frames with a face in both", 0, "1 or more", expect == "equal", words=words)
        return
    apart = np.linalg.norm((first.landmarks[:count] - second.landmarks[:count])[..., :2], axis=-1).mean(axis=1)
    percent = 100 * np.asarray(apart / first.eye_distance[:count], np.float64)
    mean, worst = float(np.nanmean(percent)), int(np.nanargmax(percent))
    fine = expect == "quality" or mean <= MOST_LANDMARKS
    limit = f"{MOST_LANDMARKS:g} % or less" if expect == "equal" else "told, not judged"
    words = f"landmarks off by {mean:.2f} % of the eye distance"
    yield Check("landmarks off by, % of the eye distance", mean, limit, fine, worst / first.fps, words)
    yield from _lip_checks(first.opening[:count], second.opening[:count], first.fps)
    yield from _identity_check(first, second)


def _lip_checks(first: Values, second: Values, fps: float) -> Iterator[Check]:
    """Whether B's lips move when A's do: more telling than either against the sound."""
    if np.nanstd(first) < MOVING:
        return
    found = lagged_correlations(first, second)
    late, best = int(LAGS[found.argmax()]), float(found.max())
    words = f"lips {abs(late)} frames {'late' if late > 0 else 'early'} ({1000 * late / fps:+.0f} ms)"
    yield Check("lips late by, frames", late, "0", abs(late) <= MOST_LAG, words=words)
    words = f"lips move as A's with a correlation of {best:.2f} only"
    yield Check("lip gap, correlation with A's", best, f"{LEAST_LIPS:g} or more", best >= LEAST_LIPS, words=words)


def _identity_check(first: Reading, second: Reading) -> Iterator[Check]:
    means = [np.nanmean(one.embeddings[DLIB], axis=0) for one in (first, second) if DLIB in one.embeddings]
    if len(means) == 2:
        apart = float(np.linalg.norm(means[0] - means[1]))
        words = f"another face: {apart:.2f} from A's"
        yield Check("face, distance to A's", apart, f"{MOST_SWAP:g} or less", apart <= MOST_SWAP, words=words)


def _changes(first: Reading, second: Reading, context: Context) -> Iterator[Change | tuple[str, str]]:
    """Each measure's change; or its name, and why it cannot be compared."""
    for metric in METRICS.values():
        before, after = take(metric, first, context), take(metric, second, context)
        change = _change(metric, before, after)
        yield (metric.name, change) if isinstance(change, str) else change


def _change(metric: Metric, before: Taken, after: Taken) -> Change | str:
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    if len(before.sums) != len(after.sums):  # the check of the frames has failed already
        return "the videos have other lengths"
    moved: Estimate | str | None = None
    if isinstance(before, FrechetSample) and isinstance(after, FrechetSample):
        few = too_few(int(min(before.counts.sum(), after.counts.sum())), len(before.true.mean), "the videos")
        moved = few or before.change(after, metric.draws)
    elif isinstance(before, Sample) and isinstance(after, Sample):
        moved = estimate_change([before], [after], metric.draws)
    if not isinstance(moved, Estimate):
        return moved or "no frame counted in both"
    return Change(
        metric=metric.name,
        before=before.whole,
        after=after.whole,
        change=moved,
        tolerance=metric.tolerance,
        passed=not is_worse(metric, moved),
    )


def is_worse(metric: Metric, moved: Estimate) -> bool:
    """Whether a measure got worse by more than it may, and surely so: nothing in its interval says otherwise."""
    surely = moved.low > 0 or moved.high < 0
    return surely and worsening(metric, moved.value) > metric.tolerance
