"""Shoulders and what covers them. They stay almost still while the head moves."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush
from training.world.geometry import Points, both_sides, ellipse, smooth
from training.world.identity import Identity
from training.world.paint import paint_cloth
from training.world.palettes import WHITE, light_of, luma, mix, shadow_of

_NECKS: dict[str, list[tuple[float, float]]] = {
    "crew": [(0, 1.86), (0.3, 1.82), (0.54, 1.66)],
    "vneck": [(0, 2.1), (0.28, 1.9), (0.56, 1.64)],
    "scoop": [(0, 2.06), (0.42, 1.96), (0.7, 1.7)],
    "turtleneck": [(0, 1.62), (0.3, 1.6), (0.5, 1.56)],
    "shirt": [(0, 1.9), (0.26, 1.8), (0.52, 1.62)],
    "hoodie": [(0, 1.9), (0.34, 1.84), (0.58, 1.64)],
    "blazer": [(0, 2.3), (0.28, 2.0), (0.6, 1.62)],
    "straps": [(0, 2.12), (0.5, 2.06), (0.72, 1.78)],
}


def draw_clothes(brush: Brush, identity: Identity) -> None:
    """The torso up to the neckline, its pattern and trim."""
    clothes = identity.clothes
    neck = smooth(both_sides(_NECKS[clothes.neckline]), closed=False)
    if clothes.neckline in {"blazer", "vneck"} and clothes.neckline == "blazer":
        _undershirt(brush, identity)
    torso = _torso(neck, clothes.shoulders, clothes.neckline == "straps")
    brush.fill(torso, clothes.main)
    with brush.clip(torso):
        _pattern(brush, identity)
        if identity.shading == "soft":
            paint_cloth(brush, identity)
        elif identity.shading == "cel":
            side = smooth([(0.5, 1.5), (0.95, 1.9), (0.8, 2.7), (2.6, 2.7), (2.6, 1.4)])
            brush.fill(side, shadow_of(clothes.main), 0.35)
    brush.outline(torso)
    _trim(brush, identity, neck)


def _torso(neck: Points, shoulders: float, bare: bool) -> Points:
    """Neckline, shoulders, and out of the picture: (N, 2)."""
    end = neck[-1]
    top = 1.93 if bare else 1.8
    right = smooth(
        [end, (end[0] + 0.3, end[1] + 0.13), (shoulders * 0.78, top + 0.06), (shoulders, 2.2), (shoulders + 0.16, 3.0)],
        False,
    )
    if bare:
        right = smooth(
            [
                end,
                (end[0] + 0.1, end[1] + 0.02),
                (end[0] + 0.16, 2.15),
                (shoulders * 0.72, 2.5),
                (shoulders * 0.72, 3.0),
            ],
            False,
        )
    return np.concatenate([right[::-1] * (-1, 1), neck[1:-1], right])


def _undershirt(brush: Brush, identity: Identity) -> None:
    accent = identity.clothes.accent
    shirt = smooth(both_sides([(0, 1.84), (0.3, 1.78), (0.6, 1.6)]), closed=False)
    brush.shape(np.concatenate([shirt, [(0.9, 2.6), (-0.9, 2.6)]]), accent if luma(accent) > 90 else WHITE)


def _pattern(brush: Brush, identity: Identity) -> None:
    pattern, accent = identity.clothes.pattern, identity.clothes.accent
    if pattern == "stripes":
        for y in np.arange(1.72, 2.6, 0.2):
            brush.line(smooth([(-2, y + 0.16), (0, y + 0.1), (2, y + 0.16)], closed=False), accent, 0.075)
    elif pattern == "dots":
        for row, y in enumerate(np.arange(1.7, 2.5, 0.17)):
            for x in np.arange(-1.9, 1.9, 0.3):
                brush.fill(ellipse(x + 0.15 * (row % 2), y, 0.042, 0.042, 10), accent)
    elif pattern == "block":
        brush.fill(np.array([(-2.5, 2.06), (2.5, 2.06), (2.5, 3), (-2.5, 3)]), accent)
    elif pattern == "checks":
        for x in np.arange(-2, 2.1, 0.32):
            brush.line(np.array([(x, 1.4), (x, 2.8)]), accent, 0.07, alpha=0.4)
        for y in np.arange(1.6, 2.5, 0.3):
            brush.line(np.array([(-2, y), (2, y)]), accent, 0.07, alpha=0.4)


def _trim(brush: Brush, identity: Identity, neck: Points) -> None:
    clothes = identity.clothes
    dark, kind = shadow_of(clothes.main), clothes.neckline
    if kind in {"crew", "scoop", "vneck"}:
        brush.line(neck, dark if clothes.pattern != "block" else clothes.accent, 0.075)
    elif kind == "turtleneck":
        roll = smooth([(-0.5, 1.52), (0, 1.6), (0.5, 1.52), (0.54, 1.74), (0, 1.86), (-0.54, 1.74)], steps=4)
        brush.shape(roll, mix(clothes.main, dark, 0.45))
    elif kind == "shirt":
        for side in (-1, 1):
            wing = np.array([(0.0, 1.88), (0.3, 1.7), (0.52, 1.54), (0.66, 1.72), (0.36, 2.08)]) * (side, 1)
            brush.shape(wing, light_of(clothes.main))
            brush.outline(wing)
        brush.line(np.array([(0, 1.9), (0, 2.6)]), dark, 0.026)
        brush.fill(ellipse(0.0, 2.12, 0.04, 0.04, 10), shadow_of(dark))
    elif kind == "hoodie":
        for side in (-1, 1):
            hood = smooth(
                np.array([(0.0, 1.98), (0.4, 1.84), (0.56, 1.5), (0.86, 1.58), (0.88, 1.86), (0.42, 2.12)]) * (side, 1)
            )
            brush.shape(hood, dark)
            cord = np.array([(0.2, 2.03), (0.24, 2.42)]) * (side, 1)
            brush.line(cord, clothes.accent, 0.045)
    elif kind == "blazer":
        for side in (-1, 1):
            lapel = np.array(
                [(0.0, 2.32), (0.26, 2.0), (0.56, 1.6), (0.86, 1.82), (0.66, 2.0), (0.78, 2.1), (0.2, 2.6)]
            ) * (side, 1)
            brush.shape(lapel, mix(clothes.main, dark, 0.75))
            brush.line(lapel, shadow_of(dark), 0.02, closed=True)
