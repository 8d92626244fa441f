"""The mouth: lips, teeth and tongue from opening, width, rounding, press and smile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.brush import Brush, argb, linear
from training.world.geometry import HeadFrame, Points, smooth
from training.world.identity import Identity
from training.world.palettes import WHITE, light_of, mix, shadow_of
from training.world.pose import Pose

MAX_GAP = 0.56
"""Distance between the inner lips of a wide open mouth, in half head widths."""


@dataclass(frozen=True, slots=True)
class MouthCurves:
    """The curves of one mouth on the flat face: (N, 2) each, in half head widths."""

    outer: Points
    inner: Points
    seam: Points
    half_width: float
    top: float
    bottom: float


def mouth_curves(identity: Identity, pose: Pose) -> MouthCurves:
    """Lip contours of a pose, before the head turns."""
    mouth, y = identity.mouth, identity.face.mouth_y
    half = mouth.width * (0.8 + 0.4 * pose.width) * (1 - 0.46 * pose.rounding) * (1 - 0.06 * pose.lip_gap)
    gap = MAX_GAP * pose.lip_gap
    top, bottom = -0.2 * gap, 0.8 * gap
    thick = (1 + 0.3 * pose.rounding) * (1 - 0.5 * pose.press)
    upper, lower = mouth.upper * thick, mouth.lower * thick * (1 - 0.12 * pose.lip_gap)
    fullness = 0.62 + 0.2 * pose.rounding

    def bend(points: list[tuple[float, float]]) -> Points:
        curve = np.asarray(points)
        across = np.clip(curve[:, 0] / half, -1, 1)
        curve[:, 1] += y - 0.11 * pose.smile * across**2 + 0.03 * pose.smile
        return curve

    dip = 1.0 - 0.38 * mouth.bow * (1 - 0.6 * pose.rounding)
    up, low = top - upper, bottom + lower
    outer = bend(
        [(-half, 0), (-half * 0.62, up * 0.72), (-half * 0.22, up), (0, top - upper * dip), (half * 0.22, up)]
        + [(half * 0.62, up * 0.72), (half, 0), (half * fullness, low * 0.78), (0, low), (-half * fullness, low * 0.78)]
    )
    inside = half * (0.8 + 0.12 * pose.lip_gap)
    round_ = 0.7 + 0.2 * pose.rounding
    inner = bend(
        [(-inside, 0.004), (-inside * 0.55, top * 0.88), (0, top), (inside * 0.55, top * 0.88), (inside, 0.004)]
        + [(inside * round_, bottom * 0.72), (0, bottom), (-inside * round_, bottom * 0.72)]
    )
    seam = bend([(-half * 0.96, 0), (-half * 0.45, 0.006), (0, 0.014), (half * 0.45, 0.006), (half * 0.96, 0)])
    return MouthCurves(smooth(outer), smooth(inner), smooth(seam, closed=False, steps=4), half, y + top, y + bottom)


def draw_mouth(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Lips first, then the hole with teeth and tongue, then the line where closed lips meet."""
    pose, mouth = frame.pose, identity.mouth
    curves = mouth_curves(identity, pose)
    lift = 0.05 * pose.rounding
    outer = frame.surface(curves.outer, lift)
    shader = None
    if identity.shading == "soft":
        ends = frame.surface([(0, curves.outer[:, 1].min()), (0, curves.outer[:, 1].max())], lift)
        shader = linear(ends[0], ends[1], [argb(shadow_of(mouth.lips)), argb(mouth.lips), argb(shadow_of(mouth.lips))])
    brush.fill(outer, mouth.lips, shader=shader)
    if brush.ink_width > 0:
        brush.line(outer, mix(mouth.lips, brush.ink, 0.6), brush.ink_width * 0.6, closed=True)
    _shine(brush, frame, identity, curves)
    seam = mix(mouth.inside, mouth.lips, 0.15)
    if pose.lip_gap > 0.03:
        inner = frame.surface(curves.inner, lift)
        brush.fill(inner, mouth.inside)
        with brush.clip(inner):
            _tongue(brush, frame, identity, curves)
            _teeth(brush, frame, identity, curves)
    if pose.lip_gap < 0.12:
        brush.line(frame.surface(curves.seam, lift), seam, 0.032, alpha=1 - pose.lip_gap / 0.12)
    _corners(brush, frame, identity, curves)


def _shine(brush: Brush, frame: HeadFrame, identity: Identity, curves: MouthCurves) -> None:
    if identity.shading == "flat":
        return
    thickness = curves.outer[:, 1].max() - curves.bottom
    y = curves.bottom + thickness * 0.42
    half = curves.half_width * 0.36
    glint = smooth([(-half, y), (0, y + thickness * 0.12), (half, y)], closed=False)
    brush.line(frame.surface(glint), light_of(mix(identity.mouth.lips, WHITE, 0.35)), thickness * 0.26, alpha=0.55)


def _teeth(brush: Brush, frame: HeadFrame, identity: Identity, curves: MouthCurves) -> None:
    pose = frame.pose
    gap = curves.bottom - curves.top
    half = curves.half_width * 0.8
    ivory = (250, 246, 238)
    tall = min(0.105, 0.36 * gap) * (1 - 0.75 * pose.rounding)
    if tall > 0.008:
        edge = curves.top + tall
        row = smooth(
            [
                (-half, edge - 0.05),
                (-half * 0.6, edge - 0.008),
                (0, edge),
                (half * 0.6, edge - 0.008),
                (half, edge - 0.05),
            ],
            closed=False,
        )
        lid = np.array([(half, curves.top - 0.2), (-half, curves.top - 0.2)])
        brush.fill(frame.surface(np.concatenate([row, lid])), ivory)
        if identity.mouth.gap_teeth and tall > 0.05:
            slit = np.array([(0, curves.top - 0.05), (0, edge)])
            brush.line(frame.surface(slit), identity.mouth.inside, 0.018)
    low = min(0.05, 0.14 * gap) * (1 - pose.rounding) * float(np.clip((pose.width - 0.35) * 4, 0, 1))
    if low > 0.012:
        half *= 0.72
        edge = curves.bottom - low
        row = smooth([(-half, edge + 0.02), (0, edge), (half, edge + 0.02)], closed=False)
        floor = np.array([(half, curves.bottom + 0.1), (-half, curves.bottom + 0.1)])
        brush.fill(frame.surface(np.concatenate([row, floor])), mix(ivory, identity.mouth.inside, 0.12))


def _tongue(brush: Brush, frame: HeadFrame, identity: Identity, curves: MouthCurves) -> None:
    gap = curves.bottom - curves.top
    if gap < 0.07:
        return
    rise = gap * 0.34 * (1 - 0.35 * frame.pose.rounding)
    half, y = curves.half_width * 0.6, curves.bottom
    hump = [
        (-half, y + 0.05),
        (-half * 0.6, y - rise * 0.8),
        (0, y - rise * 0.92),
        (half * 0.6, y - rise * 0.8),
        (half, y + 0.05),
    ]
    brush.fill(frame.surface(smooth(hump + [(0, y + 0.12)])), identity.mouth.tongue)
    groove = np.array([(0, y - rise * 0.62), (0, y)])
    brush.line(frame.surface(groove), shadow_of(identity.mouth.tongue), 0.016, alpha=0.7)


def _corners(brush: Brush, frame: HeadFrame, identity: Identity, curves: MouthCurves) -> None:
    """Short creases beside spread or pressed lips."""
    pose = frame.pose
    strength = float(np.clip(max(pose.smile, pose.press * 0.6, pose.width * 1.6 - 1), 0, 1)) * (1 - pose.rounding)
    if strength < 0.05:
        return
    y = identity.face.mouth_y - 0.08 * pose.smile
    for side in (-1, 1):
        x = side * (curves.half_width + 0.035)
        crease = smooth([(x, y - 0.05), (x + side * 0.018, y), (x, y + 0.045)], closed=False, steps=3)
        brush.line(frame.surface(crease), shadow_of(identity.shade), 0.022, alpha=0.55 * strength)
