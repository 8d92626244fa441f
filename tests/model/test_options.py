"""What a run can be asked for."""

from __future__ import annotations

import itertools

import pytest

from emo_rt import AnimateOptions, ConfigError
from emo_rt.model.options import MODES


def cost(options: AnimateOptions) -> float:
    """Halves that are computed."""
    return sum(1 + guided for guided in options.guided_steps())


def test_modes_come_from_slow_to_fast() -> None:
    modes = [AnimateOptions.mode(name) for name in MODES]
    assert all(cost(slow) > cost(fast) for slow, fast in itertools.pairwise(modes))


def test_quality_is_the_default_and_what_the_paper_does() -> None:
    assert AnimateOptions.mode("quality") == AnimateOptions() == AnimateOptions(solver="ddim", steps=40)


def test_a_mode_with_changes() -> None:
    changed = AnimateOptions.mode("fast", seed=7, steps=3)
    assert (changed.seed, changed.steps, changed.solver) == (7, 3, MODES["fast"]["solver"])


def test_a_mode_that_is_none() -> None:
    with pytest.raises(ConfigError, match="mode is 'best'; expected one of quality, balanced, fast, realtime"):
        AnimateOptions.mode("best")


@pytest.mark.parametrize(
    ("interval", "steps", "guided"),
    [((0, 1), 3, "ggg"), ((0.2, 0.8), 5, ".ggg."), ((0, 0.5), 4, "gg.."), ((0.9, 1), 2, ".."), ((0.5, 1), 1, "g")],
)
def test_a_step_is_guided_when_its_middle_is(interval: tuple[float, float], steps: int, guided: str) -> None:
    options = AnimateOptions(steps=steps, guidance_interval=interval)
    assert "".join("g" if one else "." for one in options.guided_steps()) == guided
