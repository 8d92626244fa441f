"""What stands behind the person and never moves."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush, argb, linear, radial
from training.world.geometry import Points, ellipse, smooth
from training.world.identity import Backdrop
from training.world.paint import paint_backdrop

_EDGE = 2.6
_ALL: Points = np.array([(-_EDGE, -_EDGE), (_EDGE, -_EDGE), (_EDGE, _EDGE), (-_EDGE, _EDGE)])


def draw_backdrop(brush: Brush, backdrop: Backdrop, painted: bool = False) -> None:
    """Fill the whole picture; `painted` with strokes of a brush."""
    rng = np.random.default_rng(backdrop.seed)
    main, accent = backdrop.main, backdrop.accent
    brush.fill(_ALL, main)
    if backdrop.style == "vertical":
        brush.fill(_ALL, main, shader=linear((0, -2.2), (0.4, 2.4), [argb(main), argb(accent)]))
    elif backdrop.style == "glow":
        brush.fill(_ALL, main, shader=radial((-0.4, -0.5), 3.0, [argb(accent), argb(main)]))
    elif backdrop.style == "disc":
        brush.fill(ellipse(0, 0.15, 1.78, 1.78, 56), accent)
    elif backdrop.style == "diagonal":
        brush.fill(np.array([(-_EDGE, _EDGE), (_EDGE, -_EDGE), (_EDGE, _EDGE)]), accent)
    elif backdrop.style == "arch":
        brush.fill(np.concatenate([ellipse(0, -0.1, 1.62, 1.75, 56), [(1.62, 3), (-1.62, 3)]])[:29], accent)
        brush.fill(np.array([(-1.62, -0.1), (1.62, -0.1), (1.62, 3), (-1.62, 3)]), accent)
        brush.fill(ellipse(0, -0.1, 1.62, 1.75, 56), accent)
    else:
        _scattered(brush, backdrop, rng)
    if painted:
        paint_backdrop(brush, backdrop, _EDGE)


def _scattered(brush: Brush, backdrop: Backdrop, rng: np.random.Generator) -> None:
    accent = backdrop.accent
    if backdrop.style == "hills":
        for base, alpha in ((0.2, 0.55), (0.9, 1.0)):
            heights = base + rng.uniform(-0.3, 0.3, 6)
            ridge = smooth(np.stack([np.linspace(-3, 3, 6), heights], axis=1), closed=False)
            brush.fill(np.concatenate([ridge, [(3, 3), (-3, 3)]]), accent, alpha)
    elif backdrop.style == "rays":
        for angle in np.arange(12) * np.pi / 6 + float(rng.uniform(0, 0.5)):
            tips = [(np.cos(angle + side) * 5, np.sin(angle + side) * 5) for side in (-0.13, 0.13)]
            brush.fill(np.array([(0, 0.1), *tips]), accent)
    elif backdrop.style == "confetti":
        for _ in range(16):
            x, y, radius = rng.uniform(-2.1, 2.1), rng.uniform(-2.1, 2.1), rng.uniform(0.05, 0.16)
            brush.fill(ellipse(float(x), float(y), float(radius), float(radius), 18), accent)
