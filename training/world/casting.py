"""Draws the traits of a person from a seed: one function per part of the person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from training.world import palettes
from training.world.hair import HAIR_STYLES
from training.world.identity import (
    BACKDROP_STYLES,
    BEARD_STYLES,
    BROW_STYLES,
    EYE_STYLES,
    GLASSES_STYLES,
    NECKLINES,
    NOSE_STYLES,
    PATTERNS,
    STYLES,
    Backdrop,
    Brows,
    Clothes,
    Extras,
    Eyes,
    FaceShape,
    Hair,
    Identity,
    Mouth,
    Nose,
)
from training.world.palettes import INK, WHITE, Color, distance, luma, mix, shadow_of, tune
from training.world.styles import in_style

Split = Literal["train", "test"]
TRAIN_IDENTITIES = 1_000_000
"""Seeds below this are people to train on; those from here on are kept for tests."""

_LONG_HAIR = {
    "bob",
    "bob_fringe",
    "long",
    "long_fringe",
    "wavy",
    "long_curly",
    "pigtails",
    "braids",
    "ponytail",
    "low_bun",
}
_AROUND_MOUTH = {"full", "long", "goatee"}
_T = TypeVar("_T")


def identity_seed(index: int, split: Split) -> int:
    """The seed of a split's `index`-th person."""
    if split == "train":
        return index % TRAIN_IDENTITIES
    return TRAIN_IDENTITIES + index % TRAIN_IDENTITIES


def cast(seed: int, style: str | None = None) -> Identity:
    """Sample a whole person. Raises `ValueError` for a style that does not exist."""
    rng = np.random.default_rng([0x1DE7, seed])
    skin = _skin(rng)
    femme = float(rng.random())
    hair = _hair(rng, femme, skin)
    face = _face(rng, femme)
    extras = _extras(rng, femme, hair, skin)
    clothes = _clothes(rng, skin)
    own_style = _pick(rng, STYLES, (0.32, 0.22, 0.3, 0.16))
    person = Identity(
        seed=seed,
        skin=skin,
        face=face,
        eyes=_eyes(rng, femme, skin),
        brows=_brows(rng, femme, hair, skin),
        nose=Nose(_pick(rng, NOSE_STYLES), float(rng.uniform(0.85, 1.2)), float(rng.uniform(0.33, 0.4))),
        mouth=_mouth(rng, femme, skin, extras.beard_color if extras.beard in _AROUND_MOUTH else None),
        hair=hair,
        extras=extras,
        clothes=clothes,
        backdrop=_backdrop(rng, (skin, hair.color, clothes.main, hair.cover)),
    )
    return in_style(person, style or own_style, rng)


def _pick(rng: np.random.Generator, options: Sequence[_T], weights: Sequence[float] | None = None) -> _T:
    shares = None if weights is None else np.asarray(weights) / np.sum(weights)
    return options[int(rng.choice(len(options), p=shares))]


def _jitter(rng: np.random.Generator, color: Color, hue: float, amount: float) -> Color:
    return tune(
        color, float(rng.normal(0, hue)), 1 + float(rng.normal(0, amount)), 1 + float(rng.normal(0, amount)) * 0.6
    )


def _skin(rng: np.random.Generator) -> Color:
    skin = _jitter(rng, _pick(rng, palettes.SKINS), 0.005, 0.05)
    return mix(skin, palettes.rgb("F4C9A8"), 0.35) if luma(skin) > 222 else skin


def _face(rng: np.random.Generator, femme: float) -> FaceShape:
    return FaceShape(
        width=float(rng.uniform(0.93, 1.03)),
        cheek=float(rng.uniform(0.93, 1.0)),
        jaw=float(rng.uniform(0.7, 0.86) - 0.05 * femme),
        chin_width=float(rng.uniform(0.3, 0.46) - 0.06 * femme),
        chin_y=float(rng.uniform(1.1, 1.24)),
        eye_y=float(rng.uniform(0.02, 0.1)),
        mouth_y=float(rng.uniform(0.66, 0.72)),
        scale=float(rng.uniform(0.95, 1.05)),
    )


def _eyes(rng: np.random.Generator, femme: float, skin: Color) -> Eyes:
    style = _pick(rng, EYE_STYLES, (0.3, 0.3, 0.14, 0.16, 0.1 if luma(skin) > 120 else 0.0))
    width = {"round": 0.195, "almond": 0.225, "hooded": 0.215, "wide": 0.225, "dot": 0.095}[style]
    ratio = {"round": 0.92, "almond": 0.64, "hooded": 0.66, "wide": 0.9, "dot": 1.25}[style]
    width *= float(rng.uniform(0.94, 1.12))
    height = width * ratio * float(rng.uniform(0.94, 1.06))
    return Eyes(
        style=style,
        spacing=float(rng.uniform(0.41, 0.46)),
        width=width,
        height=height,
        tilt=float(rng.uniform(-0.05, 0.14)),
        iris=_jitter(rng, _pick(rng, palettes.IRISES), 0.02, 0.08),
        iris_size=min(height * float(rng.uniform(0.74, 0.86)), 0.155),
        lashes=float(np.clip(femme * 1.1 - rng.uniform(0, 0.5), 0, 1)),
        lid=float(rng.uniform(0.16, 0.28)) if style == "hooded" else float(rng.uniform(0.0, 0.12)),
    )


def _brows(rng: np.random.Generator, femme: float, hair: Hair, skin: Color) -> Brows:
    color = hair.color if luma(hair.color) < 170 else mix(hair.color, palettes.rgb("7A5A3A"), 0.5)
    color = mix(color, INK, 0.25)
    while distance(color, skin) < 90:
        color = mix(color, (20, 14, 16), 0.3)
    style = _pick(rng, BROW_STYLES)
    thickness = {"soft": 0.06, "thick": 0.085, "thin": 0.038, "straight": 0.06, "arched": 0.052}[style]
    return Brows(
        style=style,
        color=color,
        thickness=thickness * (1.12 - 0.3 * femme),
        arch={"straight": 0.012, "arched": 0.075}.get(style, 0.06),
        tilt=float(rng.uniform(-0.06, 0.02)),
        height=float(rng.uniform(0.26, 0.33)),
    )


def _mouth(rng: np.random.Generator, femme: float, skin: Color, beard: Color | None) -> Mouth:
    painted = rng.random() < 0.35 * femme
    wanted = _pick(rng, palettes.LIPS if painted else (mix(skin, (190, 70, 80), 0.5), *palettes.LIPS[:4]))
    return Mouth(
        width=float(rng.uniform(0.34, 0.42)),
        upper=float(rng.uniform(0.05, 0.09)),
        lower=float(rng.uniform(0.08, 0.13)),
        bow=float(rng.uniform(0.1, 0.9)),
        lips=palettes.lips_for(skin, wanted, beard),
        inside=_pick(rng, ((64, 14, 26), (74, 18, 32), (52, 12, 24), (84, 24, 34))),
        tongue=_pick(rng, ((214, 96, 104), (200, 84, 96), (224, 112, 112))),
        gap_teeth=bool(rng.random() < 0.06),
    )


def _hair(rng: np.random.Generator, femme: float, skin: Color) -> Hair:
    names = tuple(HAIR_STYLES)
    weights = [HAIR_STYLES[name].share(femme) for name in names]
    style = _pick(rng, names, weights)
    dark = luma(skin) < 150 and rng.random() < 0.8
    natural = palettes.NATURAL_HAIR[:6] if dark else palettes.NATURAL_HAIR
    dyed = bool(rng.random() < 0.1)
    color = _pick(rng, palettes.DYED_HAIR if dyed else natural)
    color = _jitter(rng, color, 0.008, 0.06)
    if distance(color, skin) < 80:
        color = mix(color, palettes.rgb("2A1E1E") if luma(skin) > 100 else palettes.rgb("0E0A0C"), 0.6)
    return Hair(
        style=style,
        color=color,
        dyed=dyed,
        cover=_pick(rng, tuple(c for c in palettes.CLOTHES if distance(c, skin) > 110)),
        volume=float(rng.uniform(0.85, 1.2)),
        side=1 if rng.random() < 0.5 else -1,
        strands=bool(rng.random() < 0.6),
        band=bool(rng.random() < 0.12 and style in _LONG_HAIR),
    )


def _extras(rng: np.random.Generator, femme: float, hair: Hair, skin: Color) -> Extras:
    bearded = femme < 0.45 and HAIR_STYLES[hair.style].masc >= 0.2 and rng.random() < 0.62
    natural = palettes.rgb("3A2A26") if hair.dyed else hair.color
    beard_color = mix(natural, INK, 0.15 if distance(natural, skin) > 70 else 0.55)
    glasses = rng.random() < 0.24
    earring = (
        _pick(rng, (palettes.rgb("E9C46A"), WHITE, palettes.rgb("D62839"))) if rng.random() < 0.4 * femme else None
    )
    return Extras(
        beard=_pick(rng, BEARD_STYLES[1:]) if bearded else "none",
        beard_color=beard_color,
        glasses=_pick(rng, GLASSES_STYLES[1:]) if glasses else "none",
        glasses_color=_pick(rng, tuple(c for c in palettes.FRAMES if distance(c, skin) > 90)),
        tint=float(rng.uniform(0.05, 0.16)),
        freckles=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.18 and luma(skin) > 100 else 0.0,
        blush=float(rng.uniform(0.15, 0.8)) * (0.4 + 0.6 * femme),
        mole=bool(rng.random() < 0.08),
        ear_size=float(rng.uniform(0.85, 1.15)),
        earring=earring,
        mark_seed=int(rng.integers(1 << 30)),
    )


def _clothes(rng: np.random.Generator, skin: Color) -> Clothes:
    usable = tuple(c for c in palettes.CLOTHES if distance(c, skin) > 90)
    main = _pick(rng, usable)
    accent = _pick(rng, tuple(c for c in palettes.CLOTHES if distance(c, main) > 110 and c != main))
    neckline = _pick(rng, NECKLINES, (0.2, 0.12, 0.1, 0.1, 0.16, 0.14, 0.12, 0.06))
    plain = neckline in {"blazer", "hoodie"}
    return Clothes(
        neckline=neckline,
        pattern="plain" if plain else _pick(rng, PATTERNS, (0.5, 0.18, 0.12, 0.12, 0.08)),
        main=main,
        accent=accent,
        shoulders=float(rng.uniform(1.6, 1.9)),
    )


def _backdrop(rng: np.random.Generator, against: tuple[Color, ...]) -> Backdrop:
    score = [min(distance(color, other) for other in against[:2]) for color in palettes.BACKDROPS]
    usable = tuple(c for c, s in zip(palettes.BACKDROPS, score, strict=True) if s > 75)
    main = _pick(rng, usable or (palettes.BACKDROPS[int(np.argmax(score))],))
    accent = _pick(rng, palettes.BACKDROPS)
    accent = mix(main, accent, 0.45)
    if distance(accent, main) < 25:
        accent = mix(main, WHITE if luma(main) < 200 else shadow_of(main), 0.4)
    return Backdrop(_pick(rng, BACKDROP_STYLES), main, accent, int(rng.integers(1 << 30)))
