"""What a run can be asked for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from emo_rt import AnimateOptions, Animator, Bundle, ConfigError
from emo_rt.model.families.registry import family_of
from emo_rt.model.options import ResolvedOptions
from emo_rt.model.presets import STANDARD_PRESETS, Preset, Variant
from emo_rt.model.resolve import resolve


def resolved(bundle: Bundle, **options: Any) -> ResolvedOptions:
    return resolve(AnimateOptions(**options), bundle, family_of(bundle.config))


def cost(options: ResolvedOptions) -> float:
    """Halves that are computed."""
    return sum(1 + guided for guided in options.guided_steps())


def test_standard_presets_come_from_slow_to_fast(tiny_bundle: Bundle) -> None:
    presets = [resolved(tiny_bundle, preset=name) for name in STANDARD_PRESETS]
    assert all(cost(slow) > cost(fast) for slow, fast in itertools.pairwise(presets))


@pytest.mark.parametrize("name", STANDARD_PRESETS)
def test_a_ladder_goes_down(tiny_bundle: Bundle, name: str) -> None:
    steps = [tiny_bundle.presets[one] for one in (name, *tiny_bundle.presets[name].ladder)]
    assert all(slow.steps > fast.steps for slow, fast in itertools.pairwise(steps))


def test_the_default_is_what_the_paper_does(tiny_bundle: Bundle) -> None:
    found = resolved(tiny_bundle)
    assert (found.preset, found.solver, found.steps, found.guidance) == ("quality", "ddim", 40, 3.5)
    assert (found.guidance_interval, found.deep_cache, found.seed) == ((0.0, 1.0), 1, 0)
    assert found.constants == {"speed": 0.5}


def test_what_the_caller_sets_goes_before_the_preset(tiny_bundle: Bundle) -> None:
    found = resolved(tiny_bundle, preset="fast", seed=7, steps=3, guidance=2.0, speed=1.0)
    assert (found.seed, found.steps, found.solver, found.guidance) == (7, 3, "unipc", 2.0)
    assert found.constants == {"speed": 1.0}


def test_a_caller_can_go_back_to_what_a_preset_changed(tiny_bundle: Bundle) -> None:
    found = resolved(tiny_bundle, preset="realtime", solver="ddim", steps=40)
    assert (found.solver, found.steps) == ("ddim", 40)


def test_options_that_are_left_open_are_none() -> None:
    assert AnimateOptions().given == {"seed": 0}
    assert AnimateOptions(speed=0.5).given == {"seed": 0, "speed": 0.5}


def test_modes_are_presets() -> None:
    assert AnimateOptions.mode("fast", seed=7) == AnimateOptions(preset="fast", seed=7)


def test_a_preset_that_the_model_does_not_have(tiny_animator: Animator) -> None:
    with pytest.raises(ConfigError, match="preset is 'best'; expected one of quality, balanced, fast, realtime"):
        tiny_animator.resolve(preset="best")


def test_steps_that_the_schedule_has_not_are_refused_at_once(tiny_animator: Animator) -> None:
    """``leading`` spacing starts one timestep late, so that 1000 of 1000 do not fit."""
    assert tiny_animator.resolve(solver="ddim", steps=999).steps == 999
    with pytest.raises(ConfigError, match="steps"):
        tiny_animator.resolve(solver="ddim", steps=1000)


@pytest.mark.parametrize(
    ("interval", "steps", "guided"),
    [((0, 1), 3, "ggg"), ((0.2, 0.8), 5, ".ggg."), ((0, 0.5), 4, "gg.."), ((0.9, 1), 2, ".."), ((0.5, 1), 1, "g")],
)
def test_a_step_is_guided_when_its_middle_is(
    tiny_bundle: Bundle, interval: tuple[float, float], steps: int, guided: str
) -> None:
    options = resolved(tiny_bundle, steps=steps, guidance_interval=interval)
    assert "".join("g" if one else "." for one in options.guided_steps()) == guided


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 2}, r"steps is 2; expected 1: the variant 'distilled' of this model"),
        ({"solver": "ddim"}, "solver is 'ddim'; expected one of euler: the variant 'distilled'"),
        ({"guidance": 2.0}, r"guidance is 2\.0; expected 1: the variant 'distilled'"),
    ],
)
def test_a_variant_refuses_what_it_was_not_made_for(setting: dict[str, Any], message: str) -> None:
    variant = Variant(solvers=("euler",), steps=(1, 1), guidance=(1, 1))
    asked = {"solver": "euler", "steps": 1, "guidance": 1.0, **setting}
    variant.check_serves("distilled", "euler", 1, 1.0)
    with pytest.raises(ConfigError, match=message):
        variant.check_serves("distilled", **asked)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Variant, {"solvers": ("newton",)}, "variant.solvers"),
        (Variant, {"solvers": ()}, "variant.solvers"),
        (Variant, {"steps": (5, 1)}, "variant.steps"),
        (Variant, {"steps": (1,)}, "variant.steps"),
        (Variant, {"guidance": (0, 51)}, "variant.guidance"),
        (Preset, {"steps": 0}, "steps is 0"),
        (Preset, {"solver": "newton"}, "solver is 'newton'"),
        (Preset, {"guidance_interval": (1, 0)}, "guidance_interval"),
    ],
)
def test_offers_out_of_range_are_named(kind: type, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**wrong)
