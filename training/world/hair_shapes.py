"""The curves hair is made of: hairlines on the face, volumes around the skull, lengths behind it."""

from __future__ import annotations

import numpy as np

from training.world.geometry import (
    SKULL_CENTRE_Y,
    SKULL_HEIGHT,
    HeadFrame,
    Points,
    both_sides,
    ellipse,
    jitter,
    mirror,
    smooth,
)

_TIPS = np.array([0.1, 0.17, 0.23, 0.19, 0.27, 0.22, 0.16, 0.2, 0.12])
"""Lengths of pointed locks, uneven on purpose."""
_TEMPLE = [(0.93, -0.22), (0.99, 0.1)]
_HALF_LINES: dict[str, list[tuple[float, float]]] = {
    "round": [(0, -0.76), (0.38, -0.73), (0.74, -0.56), *_TEMPLE],
    "high": [(0, -0.9), (0.4, -0.87), (0.76, -0.66), (0.94, -0.3), (0.99, 0.05)],
    "fringe": [(0, -0.36), (0.42, -0.35), (0.76, -0.3), (0.87, -0.1), (0.97, 0.15)],
    "curtain": [(0, -1.0), (0.3, -0.78), (0.66, -0.42), (0.88, -0.06), (0.97, 0.2)],
    "centre": [(0, -0.98), (0.36, -0.82), (0.72, -0.52), (0.91, -0.14), (0.98, 0.15)],
    "widow": [(0, -0.64), (0.22, -0.74), (0.5, -0.8), (0.78, -0.58), *_TEMPLE],
    "square": [(0, -0.7), (0.45, -0.7), (0.72, -0.64), (0.84, -0.42), (0.9, -0.14), (0.99, 0.1)],
}
_SWEEP = [(-0.99, 0.1), (-0.95, -0.22), (-0.8, -0.56), (-0.52, -0.84), (-0.38, -0.96), (-0.1, -0.76), (0.32, -0.56)]
_SWEEP += [(0.68, -0.44), (0.89, -0.16), (0.98, 0.12)]
_LOW_SWEEP = [(-0.98, 0.12), (-0.94, -0.2), (-0.8, -0.5), (-0.6, -0.76), (-0.5, -0.84), (-0.2, -0.58), (0.2, -0.4)]
_LOW_SWEEP += [(0.6, -0.26), (0.84, -0.04), (0.96, 0.18)]


def hairline(name: str, side: int) -> Points:
    """Control points of a hairline from the left ear to the right one: (N, 2)."""
    if name in {"sweep", "low_sweep"}:
        points = np.array(_SWEEP if name == "sweep" else _LOW_SWEEP)
        return points if side > 0 else mirror(points)
    return both_sides(_HALF_LINES[name])


def spikes(name: str, side: int) -> Points:
    """A hairline of pointed locks: (N, 2)."""
    base = smooth(hairline(name, side), closed=False, steps=2)
    base[1:-1:2, 1] += 0.13
    base[1:-1:2, 0] += 0.05 * side
    return base


def skull_arc(frame: HeadFrame, sides: float, top: float, reach: float = 92.0, count: int = 25) -> Points:
    """Around the skull from the left to the right, `sides` and `top` above the skin: (count, 2), not yet placed."""
    angle = np.deg2rad(np.linspace(-reach, reach, count))
    width, height = frame.face.width * (1 + sides), SKULL_HEIGHT * (1 + top)
    return np.stack([np.sin(angle) * width, SKULL_CENTRE_Y - np.cos(angle) * height], axis=1)


def quiff_arc(frame: HeadFrame, side: int, volume: float) -> Points:
    """A skull arc that rises over the forehead: (25, 2)."""
    arc = skull_arc(frame, 0.035, 0.06)
    lift = np.exp(-(((arc[:, 0] - 0.15 * side) / 0.52) ** 2)) * 0.26 * volume
    arc[:, 1] -= lift
    arc[:, 0] += lift * 0.45 * side
    return arc


def spiky_arc(frame: HeadFrame, side: int, volume: float) -> Points:
    """A skull arc of pointed locks: (N, 2)."""
    arc = skull_arc(frame, 0.03, 0.05, count=23)
    outward = arc - (0, SKULL_CENTRE_Y)
    tips = np.zeros(len(arc))
    tips[3:-3:2] = volume * _TIPS[: len(tips[3:-3:2])]
    arc[3:-3:2, 0] += 0.06 * side
    return arc + outward * tips[:, None]


def panels(arc: Points, line: Points, drop: float, flare: float) -> tuple[Points, Points]:
    """Lengthen a cap down both sides of the face: arc and hairline with sides that end at `drop`."""
    edge = abs(arc[-1, 0])
    right = [
        (edge + flare * 0.5, drop * 0.5),
        (edge + flare, drop - 0.16),
        (edge + flare * 0.4, drop),
        (edge - 0.12, drop + 0.02),
    ]
    inner = [(0.86, drop * 0.75), (0.9, max(0.3, drop * 0.4))]
    low = smooth([arc[-1], *right], closed=False, steps=4)[1:]
    arc = np.concatenate([mirror(low), arc, low])
    line = np.concatenate([np.array(inner) * (-1, 1), line[1:-1], np.array(inner)[::-1]])
    return arc, line


def back_length(width: float, length: float, flare: float, curls: float = 0.0, waves: float = 0.0) -> Points:
    """The hair behind head and neck: (N, 2)."""
    half = [(0, -1.2), (0.7, -1.02), (width, -0.35), (width + flare * 0.5, length * 0.3), (width + flare, length * 0.7)]
    half += [(width + flare * 0.75, length * 0.93), (width * 0.62, length), (0, length)]
    right = np.array(half)
    control = np.concatenate([right, right[1:-1][::-1] * (-1, 1)])
    curve = smooth(control, steps=8)
    return jitter(curve, waves, curls) if curls else curve


def locks(length: float, flare: float, curls: float = 0.0) -> list[Points]:
    """Hair that falls in front of the shoulders, one curve a side: (N, 2) each."""
    control = [
        (0.96, -0.35),
        (1.09, 0.1),
        (1.14 + flare * 0.6, 0.7),
        (1.14 + flare, length * 0.75),
        (1.02 + flare, length),
    ]
    control += [(0.82 + flare * 0.5, length * 0.94), (0.86, length * 0.7), (0.93, 0.62), (0.9, 0.1)]
    right = smooth(control, steps=6)
    if curls:
        right = jitter(right, 17, curls)
    return [right, mirror(right)]


def tail(side: int, length: float) -> Points:
    """A ponytail that shows beside the head: (N, 2)."""
    control = [
        (0.3, -1.15),
        (0.95, -1.12),
        (1.3, -0.6),
        (1.42, 0.1),
        (1.36, length * 0.75),
        (1.16, length),
        (1.08, 0.5),
        (0.9, -0.3),
    ]
    return smooth(np.array(control) * (side, 1), steps=6)


def bunch(side: int, length: float) -> Points:
    """One of two bunches below an ear: (N, 2)."""
    control = [
        (0.9, 0.2),
        (1.16, 0.12),
        (1.42, 0.5),
        (1.44, length * 0.75),
        (1.24, length),
        (1.08, length * 0.8),
        (0.98, 0.5),
    ]
    return smooth(np.array(control) * (side, 1), steps=6)


def braid(side: int, beads: int = 6) -> list[Points]:
    """A braid as beads, from the ear down: (N, 2) each."""
    sizes = np.linspace(0.17, 0.11, beads)
    return [ellipse(side * (1.02 + 0.03 * i), 0.5 + 0.235 * i, size, 0.165, 16) for i, size in enumerate(sizes)]
