"""What does each shortcut save and cost on **this** model, this portrait and this machine? And which are worth a name?

Every setting makes the same video: same sentence, same noise. The first is the model's own best; the others are held
against it. *Kept* is the mean of four shares, 1 at most each: correlation of the lip gap with the first's, range of the
mouth and sharpness of the face (the smaller over the larger), and SSIM. Where no face is found (a model that was not
trained), it is SSIM alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from emo_rt.animator import Animator
from emo_rt.errors import ConfigError, InputError
from emo_rt.evaluate.assessment import Eyes
from emo_rt.evaluate.footage import Footage, of_frames
from emo_rt.evaluate.lips import LAGS, lagged_correlations
from emo_rt.evaluate.reading import Reading
from emo_rt.evaluate.regression import MOVING, compare
from emo_rt.evaluate.subject import OutOfTimeError, Speech, made
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.bundle import Bundle
from emo_rt.model.options import AnimateOptions
from emo_rt.model.presets import QUALITY, Preset
from emo_rt.model.tuned import Tuned

BARS: Mapping[str, float] = {"balanced": 0.97, "fast": 0.93, "realtime": 0.85}
"""Preset → least share that it keeps of the model's best."""
STEPS = (12, 8, 4, 6, 20, 10, 16)
"""Solver steps that are tried, the most telling ones first: the budget may end before the list."""
CACHED_FROM = 6
"""Fewest steps with which caching the inner blocks is tried."""
LEAST_S, MOST_S = 1.0, 8.0
"""Seconds of sound that each setting speaks."""
FIRST_SHARE = 0.15
"""Share of the budget that the best setting's video may take."""
READING_S = 1.0
"""Assumed seconds of looking at a second of video, until it is known."""


@dataclass(frozen=True)
class Tried:
    """One setting as it was measured."""

    name: str
    """In words."""
    preset: Preset
    """The setting."""
    speed: float
    """Seconds of computing per second of video; below 1 is faster than it is shown."""
    kept: float
    """Share of the best setting's quality, 0 … 1."""
    likeness: float
    """Mean PSNR of the frames against the best setting's, dB."""
    passed: bool
    """Whether the regression gate passes it as of the same quality."""
    verdict: str
    """What the gate says."""

    def row(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "preset": asdict(self.preset)}


def candidates(bundle: Bundle) -> Iterator[tuple[str, Preset]]:
    """Settings to try beside the best one, each once.

    First the bundle's other presets, which its maker chose, those of other variants among them (a distilled
    student's); then fewer steps, guidance in a part of them, cached inner blocks.
    """
    seen = [replace(best_preset(bundle), ladder=())]
    for name, preset in (*_own_presets(bundle), *_shortcuts(bundle)):
        setting = replace(preset, ladder=())
        if setting not in seen:
            seen.append(setting)
            yield name, setting


def _own_presets(bundle: Bundle) -> Iterator[tuple[str, Preset]]:
    variant = best_preset(bundle).variant
    for name, preset in bundle.presets.items():
        yield f"the bundle's {name}" + ("" if preset.variant == variant else f" ({preset.variant})"), preset


def _shortcuts(bundle: Bundle) -> Iterator[tuple[str, Preset]]:
    best = best_preset(bundle)
    variant = bundle.variants[best.variant]
    solver = "unipc" if "unipc" in variant.solvers else best.solver
    has_both = all(bundle.find("step", best.variant, guided=guided) for guided in (True, False))
    has_cache = bundle.find("step", best.variant, guided=True, cached=True) is not None
    for steps in STEPS:
        if not variant.steps[0] <= steps <= variant.steps[1] or (steps >= best.steps and solver == best.solver):
            continue
        one = replace(best, solver=solver, steps=steps)
        yield f"{solver} {steps}", one
        if has_both and best.guidance != 1:
            yield f"{solver} {steps}, guidance 0.2-0.8", replace(one, guidance_interval=(0.2, 0.8))
        if has_cache and steps >= CACHED_FROM:
            yield f"{solver} {steps}, cache 2", replace(one, deep_cache=2)


def best_preset(bundle: Bundle) -> Preset:
    """What all others are held against: ``quality``, or the default where there is none."""
    return bundle.presets[_best_name(bundle)]


def _best_name(bundle: Bundle) -> str:
    return QUALITY if QUALITY in bundle.presets else bundle.default_preset


def as_options(preset: Preset, bundle: Bundle) -> AnimateOptions:
    """The setting as options of a run; its variant comes by the name of a preset that has it."""
    first, last = preset.guidance_interval
    names = (_best_name(bundle), *bundle.presets)
    return AnimateOptions(
        preset=next(name for name in names if bundle.presets[name].variant == preset.variant),
        solver=preset.solver,
        steps=preset.steps,
        guidance=preset.guidance,
        guidance_interval=(first, last),
        deep_cache=preset.deep_cache,
    )


class Curve:
    """Measures settings of one animator against the first."""

    def __init__(self, animator: Animator, speech: Speech, best: AnimateOptions, until: float = math.inf) -> None:
        """Makes the best setting's video now. ``until``: when to give up, by :func:`time.perf_counter`.

        Raises what making it raises, here and later :class:`OutOfTimeError`.
        """
        self._animator, self._speech, self._until, self._eyes = animator, speech, until, Eyes()
        frames, self.first_s = made(animator, speech, best, until)
        self._first = self._footage("best", frames)
        start = time.perf_counter()
        self._reading = self._eyes.read(self._first)
        self.reading_s = time.perf_counter() - start
        """Seconds that looking at one video took."""

    @property
    def sound_s(self) -> float:
        """Seconds that each setting speaks."""
        return len(self._speech.sound) / AUDIO_SAMPLE_RATE

    def measure(self, name: str, preset: Preset) -> Tried:
        """One setting. Raises what making its video raises."""
        frames, seconds = made(self._animator, self._speech, as_options(preset, self._animator.bundle), self._until)
        return self._tried(name, preset, self._footage(name, frames), seconds)

    def best(self, name: str, preset: Preset) -> Tried:
        """The first itself, which keeps all."""
        speed = self.first_s / self.sound_s
        return Tried(name, preset, speed, 1.0, 100.0, True, "the others are held against it")

    def _tried(self, name: str, preset: Preset, footage: Footage, seconds: float) -> Tried:
        result = compare(self._first, footage, "quality", eyes=self._eyes)
        structure = next(one.value for one in result.checks if one.name.startswith("SSIM"))
        kept = kept_share(self._reading, result.details[1].reading, structure)
        likeness = float(result.psnr.mean())
        return Tried(name, preset, seconds / self.sound_s, kept, likeness, result.passed, result.verdict)

    def _footage(self, name: str, frames: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Footage:
        return of_frames(name, frames, self._animator.config.fps, self._speech.sound)


def kept_share(first: Reading, second: Reading, structure: float) -> float:
    """See the module's head. ``structure``: mean SSIM of the frames."""
    shares = [max(structure, 0.0)]
    both = first.found & second.found
    if first.found.any():
        if not both.any():
            return 0.0
        shares.append(_smaller_over_larger(float(np.nanmean(first.sharpness)), float(np.nanmean(second.sharpness))))
        moved = [float(np.nanstd(one.opening)) for one in (first, second)]
        if moved[0] >= MOVING:
            shares.append(_smaller_over_larger(*moved))
            at_once = int(np.flatnonzero(LAGS == 0)[0])
            follows = lagged_correlations(first.opening, second.opening)[at_once]
            shares.append(max(float(follows), 0.0))
    return float(np.mean(shares))


def _smaller_over_larger(one: float, other: float) -> float:
    return min(one, other) / max(one, other, 1e-9)


def tune(animator: Animator, speech: Speech, budget_s: float, progress: Callable[[str], None] | None = None) -> Tuned:
    """Measure as many settings as the budget allows and name the best ones.

    ``budget_s``: seconds in all. Raises :class:`ConfigError` for a budget that is over before anything can be compared,
    and what :meth:`Animator.animate` raises.
    """
    start, said = time.perf_counter(), progress or (lambda text: None)
    until = start + budget_s
    bundle, best = animator.bundle, best_preset(animator.bundle)
    said("the best setting, once for its speed")
    speech = _shortened(animator, speech, budget_s, until)
    curve = Curve(animator, speech, as_options(best, bundle), until)
    tried = [curve.best(f"{best.solver} {best.steps}", best)]
    wanted = list(candidates(bundle))
    for name, preset in wanted:
        if until - time.perf_counter() < 2 * curve.reading_s + curve.first_s * preset.steps / best.steps:
            continue
        said(name)
        try:
            tried.append(curve.measure(name, preset))
        except OutOfTimeError:
            break
    if len(tried) == 1:
        raise ConfigError(f"budget is {budget_s:g} s; expected more: one setting takes {curve.first_s:.0f} s here")
    measured = {
        "device": animator.device,
        "backend": animator.backend,
        "sound_s": round(curve.sound_s, 2),
        "took_s": round(time.perf_counter() - start, 1),
        "left_out": len(wanted) + 1 - len(tried),
    }
    return Tuned(named(tried), measured, [one.row() for one in tried])


def _shortened(animator: Animator, speech: Speech, budget_s: float, until: float) -> Speech:
    """As much of the sound as fits: the best setting shall take :data:`FIRST_SHARE` of the budget."""
    least = max(LEAST_S, 2 * animator.config.frames / animator.config.fps)
    sound = speech.sound[: round(least * AUDIO_SAMPLE_RATE)]
    if len(sound) < round(LEAST_S * AUDIO_SAMPLE_RATE):
        raise InputError(f"the voice has {len(sound) / AUDIO_SAMPLE_RATE:.2f} s; expected {LEAST_S:g} s or more")
    best = best_preset(animator.bundle)
    lowest, most = animator.bundle.variants[best.variant].steps
    few = replace(best, steps=min(max(2, lowest), most))
    _, seconds = made(animator, replace(speech, sound=sound), as_options(few, animator.bundle), until)
    per_second = seconds / few.steps * best.steps / least + READING_S
    wanted = min(max(FIRST_SHARE * budget_s / per_second, least), MOST_S)
    return replace(speech, sound=speech.sound[: round(wanted * AUDIO_SAMPLE_RATE)])


def named(tried: Sequence[Tried]) -> dict[str, Preset]:
    """The presets, each with the ladder of those that are really faster.

    ``quality`` is the first. ``balanced``, ``fast`` and ``realtime`` are the fastest that keep their share (and none is
    slower than the one before it). Where nothing is faster at that share, a preset is as the one before; but
    ``realtime`` is the fastest of all where it would be ``quality`` itself.
    """
    chosen = {QUALITY: tried[0]}
    for name, bar in BARS.items():
        before = list(chosen.values())[-1]
        faster = [one for one in tried if one.speed < before.speed]
        fitting = [one for one in faster if one.kept >= bar]
        if name == "realtime" and before is tried[0]:
            fitting = fitting or faster
        chosen[name] = min(fitting, key=lambda one: one.speed, default=before)
    names, presets = list(chosen), dict[str, Preset]()
    for place, name in enumerate(names):
        ladder, slowest = [], chosen[name]
        for lower in names[place + 1 :]:
            if chosen[lower].speed < slowest.speed:
                ladder.append(lower)
                slowest = chosen[lower]
        presets[name] = replace(chosen[name].preset, ladder=tuple(ladder))
    return presets
