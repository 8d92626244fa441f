"""Hair styles: what lies behind the head, on it, and in front of the shoulders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import skia

from training.world import hair_shapes as shapes
from training.world.brush import Brush, argb, linear
from training.world.geometry import CHIN_DEPTH, HeadFrame, Points, ellipse, jitter, smooth
from training.world.identity import Identity
from training.world.palettes import Color, light_of, mix, shadow_of

Parts = list[Points]
Behind = Callable[[HeadFrame, Identity], Parts]


@dataclass(frozen=True, slots=True)
class HairStyle:
    """One style as data. Volumes are shares of the skull's size; lengths end at a y of the stage."""

    line: str | None
    """Hairline's name; None for no hair on the skull."""
    sides: float = 0.06
    top: float = 0.1
    edge: str = "smooth"
    """smooth, curly, spiky or quiff."""
    drop: float = 0.0
    """Where panels beside the face end; 0 for none."""
    flare: float = 0.0
    behind: Behind | None = None
    locks: float = 0.0
    """Where locks before the shoulders end; 0 for none."""
    curls: float = 0.0
    masc: float = 1.0
    """Weight of the style for the most masculine face ..."""
    femme: float = 1.0
    """... and for the most feminine one."""

    def share(self, femme: float) -> float:
        """How often the style is drawn, for a face that is `femme` between 0 and 1."""
        return float(self.masc * (1 - femme) ** 1.5 + self.femme * femme**1.5)


def _length(width: float, length: float, flare: float, curls: float = 0.0, waves: float = 0.0) -> Behind:
    def behind(frame: HeadFrame, identity: Identity) -> Parts:
        return [frame.hang(shapes.back_length(width, length, flare, curls, waves), -0.4)]

    return behind


def _cloud(radius: float, bumps: int) -> Behind:
    def behind(frame: HeadFrame, identity: Identity) -> Parts:
        size = radius * (0.9 + 0.1 * identity.hair.volume)
        ball = jitter(ellipse(0, -0.42, size, size * 0.97, 132), bumps, 0.06)
        return [frame.rim(ball, -0.3)]

    return behind


def _knots(*knots: tuple[float, float, float], curls: float = 0.0) -> Behind:
    def behind(frame: HeadFrame, identity: Identity) -> Parts:
        parts = []
        for x, y, radius in knots:
            size = radius * identity.hair.volume
            ball = ellipse(x, y, size * 1.06, size, 60)
            parts.append(frame.rim(jitter(ball, 11, curls) if curls else ball, -0.25))
        return parts

    return behind


def _tail(frame: HeadFrame, identity: Identity) -> Parts:
    return [frame.hang(shapes.tail(identity.hair.side, 1.45), -0.5)]


def _bunches(frame: HeadFrame, identity: Identity) -> Parts:
    return [frame.hang(shapes.bunch(side, 1.5), -0.2) for side in (-1, 1)]


HAIR_STYLES: dict[str, HairStyle] = {
    "bald": HairStyle(None, masc=1.0, femme=0.08),
    "buzz": HairStyle("square", 0.0, 0.015, masc=1.1, femme=0.2),
    "crop": HairStyle("square", 0.035, 0.1, masc=1.2, femme=0.3),
    "side_part": HairStyle("sweep", 0.05, 0.13, masc=1.3, femme=0.3),
    "quiff": HairStyle("high", 0.03, 0.06, "quiff", masc=1.2, femme=0.15),
    "spiky": HairStyle("round", 0.03, 0.06, "spiky", masc=1.0, femme=0.2),
    "messy": HairStyle("fringe", 0.06, 0.12, "spiky", masc=1.0, femme=0.5),
    "curly_top": HairStyle("round", 0.07, 0.2, "curly", curls=0.065, masc=1.2, femme=0.5),
    "widow": HairStyle("widow", 0.03, 0.07, masc=0.8, femme=0.2),
    "receding": HairStyle("high", 0.015, 0.02, masc=0.6, femme=0.0),
    "afro": HairStyle("round", 0.06, 0.12, "curly", behind=_cloud(1.5, 24), curls=0.05, masc=0.6, femme=0.9),
    "pixie": HairStyle("low_sweep", 0.07, 0.13, drop=0.32, flare=-0.06, masc=0.4, femme=1.0),
    "bob": HairStyle("centre", 0.1, 0.12, drop=0.86, flare=0.1, behind=_length(1.1, 0.98, 0.1), masc=0.1, femme=1.1),
    "bob_fringe": HairStyle(
        "fringe", 0.1, 0.12, drop=0.82, flare=0.1, behind=_length(1.1, 0.94, 0.1), masc=0.1, femme=1.1
    ),
    "lob": HairStyle("low_sweep", 0.1, 0.13, drop=0.9, flare=0.04, behind=_length(1.1, 1.25, 0.1), masc=0.3, femme=1.1),
    "long": HairStyle(
        "curtain", 0.08, 0.1, drop=0.32, flare=-0.03, locks=1.9, behind=_length(1.08, 2.1, 0.14), masc=0.25, femme=1.2
    ),
    "long_fringe": HairStyle(
        "fringe", 0.08, 0.11, drop=0.32, flare=-0.03, locks=1.85, behind=_length(1.08, 2.1, 0.1), masc=0.0, femme=1.0
    ),
    "wavy": HairStyle(
        "sweep",
        0.1,
        0.13,
        drop=0.32,
        flare=-0.03,
        locks=1.8,
        curls=0.05,
        behind=_length(1.12, 2.05, 0.2, 0.06, 22),
        masc=0.2,
        femme=1.2,
    ),
    "long_curly": HairStyle(
        "round",
        0.14,
        0.16,
        "curly",
        drop=0.3,
        flare=-0.05,
        locks=1.55,
        curls=0.075,
        behind=_length(1.28, 1.75, 0.2, 0.09, 30),
        masc=0.2,
        femme=1.1,
    ),
    "bun": HairStyle("high", 0.03, 0.06, behind=_knots((0, -1.46, 0.38)), masc=0.25, femme=1.0),
    "fringe_bun": HairStyle("fringe", 0.05, 0.08, drop=0.4, behind=_knots((0, -1.46, 0.36)), masc=0.0, femme=0.8),
    "puffs": HairStyle(
        "high", 0.03, 0.06, behind=_knots((-0.82, -1.12, 0.42), (0.82, -1.12, 0.42), curls=0.06), masc=0.0, femme=0.7
    ),
    "space_buns": HairStyle(
        "centre", 0.05, 0.08, behind=_knots((-0.7, -1.26, 0.3), (0.7, -1.26, 0.3)), masc=0.0, femme=0.6
    ),
    "low_bun": HairStyle("centre", 0.04, 0.07, behind=_knots((0, 0.75, 0.5)), masc=0.1, femme=0.6),
    "ponytail": HairStyle("sweep", 0.04, 0.08, behind=_tail, masc=0.15, femme=1.0),
    "pigtails": HairStyle("fringe", 0.05, 0.09, behind=_bunches, masc=0.0, femme=0.7),
    "braids": HairStyle("centre", 0.05, 0.08, drop=0.42, masc=0.0, femme=0.8),
    "beanie": HairStyle("round", 0.03, 0.03, drop=0.3, flare=-0.04, masc=0.7, femme=0.5),
    "scarf": HairStyle(None, masc=0.0, femme=0.7),
}


def hair_color(identity: Identity) -> Color:
    """The colour of the skull's hair; very short hair lets the skin through."""
    if identity.hair.style == "buzz":
        return mix(identity.skin, identity.hair.color, 0.68)
    return identity.hair.color


def draw_back_hair(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """What lies behind the neck."""
    hair = identity.hair
    style = HAIR_STYLES[hair.style]
    if hair.style == "scarf":
        back = shapes.back_length(1.14, 1.95, 0.12)
        brush.shape(frame.hang(back, -0.25), shadow_of(hair.cover))
    elif style.behind is not None:
        parts = style.behind(frame, identity)
        dark = mix(hair.color, shadow_of(hair.color), 0.0 if identity.shading == "flat" else 0.75)
        brush.group(parts, dark)
        if hair.style in {"bun", "space_buns", "fringe_bun"}:
            for part in parts:
                middle = part.mean(axis=0)
                swirl = middle + (part[::4] - middle) * np.linspace(0.25, 0.8, len(part[::4]))[:, None]
                brush.line(swirl, shadow_of(dark), 0.025, alpha=0.6)


def draw_hair(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """What lies on the head and before the shoulders."""
    style = HAIR_STYLES[identity.hair.style]
    if style.line is not None:
        cap, line = _cap(frame, identity, style)
        _hairline_shadow(brush, frame, identity, line)
        parts = _front_parts(frame, identity, style)
        brush.group([cap, *parts], hair_color(identity), shader=_shader(frame, identity))
        if identity.hair.style != "buzz":
            _details(brush, frame, identity, cap, line)
    if identity.hair.style == "beanie":
        _beanie(brush, frame, identity)
    elif identity.hair.style == "scarf":
        _scarf(brush, frame, identity)


def _cap(frame: HeadFrame, identity: Identity, style: HairStyle) -> tuple[Points, Points]:
    """The hair on the skull and its hairline, both placed: (N, 2) each."""
    hair = identity.hair
    sides, top = style.sides * hair.volume, style.top * hair.volume
    control = shapes.hairline(style.line or "round", hair.side)
    arc = shapes.skull_arc(frame, sides, top, count=61 if style.edge == "curly" else 25)
    if style.edge == "quiff":
        arc = shapes.quiff_arc(frame, hair.side, hair.volume)
    elif style.edge == "spiky":
        arc = shapes.spiky_arc(frame, hair.side, hair.volume)
    if style.drop:
        arc, control = shapes.panels(arc, control, style.drop, style.flare)
    line = smooth(control, closed=False, steps=5)
    if style.edge == "spiky":
        line = shapes.spikes(style.line or "round", hair.side)
    if style.edge == "curly":
        arc, line = jitter(arc, 17, style.curls), jitter(line, 12, -style.curls * 0.8)
    line = line * (frame.face.width, 1)
    placed = frame.surface(line, 0.02, clamp=True)
    if style.locks:  # the cap ends where the locks begin, and those turn like the outline
        hangs = np.clip((line[:, 1] + 0.25) / 0.4, 0, 1)[:, None]
        placed = placed * (1 - hangs) + frame.rim(line) * hangs
    return np.concatenate([frame.rim(arc), placed[::-1]]), placed


def _front_parts(frame: HeadFrame, identity: Identity, style: HairStyle) -> Parts:
    if style.locks:
        return [frame.hang(lock, 0.02) for lock in shapes.locks(style.locks, 0.08, style.curls)]
    if identity.hair.style == "braids":
        return [frame.hang(bead, 0.02) for side in (-1, 1) for bead in shapes.braid(side)]
    return []


def _shader(frame: HeadFrame, identity: Identity) -> skia.Shader | None:
    if identity.shading != "soft":
        return None
    color = hair_color(identity)
    start, end = frame.place([(-0.3, -1.4), (0.2, 0.7)])
    return linear(start, end, [argb(light_of(color)), argb(shadow_of(color))])


def _hairline_shadow(brush: Brush, frame: HeadFrame, identity: Identity, line: Points) -> None:
    """The hair's shadow on the forehead."""
    if identity.shading == "flat" or identity.hair.style == "buzz":
        return
    shift = (0.03, 0.085) if identity.shading == "cel" else (0.015, 0.06)
    with brush.clip(frame.outline):
        brush.fill(
            np.concatenate([line, (line + shift)[::-1]]), identity.shade, 0.85 if identity.shading == "cel" else 0.5
        )


def _details(brush: Brush, frame: HeadFrame, identity: Identity, cap: Points, line: Points) -> None:
    """A band of light, and strands from the crown."""
    color, hair = hair_color(identity), identity.hair
    style = HAIR_STYLES[hair.style]
    crown = frame.rim([(0.2 * hair.side if "sweep" in (style.line or "") else 0.0, -1.02)], 0.1)[0]
    with brush.clip(cap):
        if hair.strands and style.edge not in {"curly"}:
            for index in np.linspace(5, len(line) - 6, 7).astype(int):
                end = line[index]
                middle = crown + (end - crown) * 0.55 + (end - crown)[::-1] * (0.08, -0.08)
                start = crown + (end - crown) * 0.3
                strand = smooth([start, middle, end], closed=False, steps=4)
                brush.line(strand, shadow_of(color), 0.02, alpha=0.55)
                if identity.shading == "soft":
                    brush.line(strand + (0.05, 0.0), light_of(light_of(color)), 0.03, alpha=0.3)
        if identity.shading != "flat" and style.edge in {"smooth", "quiff"}:
            angle = np.deg2rad(np.linspace(-58, -12, 9))
            arc = np.stack([np.sin(angle) * 0.86 * frame.face.width, -np.cos(angle) * 1.06], axis=1)
            brush.line(frame.rim(arc, 0.08), light_of(light_of(color)), 0.07, alpha=0.4)
    if hair.band and style.line is not None:
        angle = np.deg2rad(np.linspace(-74, 74, 19))
        arc = np.stack([np.sin(angle) * (1.03 + style.sides), -np.cos(angle) * 1.08 * (1 + style.top * 0.5)], axis=1)
        brush.line(frame.rim(arc, -0.02), hair.cover, 0.11)


def _beanie(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    hair = identity.hair
    edge = [(-1.0, -0.32), (-0.8, -0.46), (-0.4, -0.55), (0, -0.57), (0.4, -0.55), (0.8, -0.46), (1.0, -0.32)]
    low = frame.surface(smooth(edge, closed=False), 0.08, clamp=True)
    dome = shapes.skull_arc(frame, 0.1, 0.2 + 0.06 * hair.volume, reach=76)
    hat = np.concatenate([frame.rim(dome), low[::-1]])
    brush.shape(hat, hair.cover)
    left, right = frame.rim([(-1.09 * frame.face.width, -0.3), (1.09 * frame.face.width, -0.3)])
    brim = np.concatenate([[left], low[1:-1], [right]])
    rise = np.concatenate([[left + (0.0, -0.34)], low[1:-1] + (0, -0.36), [right + (0.0, -0.34)]])
    band = np.concatenate([brim, rise[::-1]])
    brush.shape(band, light_of(hair.cover) if identity.hair.strands else shadow_of(hair.cover))
    for index in range(2, len(brim) - 2, 4):
        brush.line(np.stack([brim[index], rise[index]]), shadow_of(shadow_of(hair.cover)), 0.018, alpha=0.5)


def _scarf(brush: Brush, frame: HeadFrame, identity: Identity) -> None:
    """A cloth around the face, its opening turned with the face."""
    color = identity.hair.cover
    outer = frame.face.outline() * (1.1, 1.1) + (0, 0.02)
    outer[:, 1] += np.clip(outer[:, 1] - 0.4, 0, None) * 0.12 + frame.jaw_drop * np.clip(
        (outer[:, 1] - 0.4) / 0.8, 0, 1
    )
    depth = frame.face.outline_depth()
    inner = frame.face.outline(frame.jaw_drop) * (0.86, 1)
    inner[:, 1] = np.maximum(inner[:, 1], -0.74 - 0.16 * np.sqrt(np.clip(1 - (inner[:, 0] / 0.8) ** 2, 0, 1)) + 0.16)
    opening = frame.rim(inner, 0.16 + (CHIN_DEPTH - 0.16) * (depth - depth.min()) / np.ptp(depth))
    cloth = frame.rim(outer, depth * 0.9)
    ring = np.concatenate([cloth, cloth[:1], opening[:1], opening[::-1]])
    brush.fill(ring, color)
    brush.outline(cloth)
    brush.line(opening, shadow_of(shadow_of(color)), max(0.022, brush.ink_width), closed=True)
    for index, share in ((38, 0.35), (40, 0.62)):
        fold = np.stack([cloth[index] * share + opening[index] * (1 - share) for index in range(index, index + 14)])
        brush.line(fold, shadow_of(color), 0.028, alpha=0.7)
