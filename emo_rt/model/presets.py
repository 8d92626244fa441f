"""What a bundle offers to run: variants of the step's weights, and presets, which are named settings of one variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emo_rt.checks import check, within
from emo_rt.model.options import MOST_GUIDANCE, MOST_STEPS, SOLVERS, check_run, is_interval

BASE = "base"
"""The variant that a plain export has: the weights as they were trained."""
QUALITY = "quality"
"""The preset that does what the paper does."""


@dataclass(frozen=True)
class Variant:
    """One set of weights to step with (a teacher, its distilled student …), and the option values that it serves."""

    solvers: tuple[str, ...] = SOLVERS
    """Solvers that it may be run with."""
    steps: tuple[int, ...] = (1, MOST_STEPS)
    """Fewest and most solver steps."""
    guidance: tuple[float, ...] = (0.0, MOST_GUIDANCE)
    """Lowest and highest guidance scale. (1, 1) = without guidance."""

    def __post_init__(self) -> None:
        known = len(self.solvers) > 0 and set(self.solvers) <= set(SOLVERS)
        check(known, "variant.solvers", self.solvers, f"some of {', '.join(SOLVERS)}")
        for name, most in (("steps", MOST_STEPS), ("guidance", MOST_GUIDANCE)):
            ends = getattr(self, name)
            fits = len(ends) == 2 and all(within(end, 0, most) for end in ends) and ends[0] <= ends[1]
            check(fits, f"variant.{name}", ends, f"the lowest and the highest value, 0 … {most}")

    def check_serves(self, name: str, solver: str, steps: int, guidance: float) -> None:
        """Raise :class:`ConfigError` for what this variant, called ``name``, was not made for."""
        whose = f"the variant {name!r} of this model"
        check(solver in self.solvers, "solver", solver, f"one of {', '.join(self.solvers)}: {whose}")
        check(within(steps, *self.steps), "steps", steps, f"{_range(self.steps)}: {whose}")
        check(within(guidance, *self.guidance), "guidance", guidance, f"{_range(self.guidance)}: {whose}")


@dataclass(frozen=True)
class Preset:
    """Named settings of a run. Whatever the caller sets goes before them."""

    variant: str = BASE
    """Variant of the weights."""
    solver: str = "ddim"
    """One of :data:`~emo_rt.model.options.SOLVERS`."""
    steps: int = 40
    """Solver steps. The paper uses 40 (section 4.1)."""
    guidance: float | None = None
    """Guidance scale; ``None`` = the configuration's."""
    guidance_interval: tuple[float, ...] = (0.0, 1.0)
    """Part of the steps with guidance, see :class:`~emo_rt.AnimateOptions`."""
    deep_cache: int = 1
    """Compute the inner blocks in every N-th step only."""
    ladder: tuple[str, ...] = ()
    """Presets that a live session may step down to when it is late, the next one first."""

    def __post_init__(self) -> None:
        check_run(self.solver, self.steps, self.guidance, self.deep_cache)
        interval = self.guidance_interval
        check(is_interval(interval), "guidance_interval", interval, "two numbers, 0 ≤ first < last ≤ 1")


STANDARD_PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        QUALITY: Preset(ladder=("balanced", "fast", "realtime")),
        "balanced": Preset(solver="unipc", steps=12, ladder=("fast", "realtime")),
        "fast": Preset(solver="unipc", steps=8, ladder=("realtime",)),
        "realtime": Preset(solver="unipc", steps=4),
    }
)
"""Presets of a bundle that was exported without others, the slowest first; ``benchmarks/pareto.py`` measures what each
one costs."""


def _range(ends: tuple[float, ...]) -> str:
    return f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} … {ends[1]:g}"
