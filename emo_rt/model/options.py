"""What one run is asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from emo_rt.checks import check, reject_unknown, within

SOLVERS = ("ddim", "euler", "dpmpp_2m", "unipc")
"""Names of the solvers in :mod:`emo_rt.model.solvers`."""
MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quality": MappingProxyType({"solver": "ddim", "steps": 40}),
        "balanced": MappingProxyType({"solver": "unipc", "steps": 12}),
        "fast": MappingProxyType({"solver": "unipc", "steps": 8}),
        "realtime": MappingProxyType({"solver": "unipc", "steps": 4}),
    }
)
"""Presets of :meth:`AnimateOptions.mode`, the slowest first; ``benchmarks/pareto.py`` measures what each one costs."""


@dataclass(frozen=True)
class AnimateOptions:
    """One run of :meth:`emo_rt.Animator.animate` or :meth:`emo_rt.Animator.stream`."""

    seed: int = 0
    """Key of the noise, 0 … 2⁶³−1. The same seed gives the same video on one backend."""
    steps: int = 40
    """Solver steps, 1 … 1000. The paper uses 40 (section 4.1)."""
    solver: str = "ddim"
    """One of :data:`SOLVERS`."""
    guidance: float | None = None
    """Classifier-free guidance scale, 0 … 50; ``None`` = the model's own. 1 = no guidance."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Part of the schedule with guidance, first and last share of its steps: (0.2, 0.8) leaves it out in the first and
    last fifth, where a step then costs about half (arXiv 2404.07724). (0, 1) = everywhere."""
    deep_cache: int = 1
    """N = 1 … 100: compute the inner blocks of the network in every N-th step only, and reuse their result in between
    (DeepCache, arXiv 2312.00858). 1 = in every step. Needs a bundle that was exported with ``--deep-cache``."""
    speed: float = 0.5
    """Head speed, 0 … 3: speech 0.1–1.0, singing 1.0–1.3, above 1.5 it jitters (paper, section 4.4)."""
    motion_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Weight of the audio on pose, face and lips, each 0 … 10. Models with hierarchical audio attention only."""
    paste_back: bool | None = None
    """Put the animated square back into the whole picture; ``None`` = when the picture is larger than the square."""
    max_audio_s: float | None = None
    """Longest sound that is accepted, in seconds, more than 0, or infinity. ``None`` = four hours for a file or an
    array, no limit for a stream. A file that says of itself that it is longer is refused before it is decoded."""

    def __post_init__(self) -> None:
        check(isinstance(self.seed, int) and 0 <= self.seed < 2**63, "seed", self.seed, "an integer, 0 … 2**63 - 1")
        check(isinstance(self.steps, int) and 1 <= self.steps <= 1000, "steps", self.steps, "an integer from 1 to 1000")
        check(self.solver in SOLVERS, "solver", self.solver, f"one of {', '.join(SOLVERS)}")
        check(self.guidance is None or within(self.guidance, 0, 50), "guidance", self.guidance, "0 … 50, or None")
        check(
            _is_interval(self.guidance_interval),
            "guidance_interval",
            self.guidance_interval,
            "two numbers, 0 ≤ first < last ≤ 1",
        )
        deep = self.deep_cache
        check(isinstance(deep, int) and 1 <= deep <= 100, "deep_cache", deep, "an integer from 1 to 100")
        check(within(self.speed, 0, 3), "speed", self.speed, "0 … 3")
        scales = self.motion_scale
        check(
            isinstance(scales, Sequence) and len(scales) == 3 and all(within(value, 0, 10) for value in scales),
            "motion_scale",
            scales,
            "three numbers from 0 to 10: pose, face, lips",
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
        """A preset of :data:`MODES`, with some settings changed: ``AnimateOptions.mode("fast", seed=7)``.

        ``quality`` is what the paper does. Raises :class:`ConfigError`.
        """
        check(name in MODES, "mode", name, f"one of {', '.join(MODES)}")
        return cls(**MODES[name]).replace(**changes)

    def guided_steps(self) -> tuple[bool, ...]:
        """For each step, whether its middle lies in the guidance interval."""
        first, last = self.guidance_interval
        return tuple(first <= (step + 0.5) / self.steps <= last for step in range(self.steps))

    def replace(self, **changes: Any) -> AnimateOptions:
        """A copy with some settings changed. Raises :class:`ConfigError` for a name that does not exist."""
        reject_unknown(AnimateOptions, changes, "option")
        return dataclasses.replace(self, **changes)


def _is_interval(value: object) -> bool:
    if not (isinstance(value, Sequence) and len(value) == 2 and all(within(share, 0, 1) for share in value)):
        return False
    return bool(value[0] < value[1])
