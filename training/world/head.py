"""Neck, ears, skin and nose."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush, argb, linear, radial
from training.world.geometry import BODY_RISE, HeadFrame, Points, ellipse, smooth
from training.world.identity import Identity
from training.world.paint import paint_face, paint_neck
from training.world.palettes import INK, WHITE, mix, shadow_of, tune


def draw_neck(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """The neck follows the head at its top and stays with the shoulders below."""
    half = 0.44 * (0.9 + 0.3 * identity.face.jaw)
    top = frame.rim([(-half, 0.5), (half, 0.5)], 0.0)
    low = np.array([(half * 1.04, 1.5), (half * 1.5, 1.72), (1.0, 1.86), (1.0, 2.3), (-1.0, 2.3), (-1.0, 1.86)])
    low = np.concatenate([low, [(-half * 1.5, 1.72), (-half * 1.04, 1.5)]]) - (0, BODY_RISE) + frame.shoulders
    neck = smooth(np.concatenate([top, low]), steps=4)
    color = identity.skin if identity.shading == "flat" else mix(identity.skin, identity.shade, 0.35)
    brush.shape(neck, color)
    with brush.clip(neck):
        if identity.shading == "soft":
            paint_neck(brush, frame, identity)
            return
        chin = frame.outline + (0.03, 0.2)
        brush.fill(chin, identity.shade if identity.shading != "flat" else shadow_of(identity.skin), 0.9)


def draw_ears(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Ears sit behind the outline: the near one opens towards the viewer, the far one hides."""
    if identity.hair.style == "scarf":
        return
    extras = identity.extras
    for side in (-1, 1):
        near = -side * frame.sin_yaw
        width = 0.17 * extras.ear_size * float(np.clip(1 + 0.8 * near, 0.4, 1.4))
        x = side * (frame.face.width * 0.965 + width * 0.32)
        y, tall = frame.face.eye_y + 0.14, 0.26 * extras.ear_size
        control = [
            (x - side * width, y - tall * 0.5),
            (x + side * width * 0.3, y - tall),
            (x + side * width, y - tall * 0.45),
        ]
        control += [
            (x + side * width * 0.72, y + tall * 0.3),
            (x + side * width * 0.15, y + tall),
            (x - side * width, y + tall * 0.6),
        ]
        ear = frame.rim(smooth(control), -0.18)
        brush.shape(ear, identity.skin if identity.shading == "flat" else mix(identity.skin, identity.shade, 0.25))
        fold = [
            (x + side * width * 0.1, y - tall * 0.5),
            (x + side * width * 0.55, y - tall * 0.3),
            (x + side * width * 0.2, y + tall * 0.35),
        ]
        brush.line(frame.rim(smooth(fold, closed=False), -0.18), shadow_of(identity.shade), 0.025, alpha=0.7)
        if extras.earring is not None:
            drop = ellipse(x + side * width * 0.2, y + tall * 1.08, 0.055, 0.055, 14)
            brush.shape(frame.rim(drop, -0.18), extras.earring)


def draw_skin(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """The head itself, its shading, and marks on the skin."""
    outline = frame.outline
    shader = None
    if identity.shading == "soft":
        glow = frame.surface([(-0.2, -0.15)])[0]
        colors = [argb(identity.light), argb(identity.skin), argb(mix(identity.skin, identity.shade, 0.8))]
        shader = radial(glow, 1.55, colors)
    brush.shape(outline, identity.skin, shader=shader)
    with brush.clip(outline):
        if identity.shading == "soft":
            paint_face(brush, frame, identity)
        elif identity.shading == "cel":
            lit = frame.rim(
                frame.face.outline(frame.jaw_drop) * (0.97, 1.0) + (-0.16, -0.1), frame.face.outline_depth() + 0.1
            )
            shade = np.concatenate([outline, outline[:1], lit[:1], lit[::-1]])
            brush.fill(shade, identity.shade, 0.8)
        _blush(brush, frame, identity)
        _marks(brush, frame, identity)


def _blush(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    strength = identity.extras.blush
    if strength < 0.05:
        return
    rosy = tune(mix(identity.skin, (232, 84, 92), 0.5), saturation=1.1)
    for side in (-1, 1):
        cheek = frame.surface(ellipse(side * 0.56, 0.42, 0.23, 0.17, 20))
        shader = None
        if identity.shading == "soft":
            shader = radial(cheek.mean(axis=0), 0.23, [argb(rosy, 0.6 * strength), argb(rosy, 0.0)])
        brush.fill(cheek, rosy, 0.42 * strength, shader=shader)


def _marks(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    extras = identity.extras
    rng = np.random.default_rng(extras.mark_seed)
    if extras.freckles > 0:
        brown = mix(identity.shade, (140, 74, 40), 0.55)
        count = int(8 + 10 * extras.freckles)
        places = np.stack([rng.uniform(-0.68, 0.68, count), rng.normal(0.32, 0.06, count)], axis=1)
        dots = places[:, None] + ellipse(0, 0, 1, 1, 8) * rng.uniform(0.01, 0.018, count)[:, None, None]
        for dot in frame.surface(dots.reshape(-1, 2)).reshape(dots.shape):
            brush.fill(dot, brown, 0.7)
    if extras.mole:
        x = float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.5))
        brush.fill(frame.surface(ellipse(x, 0.56, 0.028, 0.028, 10)), mix(INK, identity.shade, 0.35))


def draw_nose(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """The nose stands out of the face, so it shows the turn most."""
    nose = identity.nose
    color, dark = identity.shade, mix(shadow_of(identity.shade), INK, 0.12)
    size, y, lift = nose.size, nose.y, 0.16
    turn = 1.0 if frame.pose.yaw > -0.05 else -1.0

    def place(points: list[tuple[float, float]], up: float = lift) -> Points:
        return frame.surface(smooth(np.array(points) * (size, size) + (0, y), closed=False), up)

    if nose.style == "button":
        brush.line(place([(-0.085, -0.01), (-0.05, 0.045), (0, 0.062), (0.05, 0.045), (0.085, -0.01)]), dark, 0.034)
    elif nose.style == "side":
        curve = [(0.0, -0.2), (0.05 * turn, -0.06), (0.11 * turn, 0.03), (0.06 * turn, 0.07), (-0.03 * turn, 0.065)]
        brush.line(place(curve), dark, 0.032)
    elif nose.style == "nostrils":
        for side in (-1, 1):
            brush.fill(frame.surface(ellipse(side * 0.055 * size, y + 0.03, 0.03, 0.02, 12), lift * 0.8), dark)
        brush.line(place([(-0.11, -0.02), (-0.125, 0.03), (-0.09, 0.055)], lift * 0.6), dark, 0.024, alpha=0.8)
        brush.line(place([(0.11, -0.02), (0.125, 0.03), (0.09, 0.055)], lift * 0.6), dark, 0.024, alpha=0.8)
    elif nose.style == "wedge":
        tip = frame.surface(np.array([(0, y + 0.03)]), lift + 0.04)
        base = frame.surface(np.array([(-0.03 * turn, y - 0.26), (0.13 * size * turn, y + 0.02)]), 0.02)
        wedge = smooth(np.concatenate([base[:1], tip, base[1:]]), steps=5)
        brush.fill(wedge, color, 0.95)
        brush.line(place([(-0.08, 0.03), (0, 0.06), (0.08, 0.03)]), dark, 0.026)
    else:
        ball = ellipse(0, y, 0.115 * size, 0.085 * size, 20)
        shader = None
        if identity.shading == "soft":
            top, low = frame.surface([(0, y - 0.1), (0, y + 0.1)], lift)
            shader = linear(top, low, [argb(identity.light), argb(identity.shade)])
        brush.fill(frame.surface(ball, lift), mix(identity.skin, (226, 110, 100), 0.22), shader=shader)
        brush.line(place([(-0.1, 0.01), (-0.055, 0.07), (0, 0.082), (0.055, 0.07), (0.1, 0.01)]), dark, 0.026)
    if identity.shading != "flat":
        brush.fill(frame.surface(ellipse(-0.03, y - 0.03, 0.03, 0.022, 10), lift + 0.03), WHITE, 0.3)
