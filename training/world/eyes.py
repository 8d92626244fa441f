"""Eyes with lids, gaze and light in them; brows; glasses."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush
from training.world.geometry import HeadFrame, Points, ellipse, smooth
from training.world.identity import Identity
from training.world.palettes import INK, WHITE, mix, shadow_of

_ACROSS = np.linspace(-1, 1, 7)


def draw_eyes(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Both eyes."""
    for side, blink in ((-1, frame.pose.blink_left), (1, frame.pose.blink_right)):
        if identity.eyes.style == "dot":
            _dot_eye(brush, frame, identity, side, blink)
        else:
            _eye(brush, frame, identity, side, blink)


def _local(identity: Identity, side: int, points: Points) -> Points:
    """From one eye's own axes (x towards the temple) to the face: (N, 2)."""
    eyes = identity.eyes
    sin, cos = np.sin(eyes.tilt), np.cos(eyes.tilt)
    placed: Points = points @ np.array([(side * cos, -sin), (side * sin, cos)])
    return placed + (side * eyes.spacing, identity.face.eye_y)


def _lids(identity: Identity, blink: float) -> tuple[Points, Points, Points]:
    """Open upper lid, upper lid as it is now, lower lid; each from the nose to the temple: (N, 2)."""
    eyes = identity.eyes
    power = {"round": 2.2, "wide": 2.3, "almond": 1.9, "hooded": 2.4}[eyes.style]
    dome = (1 - np.abs(_ACROSS) ** power) ** (0.62 if power > 2 else 0.8)
    up = -eyes.height * dome
    down = eyes.height * (0.78 if eyes.style == "almond" else 0.9) * dome
    shut = down * 0.55 + 0.02
    share = min(1.0, eyes.lid + blink * (1 - eyes.lid))
    now = up * (1 - share) + shut * share
    rise = down * (1 - 0.35 * blink)
    return tuple(smooth(np.stack([_ACROSS * eyes.width, y], axis=1), closed=False) for y in (up, now, rise))  # type: ignore[return-value]


def _eye(brush: Brush, frame: HeadFrame, identity: Identity, side: int, blink: float) -> None:
    eyes = identity.eyes
    opened, upper, lower = _lids(identity, blink)
    lid_skin = mix(identity.skin, identity.shade, 0.55)
    socket = frame.surface(_local(identity, side, np.concatenate([opened * (1.06, 1.12), lower[::-1]])))
    brush.fill(socket, lid_skin)
    if blink < 0.92:
        hole = frame.surface(_local(identity, side, np.concatenate([upper, lower[::-1]])))
        brush.fill(hole, mix(WHITE, identity.shade, 0.06))
        with brush.clip(hole):
            _iris(brush, frame, identity, side, upper)
        line = frame.surface(_local(identity, side, lower[4:-4]))
        brush.line(line, shadow_of(identity.shade), 0.018, alpha=0.6)
    lash = mix(INK, identity.brows.color, 0.35)
    rim = frame.surface(_local(identity, side, upper))
    brush.line(rim, lash, 0.034 + 0.02 * eyes.lashes)
    if blink < 0.7 and eyes.style != "hooded":
        crease = frame.surface(_local(identity, side, opened[5:-3] * (1.0, 1.34)))
        brush.line(crease, shadow_of(identity.shade), 0.017, alpha=0.5 * (1 - blink))
    if eyes.lashes > 0.25:
        _lashes(brush, frame, identity, side, upper)


def _iris(brush: Brush, frame: HeadFrame, identity: Identity, side: int, upper: Points) -> None:
    eyes, pose = identity.eyes, frame.pose
    size = eyes.iris_size
    centre = np.array([side * pose.gaze_x * (eyes.width - size * 0.6) * 0.75, pose.gaze_y * eyes.height * 0.45])

    def disc(radius: float, dx: float = 0.0, dy: float = 0.0) -> Points:
        return frame.surface(_local(identity, side, ellipse(centre[0] + side * dx, centre[1] + dy, radius, radius, 20)))

    deep = mix(eyes.iris, INK, 0.55)
    brush.fill(disc(size), deep)
    brush.fill(disc(size * 0.82, 0, size * 0.1), eyes.iris)
    brush.fill(disc(size * 0.46), mix(INK, eyes.iris, 0.08))
    shadow = np.concatenate([upper, (upper + (0, 0.045))[::-1]])
    brush.fill(frame.surface(_local(identity, side, shadow)), shadow_of(identity.shade), 0.35)
    brush.fill(disc(size * 0.27, -size * 0.34, -size * 0.36), WHITE)
    brush.fill(disc(size * 0.13, size * 0.36, size * 0.4), WHITE, 0.75)


def _lashes(brush: Brush, frame: HeadFrame, identity: Identity, side: int, upper: Points) -> None:
    length = 0.05 + 0.055 * identity.eyes.lashes
    for index, (dx, dy) in ((-1, (1.0, -0.55)), (-5, (0.75, -0.8)), (-9, (0.5, -0.95))):
        root = upper[index]
        hair = np.stack([root, root + np.array([dx, dy]) * length])
        brush.line(frame.surface(_local(identity, side, hair), 0.01), mix(INK, identity.brows.color, 0.25), 0.026)


def _dot_eye(brush: Brush, frame: HeadFrame, identity: Identity, side: int, blink: float) -> None:
    eyes, pose = identity.eyes, frame.pose
    x, y = side * pose.gaze_x * 0.06, pose.gaze_y * 0.05
    color = mix(INK, eyes.iris, 0.25)
    if blink > 0.8:
        lid = smooth([(-eyes.width, 0.0), (0, 0.035), (eyes.width, 0.0)], closed=False)
        brush.line(frame.surface(_local(identity, side, lid + (x, y))), color, 0.042)
        return
    tall = eyes.height * (1 - 0.85 * blink)
    brush.fill(frame.surface(_local(identity, side, ellipse(x, y, eyes.width, tall, 20))), color)
    glint = ellipse(x - side * eyes.width * 0.3, y - tall * 0.4, eyes.width * 0.32, tall * 0.28, 12)
    brush.fill(frame.surface(_local(identity, side, glint)), WHITE)
    if eyes.lashes > 0.4:
        root = np.array([(x + eyes.width * 0.7, y - tall * 0.7), (x + eyes.width * 1.5, y - tall * 1.05)])
        brush.line(frame.surface(_local(identity, side, root)), color, 0.03)


def draw_brows(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Both brows, raised with `pose.brow`."""
    brows, eyes = identity.brows, identity.eyes
    raise_ = 0.12 * frame.pose.brow
    y = identity.face.eye_y - max(brows.height, eyes.height + 0.12) - raise_
    half = max(eyes.width, 0.16) * 1.22
    for side in (-1, 1):
        inner, outer = eyes.spacing - half * 0.92, eyes.spacing + half * 1.02
        middle = inner + (outer - inner) * 0.6
        lean = brows.tilt * half + (0.035 * frame.pose.brow if frame.pose.brow < 0 else -0.01 * frame.pose.brow)
        top = [(inner, y + lean), (middle, y - brows.arch - 0.3 * raise_), (outer, y + brows.arch * 0.5 - lean)]
        thick = brows.thickness
        under = [(outer, top[2][1] + thick * 0.2), (middle, top[1][1] + thick * 0.95), (inner, top[0][1] + thick)]
        control = np.array(top + under) * (side, 1)
        brush.fill(frame.surface(smooth(control), 0.03), brows.color)


def draw_glasses(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """Frames, a hint of glass, and the arms that reach the ears."""
    style, color = identity.extras.glasses, identity.extras.glasses_color
    if style == "none":
        return
    eyes = identity.eyes
    y, lift = identity.face.eye_y + 0.02, 0.1
    rx, ry = _lens(identity)
    width = 0.034 if style in {"round", "half"} else 0.05
    for side in (-1, 1):
        rim = frame.surface(_rim(style, rx, ry) * (side, 1) + (side * eyes.spacing, y), lift)
        brush.fill(rim, (225, 240, 250), identity.extras.tint)
        brush.line(rim, color, width, closed=True)
        glare = np.array([(-0.45 * rx, -0.1 * ry), (0.05 * rx, -0.6 * ry)]) + (side * eyes.spacing, y)
        brush.line(frame.surface(glare, lift), WHITE, 0.03, alpha=0.35)
    bridge = eyes.spacing - rx
    arch = smooth([(-bridge, y - 0.04), (0, y - 0.09), (bridge, y - 0.04)], closed=False, steps=4)
    brush.line(frame.surface(arch, lift + 0.03), color, width)


def draw_glasses_arms(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """From the rims to the ears, under the hair."""
    style, eyes = identity.extras.glasses, identity.eyes
    if style == "none":
        return
    rx, ry = _lens(identity)
    y = identity.face.eye_y + 0.02
    for side in (-1, 1):
        hinge = frame.surface(np.array([(side * (eyes.spacing + rx), y - ry * 0.3)]), 0.1)
        ear = frame.rim(np.array([(side * 0.97 * identity.face.width, y - 0.03)]), -0.05)
        if (ear - hinge)[0, 0] * side > 0.02:
            brush.line(np.concatenate([hinge, ear]), identity.extras.glasses_color, 0.042)


def _lens(identity: Identity) -> tuple[float, float]:
    """Half width and half height of one lens."""
    rx = min(0.33, identity.eyes.spacing * 0.74)
    return rx, rx * {"round": 0.96, "square": 0.76, "cat": 0.8, "half": 0.74}[identity.extras.glasses]


def _rim(style: str, rx: float, ry: float) -> Points:
    """One rim around its middle, temple to the right: (N, 2)."""
    if style == "round":
        return ellipse(0, 0, rx, ry, 24)
    if style == "cat":
        control = [
            (0, -ry * 0.86),
            (rx * 0.72, -ry * 1.02),
            (rx * 1.16, -ry * 1.12),
            (rx * 0.98, -ry * 0.25),
            (rx * 0.7, ry * 0.7),
        ]
        control += [(0, ry * 0.98), (-rx * 0.7, ry * 0.74), (-rx * 0.98, -ry * 0.02), (-rx * 0.72, -ry * 0.72)]
        return smooth(control, steps=4)
    corner = {"square": 0.9, "half": 0.86}[style]
    low = corner if style == "square" else 0.74
    control = [
        (0, -ry),
        (rx * corner, -ry * corner),
        (rx, 0),
        (rx * low, ry * low),
        (0, ry),
        (-rx * low, ry * low),
        (-rx, 0),
    ]
    return smooth([*control, (-rx * corner, -ry * corner)], steps=4)
