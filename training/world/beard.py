"""Beards and moustaches. They hang on the jaw and leave the lips free."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush
from training.world.geometry import HeadFrame, Points, both_sides, mirror, smooth
from training.world.identity import Identity
from training.world.mouth import mouth_curves
from training.world.palettes import light_of, mix, shadow_of


def draw_beard(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Draw before the mouth: the lips lie on top, with skin or shaven edge around them."""
    style = identity.extras.beard
    if style in {"full", "chinstrap", "stubble", "long"}:
        _jaw_beard(brush, frame, identity)
    elif style == "goatee":
        _goatee(brush, frame, identity)


def _bottom(frame: HeadFrame, grow: float) -> Points:
    """The jaw's edge from the left ear to the right one, grown outwards: (N, 2), placed."""
    outline, depth = frame.face.outline(frame.jaw_drop), frame.face.outline_depth()
    order = np.arange(len(outline) // 2 + 17, len(outline) // 2 - 18, -1)
    curve = outline[order]
    down = np.clip((curve[:, 1] - 0.3) / 0.8, 0, 1)
    curve = curve * (1.01, 1.0) + np.stack([np.sign(curve[:, 0]) * 0.02 * down, down * grow], axis=1)
    return frame.rim(curve, depth[order])


def _jaw_beard(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    style, color = identity.extras.beard, identity.extras.beard_color
    y, gap = identity.face.mouth_y, frame.pose.lip_gap
    width = frame.face.width
    if style == "chinstrap":
        half = [
            (0, y + 0.3 + 0.34 * gap),
            (0.34, y + 0.24 + 0.26 * gap),
            (0.64, y - 0.02),
            (0.86, y - 0.4),
            (0.95, -0.02),
        ]
    else:
        half = [(0, y - 0.13), (0.3, y - 0.13), (0.52, y - 0.1), (0.74, y - 0.3), (0.9, y - 0.55), (0.96, -0.02)]
    top = frame.surface(smooth(both_sides(half) * (width, 1), closed=False), clamp=True)
    grow = {"full": 0.1, "long": 0.46, "chinstrap": 0.03, "stubble": 0.0}[style]
    shape = np.concatenate([_bottom(frame, grow), top[::-1]])
    if style == "stubble":
        with brush.clip(frame.outline):
            brush.fill(shape, color, 0.24)
        return
    brush.shape(shape, color)
    _texture(brush, frame, identity, shape)


def _texture(brush: Brush, frame: HeadFrame, identity: Identity, shape: Points) -> None:
    if identity.shading == "flat":
        return
    y = identity.face.mouth_y + 0.3 + 0.4 * frame.pose.lip_gap
    with brush.clip(shape):
        for x in (-0.42, -0.2, 0.0, 0.2, 0.42):
            strand = smooth([(x, y - abs(x) * 0.4), (x * 1.04, y + 0.1), (x * 0.94, y + 0.22)], closed=False, steps=3)
            brush.line(frame.surface(strand), light_of(identity.extras.beard_color), 0.022, alpha=0.35)


def _goatee(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    y, gap = identity.face.mouth_y, frame.pose.lip_gap
    curves = mouth_curves(identity, frame.pose)
    half = max(curves.half_width + 0.09, 0.3)
    low = identity.face.chin_y + frame.jaw_drop + 0.05
    right = [
        (0, y - 0.14),
        (half * 0.7, y - 0.13),
        (half, y + 0.04),
        (half * 0.92, y + 0.24 + 0.26 * gap),
        (half * 0.5, low - 0.02),
    ]
    control = np.concatenate([right, [(0, low)], mirror(np.array(right[1:]))])
    depths = frame.surface(smooth(control))
    brush.shape(depths, identity.extras.beard_color)
    _texture(brush, frame, identity, depths)


def draw_moustache(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Draw after the mouth: it lies on the upper lip."""
    style = identity.extras.beard
    if style not in {"moustache", "handlebar", "full", "long", "goatee"}:
        return
    curves = mouth_curves(identity, frame.pose)
    y = curves.outer[:, 1].min() + 0.015
    half = min(max(curves.half_width, 0.24), 0.36) * (1.1 if style == "moustache" else 1.16)
    tip = y + (0.03 if style == "moustache" else 0.1)
    right = [(0, y - 0.095), (half * 0.4, y - 0.115), (half * 0.85, y - 0.05), (half * 1.08, tip)]
    if style == "handlebar":
        right += [(half * 1.34, tip - 0.1), (half * 1.16, tip + 0.045)]
    right += [(half * 0.62, y + 0.012), (half * 0.2, y + 0.02), (0, y - 0.01)]
    curve = smooth(np.concatenate([right, mirror(np.array(right[1:-1]))]))
    color = identity.extras.beard_color
    placed = frame.surface(curve, 0.05)
    brush.fill(placed, color if style in {"moustache", "handlebar"} else mix(color, shadow_of(color), 0.4))
