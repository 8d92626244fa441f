"""What the caller asks for and what the model offers → what a run does, and which graph each of its steps takes."""

from __future__ import annotations

from emo_rt.checks import check
from emo_rt.errors import ConfigError
from emo_rt.model.bundle import Bundle
from emo_rt.model.families.base import Family
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.model.presets import Preset


def resolve(options: AnimateOptions, bundle: Bundle, family: Family) -> ResolvedOptions:
    """Fill in what is open, from the preset and from the family.

    Raises :class:`ConfigError` for a preset that the bundle does not have, an option that the family does not heed, and
    a value that the preset's variant does not serve.
    """
    family.check_heeds(options.given)
    name = bundle.default_preset if options.preset is None else options.preset
    check(name in bundle.presets, "preset", name, f"one of {', '.join(bundle.presets)}")
    preset = bundle.presets[name]
    solver = options.solver or preset.solver
    steps = preset.steps if options.steps is None else options.steps
    guidance = _guidance(options, preset, bundle)
    bundle.variants[preset.variant].check_serves(preset.variant, solver, steps, guidance)
    return ResolvedOptions(
        seed=options.seed,
        preset=name,
        variant=preset.variant,
        solver=solver,
        steps=steps,
        guidance=guidance,
        guidance_interval=options.guidance_interval or preset.guidance_interval,
        deep_cache=preset.deep_cache if options.deep_cache is None else options.deep_cache,
        constants=family.constants(options),
        paste_back=options.paste_back,
    )


def step_graphs(options: ResolvedOptions, bundle: Bundle) -> tuple[str, ...]:
    """Name of the step graph of each step. Raises :class:`ConfigError` where the bundle has none that serves."""
    guided = _guided_steps(options, bundle)
    names, age = list[str](), 0
    for step, one in enumerate(guided):
        age = age + 1 if step and one == guided[step - 1] and age + 1 < options.deep_cache else 0
        name = bundle.find("step", options.variant, guided=one, cached=age > 0)
        if name is None:
            raise ConfigError(
                f"deep_cache is {options.deep_cache}; this bundle has no graphs for it, use 1 or export it with "
                "--deep-cache 0"
            )
        names.append(name)
    return tuple(names)


def _guidance(options: AnimateOptions, preset: Preset, bundle: Bundle) -> float:
    if bundle.find("step", preset.variant, guided=True) is None:
        if options.guidance not in (None, 1.0):
            raise ConfigError(f"guidance is {options.guidance}; this bundle was exported without guidance, use 1")
        return 1.0
    offered = (options.guidance, preset.guidance, bundle.config.guidance)
    return next(scale for scale in offered if scale is not None)


def _guided_steps(options: ResolvedOptions, bundle: Bundle) -> tuple[bool, ...]:
    """Whether each step computes both halves."""
    has = {guided: bundle.find("step", options.variant, guided=guided) is not None for guided in (True, False)}
    if options.guidance == 1 or not has[True]:
        return (not has[False],) * options.steps
    guided = options.guided_steps()
    if not all(guided) and not has[False]:
        raise ConfigError(
            f"guidance_interval is {options.guidance_interval}; this bundle has only the graph with guidance, use "
            "(0, 1) or export it with --both"
        )
    return guided
