"""What one run is asked for, and what comes of it once the model has filled in what the caller left open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emo_rt.checks import check, reject_unknown, within

SOLVERS = ("ddim", "euler", "dpmpp_2m", "unipc")
"""Names of the solvers in :mod:`emo_rt.model.solvers`."""
MOST_STEPS, MOST_GUIDANCE, MOST_CACHE = 1000, 50.0, 100
"""Upper ends of the options' ranges."""


@dataclass(frozen=True)
class AnimateOptions:
    """One run of :meth:`emo_rt.Animator.animate` or :meth:`emo_rt.Animator.stream`.

    ``None`` is the model's own: of the preset, or of the family of checkpoints. :meth:`emo_rt.Animator.resolve` says
    what that is. An option that the model does not heed raises :class:`ConfigError` when it is set.
    """

    seed: int = 0
    """Key of the noise, 0 … 2⁶³−1. The same seed gives the same video on one backend."""
    steps: int | None = None
    """Solver steps, 1 … 1000. The paper uses 40 (section 4.1)."""
    solver: str | None = None
    """One of :data:`SOLVERS`."""
    guidance: float | None = None
    """Classifier-free guidance scale, 0 … 50. 1 = no guidance."""
    guidance_interval: tuple[float, float] | None = None
    """Part of the schedule with guidance, first and last share of its steps: (0.2, 0.8) leaves it out in the first and
    last fifth, where a step then costs about half (arXiv 2404.07724). (0, 1) = everywhere."""
    deep_cache: int | None = None
    """N = 1 … 100: compute the inner blocks of the network in every N-th step only, and reuse their result in between
    (DeepCache, arXiv 2312.00858). 1 = in every step. Needs a bundle that was exported with ``--deep-cache``."""
    speed: float | None = None
    """Head speed, 0 … 3: speech 0.1–1.0, singing 1.0–1.3, above 1.5 it jitters (paper, section 4.4). Models with speed
    layers only; their own is 0.5."""
    motion_scale: tuple[float, float, float] | None = None
    """Weight of the audio on pose, face and lips, each 0 … 10. Models with hierarchical audio attention (Hallo) only;
    their own is (1, 1, 1)."""
    paste_back: bool | None = None
    """Put the animated square back into the whole picture; ``None`` = when the picture is larger than the square."""
    max_audio_s: float | None = None
    """Longest sound that is accepted, in seconds, more than 0, or infinity. ``None`` = four hours for a file or an
    array, no limit for a stream. A file that says of itself that it is longer is refused before it is decoded."""
    preset: str | None = None
    """Name of the model's preset that solver, steps, guidance and caching come from unless they are set:
    ``quality``, ``balanced``, ``fast``, ``realtime`` or what else `emo-rt info` lists. ``None`` = the default."""

    def __post_init__(self) -> None:
        check(isinstance(self.seed, int) and 0 <= self.seed < 2**63, "seed", self.seed, "an integer, 0 … 2**63 - 1")
        check(isinstance(self.preset, str | None), "preset", self.preset, "a preset's name, or None")
        check_run(self.solver, self.steps, self.guidance, self.deep_cache)
        interval, scales = self.guidance_interval, self.motion_scale
        check(
            interval is None or is_interval(interval),
            "guidance_interval",
            interval,
            "two numbers, 0 ≤ first < last ≤ 1, or None",
        )
        check(self.speed is None or within(self.speed, 0, 3), "speed", self.speed, "0 … 3, or None")
        check(
            scales is None or _are_scales(scales),
            "motion_scale",
            scales,
            "three numbers from 0 to 10: pose, face, lips; or None",
        )
        check(self.paste_back in (None, True, False), "paste_back", self.paste_back, "True, False or None")
        longest = self.max_audio_s
        check(
            longest is None or (within(longest, 0, math.inf) and longest > 0),
            "max_audio_s",
            longest,
            "more than 0 seconds, inf for no limit, or None",
        )

    @classmethod
    def mode(cls, name: str, **changes: Any) -> AnimateOptions:
        """``AnimateOptions(preset=name, …)``, as it was written before presets were the model's."""
        return cls(preset=name).replace(**changes)

    def replace(self, **changes: Any) -> AnimateOptions:
        """A copy with some settings changed. Raises :class:`ConfigError` for a name that does not exist."""
        reject_unknown(AnimateOptions, changes, "option")
        return dataclasses.replace(self, **changes)

    @property
    def given(self) -> dict[str, Any]:
        """What the caller has set, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ResolvedOptions:
    """What a run does: the caller's options, with the model's own in the place of what was left open."""

    seed: int
    """Key of the noise."""
    preset: str
    """Name of the preset."""
    variant: str
    """Variant of the weights that steps."""
    solver: str
    """One of :data:`SOLVERS`."""
    steps: int
    """Solver steps."""
    guidance: float
    """Guidance scale; 1 = none."""
    guidance_interval: tuple[float, ...]
    """First and last share of the steps with guidance."""
    deep_cache: int
    """Compute the inner blocks in every N-th step only."""
    constants: Mapping[str, Any]
    """Values of the graphs' inputs that stay the same during a run: ``speed``, ``motion_scale``."""
    paste_back: bool | None
    """As in :class:`AnimateOptions`."""

    def guided_steps(self) -> tuple[bool, ...]:
        """For each step, whether its middle lies in the guidance interval."""
        first, last = self.guidance_interval
        return tuple(first <= (step + 0.5) / self.steps <= last for step in range(self.steps))


def check_run(solver: str | None, steps: int | None, guidance: float | None, deep_cache: int | None) -> None:
    """Raise :class:`ConfigError` for a value out of its range; ``None`` is none."""
    known = solver is None or solver in SOLVERS
    check(known, "solver", solver, f"one of {', '.join(SOLVERS)}")
    whole = steps is None or (type(steps) is int and 1 <= steps <= MOST_STEPS)
    check(whole, "steps", steps, f"an integer from 1 to {MOST_STEPS}")
    check(guidance is None or within(guidance, 0, MOST_GUIDANCE), "guidance", guidance, "0 … 50, or None")
    every = deep_cache is None or (type(deep_cache) is int and 1 <= deep_cache <= MOST_CACHE)
    check(every, "deep_cache", deep_cache, f"an integer from 1 to {MOST_CACHE}")


def is_interval(value: object) -> bool:
    """Whether these are two numbers, 0 ≤ first < last ≤ 1."""
    if not (isinstance(value, Sequence) and len(value) == 2 and all(within(share, 0, 1) for share in value)):
        return False
    return bool(value[0] < value[1])


def _are_scales(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(within(one, 0, 10) for one in value)
