"""The styles people are drawn in: what each makes of a person's colours, ink and shading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.world.identity import KEPT_OUT, Backdrop, Identity
from training.world.palettes import INK, WHITE, Color, luma, mix, rgb, shadow_of

_PAPERS = tuple(rgb(code) for code in ("FBF7EE", "F6F1E4", "F4F4F1", "FAF3E8"))
_SPOTS = tuple(rgb(code) for code in ("E4572E", "2E86AB", "E9B44C", "2A9D8F", "B5446E", "6D597A"))
_BLACKS = tuple(rgb(code) for code in ("1E1A1F", "22283A", "3A2420", "1E2E2C"))
_PRINTS = (
    ("1B2A49", "E4572E", "FBEFC9"),
    ("2B1A33", "2E9C8F", "F9E2D2"),
    ("14342B", "E9A23B", "F7EDE2"),
    ("3B1C32", "D9577A", "DDF0EC"),
    ("0F2F4B", "7FA9D9", "FDF2DC"),
)
"""Dark ink, light ink and paper of the style that is kept out of training."""


def in_style(person: Identity, style: str, rng: np.random.Generator) -> Identity:
    """The same person in a style of `identity.STYLES` or in `identity.KEPT_OUT`. Raises `ValueError` for another."""
    if style not in _STYLES:
        raise ValueError(f"no style {style!r}; there are {', '.join(_STYLES)}")
    return _STYLES[style](replace(person, style=style), rng)


def _comic(person: Identity, rng: np.random.Generator) -> Identity:
    dark = (INK, mix(shadow_of(shadow_of(person.skin)), INK, 0.55), rgb("3A2A26"))
    ink = dark[int(rng.integers(len(dark)))]
    return replace(person, shading="cel", ink=ink, ink_width=float(rng.uniform(0.024, 0.05)))


def _flat(person: Identity, rng: np.random.Generator) -> Identity:
    return replace(person, shading="flat", ink_width=0.0)


def _painted(person: Identity, rng: np.random.Generator) -> Identity:
    return replace(person, shading="soft", ink_width=0.0)


def _line(person: Identity, rng: np.random.Generator) -> Identity:
    """Pen on paper with one spot colour: hair is ink or paper, skin a light wash."""
    paper, spot, black = (palette[int(rng.integers(len(palette)))] for palette in (_PAPERS, _SPOTS, _BLACKS))
    wash = mix(paper, mix(person.skin, WHITE, 0.15), 0.3)
    dark_hair = luma(person.hair.color) < 120
    hair = mix(black, person.hair.color, 0.15) if dark_hair else mix(paper, person.hair.color, 0.18)
    return replace(
        person,
        shading="flat",
        skin=wash,
        ink=black,
        ink_width=float(rng.uniform(0.03, 0.05)),
        eyes=replace(person.eyes, iris=mix(black, person.eyes.iris, 0.35)),
        brows=replace(person.brows, color=black),
        mouth=replace(person.mouth, lips=rgb("C8473C"), inside=mix(black, (60, 10, 20), 0.5)),
        hair=replace(person.hair, color=hair, cover=spot),
        extras=replace(
            person.extras,
            beard_color=mix(black, hair, 0.3) if dark_hair else mix(hair, black, 0.25),
            glasses_color=black,
            blush=0.2,
        ),
        clothes=replace(person.clothes, main=_wear(paper, spot, black, rng), accent=mix(paper, black, 0.12)),
        backdrop=Backdrop("flat" if rng.random() < 0.5 else "disc", paper, mix(paper, spot, 0.35)),
    )


def _wear(paper: Color, spot: Color, black: Color, rng: np.random.Generator) -> Color:
    return (mix(paper, spot, 0.85), mix(paper, WHITE, 0.5), black)[int(rng.integers(3))]


def _print(person: Identity, rng: np.random.Generator) -> Identity:
    """Two inks on paper: `renderer` maps the lightness of a comic onto `print_inks`."""
    return replace(person, shading="cel", ink=(20, 16, 24), ink_width=0.045)


def print_inks(person: Identity) -> tuple[Color, Color, Color]:
    """Dark ink, light ink and paper of a printed person."""
    dark, light, paper = _PRINTS[person.seed % len(_PRINTS)]
    return rgb(dark), rgb(light), rgb(paper)


_STYLES: dict[str, Callable[[Identity, np.random.Generator], Identity]] = {
    "comic": _comic,
    "flat": _flat,
    "painted": _painted,
    "line": _line,
    KEPT_OUT: _print,
}
