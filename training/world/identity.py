"""Who is drawn: every lasting trait of one drawn person, sampled from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from training.world import palettes
from training.world.geometry import (
    CHIN_DEPTH,
    RIM_DEPTH,
    SKULL_CENTRE_Y,
    SKULL_HEIGHT,
    Points,
    both_sides,
    smooth,
)
from training.world.palettes import INK, Color

if TYPE_CHECKING:
    from training.world.casting import Split

STYLES = ("comic", "flat", "painted", "line")
"""How a person may be drawn: ink and two tones; shapes without lines; light and shade; pen on paper."""
KEPT_OUT = "print"
"""A style that no training sees: two inks on coloured paper."""
SHADINGS = ("flat", "soft", "cel")
EYE_STYLES = ("round", "almond", "hooded", "wide", "dot")
BROW_STYLES = ("soft", "thick", "thin", "straight", "arched")
NOSE_STYLES = ("button", "side", "nostrils", "wedge", "bridge")
BEARD_STYLES = ("none", "stubble", "moustache", "handlebar", "goatee", "full", "long", "chinstrap")
GLASSES_STYLES = ("none", "round", "square", "cat", "half")
NECKLINES = ("crew", "vneck", "scoop", "turtleneck", "shirt", "hoodie", "blazer", "straps")
PATTERNS = ("plain", "stripes", "dots", "block", "checks")
BACKDROP_STYLES = ("flat", "vertical", "glow", "disc", "hills", "rays", "confetti", "arch", "diagonal")


@dataclass(frozen=True, slots=True)
class FaceShape:
    """Proportions of the head, in half head widths."""

    width: float = 1.0
    """Half width at the temples, 0.92 to 1.04."""
    cheek: float = 0.97
    """Half width below the eyes, as a share of `width`."""
    jaw: float = 0.76
    """Half width of the jaw, as a share of `width`."""
    chin_width: float = 0.36
    """Half width of the chin."""
    chin_y: float = 1.15
    """Where the chin ends."""
    eye_y: float = 0.06
    mouth_y: float = 0.68
    scale: float = 1.0
    """Size of the head on the stage, 0.94 to 1.06."""

    def outline(self, jaw_drop: float = 0.0) -> Points:
        """The head from the top clockwise, chin at the middle: (64, 2)."""
        angle = np.deg2rad([24.0, 48.0, 72.0, 95.0])
        skull = np.stack([np.sin(angle) * self.width, SKULL_CENTRE_Y - np.cos(angle) * SKULL_HEIGHT], axis=1)
        low = [
            (self.cheek * self.width, 0.42),
            (self.jaw * self.width, 0.8),
            (self.chin_width, self.chin_y - 0.08),
        ]
        right = np.concatenate([skull, np.array(low)])
        left = right[::-1] * (-1, 1)
        control = np.concatenate([[(0.0, SKULL_CENTRE_Y - SKULL_HEIGHT)], right, [(0.0, self.chin_y)], left])
        control[:, 1] += jaw_drop * np.clip((control[:, 1] - 0.4) / 0.7, 0, 1)
        return smooth(control, steps=4)

    def outline_depth(self) -> Points:
        """How far each point of the outline stands out: (64,)."""
        share = np.clip((self.outline()[:, 1] - 0.1) / 1.0, 0, 1)
        return RIM_DEPTH + (CHIN_DEPTH - RIM_DEPTH) * share * share * (3 - 2 * share)

    def jaw_line(self, top: float) -> Points:
        """The lower part of the outline below `top`, from the left to the right: (N, 2)."""
        outline = self.outline()
        right = outline[: len(outline) // 2 + 1]
        return both_sides(right[right[:, 1] >= top][::-1])


@dataclass(frozen=True, slots=True)
class Eyes:
    """Both eyes; sizes in half head widths."""

    style: str = "almond"
    spacing: float = 0.42
    """From the middle of the face to the middle of one eye."""
    width: float = 0.19
    height: float = 0.13
    tilt: float = 0.0
    """Outer corners up, radians."""
    iris: Color = (90, 60, 40)
    iris_size: float = 0.11
    lashes: float = 0.3
    """0 none, 1 long."""
    lid: float = 0.0
    """How much of the eye the lid covers at rest, 0 to 0.3."""


@dataclass(frozen=True, slots=True)
class Brows:
    """Both brows."""

    style: str = "soft"
    color: Color = INK
    thickness: float = 0.06
    arch: float = 0.06
    tilt: float = 0.0
    height: float = 0.3
    """Above the eyes."""


@dataclass(frozen=True, slots=True)
class Nose:
    """One nose."""

    style: str = "button"
    size: float = 1.0
    y: float = 0.36


@dataclass(frozen=True, slots=True)
class Mouth:
    """A mouth at rest; lengths in half head widths."""

    width: float = 0.33
    """Half width."""
    upper: float = 0.06
    lower: float = 0.085
    bow: float = 0.5
    """Cupid's bow, 0 flat to 1 deep."""
    lips: Color = (200, 90, 90)
    inside: Color = (72, 18, 30)
    tongue: Color = (206, 92, 100)
    gap_teeth: bool = False


@dataclass(frozen=True, slots=True)
class Hair:
    """Hair or what covers it."""

    style: str = "crop"
    color: Color = (60, 40, 30)
    dyed: bool = False
    cover: Color = (180, 80, 70)
    """Colour of a hat or a scarf, or of a hair band."""
    volume: float = 1.0
    side: int = 1
    """Parting: 1 or -1."""
    strands: bool = True
    band: bool = False


@dataclass(frozen=True, slots=True)
class Extras:
    """What else makes a face: beard, glasses, skin marks, ears."""

    beard: str = "none"
    beard_color: Color = INK
    glasses: str = "none"
    glasses_color: Color = INK
    tint: float = 0.0
    freckles: float = 0.0
    blush: float = 0.3
    mole: bool = False
    ear_size: float = 1.0
    earring: Color | None = None
    mark_seed: int = 0


@dataclass(frozen=True, slots=True)
class Clothes:
    """What covers the shoulders."""

    neckline: str = "crew"
    pattern: str = "plain"
    main: Color = (60, 90, 130)
    accent: Color = (240, 220, 190)
    shoulders: float = 1.75
    """Half width, in half head widths."""


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What stands still behind the person."""

    style: str = "flat"
    main: Color = (230, 225, 215)
    accent: Color = (200, 215, 220)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """One drawn person. Equal seeds give equal people, on every machine."""

    seed: int = 0
    style: str = "painted"
    """One of `STYLES`, or `KEPT_OUT`."""
    skin: Color = (240, 190, 150)
    shading: str = "soft"
    ink: Color = INK
    ink_width: float = 0.0
    """Outline width in half head widths; 0 for none."""
    face: FaceShape = field(default_factory=FaceShape)
    eyes: Eyes = field(default_factory=Eyes)
    brows: Brows = field(default_factory=Brows)
    nose: Nose = field(default_factory=Nose)
    mouth: Mouth = field(default_factory=Mouth)
    hair: Hair = field(default_factory=Hair)
    extras: Extras = field(default_factory=Extras)
    clothes: Clothes = field(default_factory=Clothes)
    backdrop: Backdrop = field(default_factory=Backdrop)

    @property
    def shade(self) -> Color:
        """The skin in shadow."""
        return palettes.shadow_of(self.skin)

    @property
    def light(self) -> Color:
        """The skin in light."""
        return palettes.light_of(self.skin)

    @staticmethod
    def sample(seed: int, style: str | None = None) -> Identity:
        """The person of this seed, in a style of the seed's own or in one of `STYLES` and `KEPT_OUT`."""
        from training.world.casting import cast

        return cast(seed, style)

    @staticmethod
    def sample_split(index: int, split: Split, style: str | None = None) -> Identity:
        """The `index`-th person of a split; no person is in both, and `KEPT_OUT` is in the test split only."""
        from training.world.casting import cast, identity_seed

        if style == KEPT_OUT and split == "train":
            raise ValueError(f"the style {KEPT_OUT!r} is kept out of training: ask for it with split='test'")
        return cast(identity_seed(index, split), style)
