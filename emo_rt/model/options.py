"""What one run is asked for, and what comes of it once the model has filled in what the caller left open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from emo_rt.checks import reject_unknown
from emo_rt.schema.compound import Several
from emo_rt.schema.kinds import Choice, Range
from emo_rt.schema.option import Outside, check_options, option_of

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

    seed: Annotated[int, Range(0, 2**63 - 1, "0 … 2**63 - 1")] = 0
    """Key of the noise. The same seed gives the same video on one backend."""
    steps: Annotated[int | None, Range(1, MOST_STEPS)] = None
    """Solver steps per clip. ``None`` = the model's own.

    The paper uses 40 (section 4.1)."""
    solver: Annotated[str | None, Choice(SOLVERS)] = None
    """Solver. ``None`` = the model's own."""
    guidance: Annotated[float | None, Range(0, MOST_GUIDANCE)] = None
    """Guidance scale. 1 = none, about twice as fast. ``None`` = the model's own.

    Classifier-free guidance of sound and portrait together."""
    guidance_interval: Annotated[tuple[float, float] | None, Several(("first", "last"), rises=True), Range(0, 1)] = None
    """Guidance only in this part of the steps, like 0.2,0.8. The others cost about half. ``None`` = the model's own.

    First and last share of the schedule: (0.2, 0.8) leaves guidance out in the first and last fifth
    (arXiv 2404.07724). (0, 1) = everywhere."""
    deep_cache: Annotated[int | None, Range(1, MOST_CACHE)] = None
    """Compute the inner blocks in every N-th step only. For bundles that were exported for it. ``None`` = the model's
    own.

    In between their result is used again (DeepCache, arXiv 2312.00858). 1 = in every step. Bundles are exported for it
    with ``emo-rt export --deep-cache``."""
    speed: Annotated[float | None, Range(0, 3)] = None
    """Head speed. Speech 0.1–1.0, song 1.0–1.3, above 1.5 it jitters. Models with speed layers only. ``None`` = 0.5.

    Figures: paper, section 4.4."""
    motion_scale: Annotated[
        tuple[float, float, float] | None, Several(("pose", "face", "lips")), Range(0, 10), Outside(placeholder="P,F,L")
    ] = None
    """Weight of the sound on pose, face and lips. Hallo models only. ``None`` = 1,1,1.

    For models with hierarchical audio attention."""
    paste_back: bool | None = None
    """Put the animated square back into the whole picture. ``None`` = if the picture is larger."""
    max_audio_s: Annotated[
        float | None, Range(0, math.inf, "more than 0, or inf for any", is_open=True), Outside("max_audio", "SECONDS")
    ] = None
    """Longest sound that is accepted, in seconds. A longer one is an error. ``None`` = 14400, four hours.

    A stream has no limit by itself. A file that says of itself that it is longer is refused before it is decoded."""
    causal: bool | None = None
    """Make clip after clip as the sound comes, where the model makes a video at once from its whole sound. EchoMimic
    only. ``None`` = no; live sessions always do.

    The frames are others than those of the published scheme: :mod:`emo_rt.model.families.echomimic_stream`."""
    preset: Annotated[str | None, Outside("mode")] = None
    """Preset of the model, which sets solver, steps, guidance and caching where they are not given: quality, balanced,
    fast, realtime, or what else `emo-rt info` lists. ``None`` = the model's own, as a rule quality."""

    def __post_init__(self) -> None:
        check_options(self)

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


class AnimateChanges(TypedDict, total=False):
    """Fields of :class:`AnimateOptions` as single keywords, so that editors and type checkers know them."""

    seed: int
    steps: int | None
    solver: str | None
    guidance: float | None
    guidance_interval: tuple[float, float] | None
    deep_cache: int | None
    speed: float | None
    motion_scale: tuple[float, float, float] | None
    paste_back: bool | None
    max_audio_s: float | None
    causal: bool | None
    preset: str | None


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
    """Raise :class:`ConfigError` for a value out of its range in :class:`AnimateOptions`; ``None`` is none."""
    values = {"solver": solver, "steps": steps, "guidance": guidance, "deep_cache": deep_cache}
    for name, value in values.items():
        option_of(AnimateOptions, name).check(value)


def is_interval(value: object) -> bool:
    """Whether these are two numbers, 0 ≤ first < last ≤ 1."""
    return option_of(AnimateOptions, "guidance_interval").kind.has(value)
