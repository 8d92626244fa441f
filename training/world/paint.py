"""Light and shade of the painted style: soft spots on the face, brush strokes behind it."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush, argb, linear
from training.world.geometry import HeadFrame, smooth
from training.world.identity import Backdrop, Identity
from training.world.palettes import light_of, mix, shadow_of

_SPOTS: tuple[tuple[float, float, float, float, str, float], ...] = (
    (-0.28, -0.42, 0.5, 0.34, "light", 0.55),
    (-0.5, 0.34, 0.26, 0.2, "light", 0.4),
    (0.66, 0.3, 0.34, 0.62, "deep", 0.34),
    (0.0, -0.06, 0.2, 0.16, "shade", 0.3),
)
"""x, y, half width, half height, tone and strength of spots that lie on every face."""


def paint_face(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Forehead and cheek in light from the upper left, sockets, nose and chin in relief. Clip to the outline first."""
    tones = {"light": light_of(identity.light), "shade": identity.shade, "deep": shadow_of(identity.shade)}
    eyes, nose = identity.eyes, identity.nose
    spots = [*_SPOTS]
    for side, strength in ((-1, 0.42), (1, 0.55)):
        spots.append((side * eyes.spacing, identity.face.eye_y - 0.08, 0.32, 0.24, "shade", strength))
    low = identity.face.mouth_y + identity.mouth.lower + 0.11 + 0.45 * frame.pose.lip_gap
    spots += [
        (0.1, nose.y - 0.1, 0.13, 0.24, "shade", 0.7),
        (0.02, nose.y + 0.1, 0.17, 0.07, "deep", 0.5),
        (0.0, low, 0.2, 0.07, "shade", 0.7),
        (-0.05, low + 0.14, 0.17, 0.1, "light", 0.5),
    ]
    turn = float(np.rad2deg(frame.pose.roll))
    places = frame.surface([spot[:2] for spot in spots], 0.03)
    narrow = max(0.45, frame.cos_yaw)
    for place, (_, _, rx, ry, tone, strength) in zip(places.tolist(), spots, strict=True):
        brush.glow(place, rx * narrow, ry, tones[tone], strength, turn)
    _edges(brush, frame, identity)
    ridge = frame.surface([(-0.025, nose.y - 0.1), (-0.02, nose.y + 0.0)], 0.14)
    for place, ry, strength in zip(ridge.tolist(), (0.2, 0.06), (0.7, 0.9), strict=True):
        brush.glow(place, 0.055, ry, tones["light"], strength, turn)


def _edges(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """The jaw turns away from the light; a thin light from behind runs along it."""
    outline, half = frame.outline, len(frame.outline) // 2
    dark = shadow_of(identity.shade)
    for width, strength in ((0.28, 0.2), (0.14, 0.2)):
        brush.line(outline[8 : half + 10], dark, width, alpha=strength)
    brush.line(outline[10 : half - 4], light_of(identity.skin), 0.03, alpha=0.25)


def paint_backdrop(brush: Brush, backdrop: Backdrop, edge: float) -> None:
    """Broad strokes across the picture, light in the upper left and dark in the corners."""
    rng = np.random.default_rng([backdrop.seed, 1])
    tones = (backdrop.main, backdrop.accent, light_of(backdrop.main), shadow_of(backdrop.main))
    for _ in range(46):
        x, y = rng.uniform(-edge, edge, 2)
        angle, length = rng.normal(-0.6, 0.35), rng.uniform(0.5, 1.5)
        along = np.array([np.cos(angle), np.sin(angle)]) * length
        bent = np.array([-along[1], along[0]]) * rng.uniform(-0.2, 0.2)
        stroke = smooth([(x, y) - along, (x, y) + bent, (x, y) + along], closed=False)
        tone = tones[int(rng.integers(len(tones)))]
        brush.line(stroke, tone, float(rng.uniform(0.12, 0.36)), alpha=float(rng.uniform(0.1, 0.28)))
    brush.glow((-1.0, -1.1), 2.6, 2.4, light_of(light_of(backdrop.main)), 0.5)
    for x in (-edge, edge):
        brush.glow((x, edge), 2.4, 2.6, shadow_of(shadow_of(backdrop.main)), 0.4)


def paint_cloth(brush: Brush, identity: Identity) -> None:
    """Folds and a fall of light over the clothes. Clip to them first."""
    dark, light = shadow_of(shadow_of(identity.clothes.main)), light_of(light_of(identity.clothes.main))
    area = np.array([(-2.6, 1.3), (2.6, 1.3), (2.6, 3.0), (-2.6, 3.0)])
    brush.fill(area, dark, shader=linear((-0.8, 1.5), (1.4, 2.9), [argb(dark, 0.0), argb(dark, 0.55)]))
    brush.glow((-1.15, 1.95), 0.7, 0.34, light, 0.5, 16)
    for x, y, turn in ((0.62, 2.25, 70), (-0.72, 2.4, -64), (1.3, 2.4, 48)):
        brush.glow((x, y), 0.5, 0.09, dark, 0.5, turn)
        brush.glow((x - 0.08, y), 0.45, 0.06, light, 0.35, turn)


def paint_neck(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """The chin's shadow without an edge. Clip to the neck first."""
    x, y = frame.outline[len(frame.outline) // 2].tolist()
    brush.glow((x + 0.08, y + 0.05), 0.75, 0.36, mix(shadow_of(identity.shade), (60, 24, 40), 0.25), 0.85)
