"""A small layer over Skia: fills, lines and clips for numpy curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import starmap

import skia

from training.world.geometry import Points
from training.world.palettes import Color


def argb(color: Color, alpha: float = 1.0) -> int:
    """A colour as Skia wants it: 0xAARRGGBB."""
    red, green, blue = color
    return (round(255 * alpha) << 24) | (red << 16) | (green << 8) | blue


def path_of(points: Points, closed: bool = True) -> skia.Path:
    """A polygon path through (N, 2) points."""
    return skia.Path.Polygon(list(starmap(skia.Point, points.tolist())), closed)


def linear(start: Sequence[float], end: Sequence[float], colors: Sequence[int]) -> skia.Shader:
    """A gradient along a line of the stage."""
    return skia.GradientShader.MakeLinear([skia.Point(*start), skia.Point(*end)], list(colors))


def radial(centre: Sequence[float], radius: float, colors: Sequence[int]) -> skia.Shader:
    """A gradient from a point outwards."""
    return skia.GradientShader.MakeRadial(skia.Point(*centre), radius, list(colors))


@lru_cache(maxsize=1024)
def _soft_paint(color: Color, alpha: float) -> skia.Paint:
    """Paint for a unit circle: full in the middle, nothing at the edge."""
    colors = [argb(color, alpha), argb(color, alpha * 0.75), argb(color, alpha * 0.25), argb(color, 0.0)]
    shader = skia.GradientShader.MakeRadial(skia.Point(0, 0), 1.0, colors, [0.0, 0.35, 0.7, 1.0])
    return skia.Paint(AntiAlias=True, Shader=shader)


class Brush:
    """Draws on one canvas with one identity's outline ink (`ink_width` 0 means no outlines)."""

    def __init__(self, canvas: skia.Canvas, ink: Color, ink_width: float) -> None:
        self.canvas = canvas
        self.ink = ink
        self.ink_width = ink_width
        self._fill = skia.Paint(AntiAlias=True)
        self._stroke = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeCap=skia.Paint.kRound_Cap)
        self._stroke.setStrokeJoin(skia.Paint.kRound_Join)

    def fill(self, points: Points, color: Color, alpha: float = 1.0, shader: skia.Shader | None = None) -> None:
        """Fill a closed curve; a shader, if given, wins over the colour."""
        paint = self._fill
        if shader is not None:
            paint = skia.Paint(AntiAlias=True, Shader=shader)
        else:
            paint.setColor(argb(color, alpha))
        self.canvas.drawPath(path_of(points), paint)

    def line(self, points: Points, color: Color, width: float, alpha: float = 1.0, closed: bool = False) -> None:
        """Stroke a curve with round ends; `width` in stage units."""
        self._stroke.setColor(argb(color, alpha))
        self._stroke.setStrokeWidth(width)
        self.canvas.drawPath(path_of(points, closed), self._stroke)

    def outline(self, points: Points, closed: bool = True, scale: float = 1.0) -> None:
        """Stroke with the identity's ink, if it has any."""
        if self.ink_width > 0:
            self.line(points, self.ink, self.ink_width * scale, closed=closed)

    def shape(self, points: Points, color: Color, shader: skia.Shader | None = None) -> None:
        """Fill a closed curve and outline it."""
        self.fill(points, color, shader=shader)
        self.outline(points)

    def glow(
        self, centre: Sequence[float], rx: float, ry: float, color: Color, alpha: float, turn_deg: float = 0.0
    ) -> None:
        """A soft spot: an ellipse without an edge."""
        canvas = self.canvas
        canvas.save()
        canvas.translate(float(centre[0]), float(centre[1]))
        canvas.rotate(turn_deg)
        canvas.scale(rx, ry)
        canvas.drawCircle(0, 0, 1, _soft_paint(color, alpha))
        canvas.restore()

    @contextmanager
    def clip(self, points: Points) -> Iterator[None]:
        """Draw only inside a closed curve."""
        self.canvas.save()
        self.canvas.clipPath(path_of(points), skia.ClipOp.kIntersect, True)
        try:
            yield
        finally:
            self.canvas.restore()

    def group(self, parts: Sequence[Points], color: Color, shader: skia.Shader | None = None) -> None:
        """Fill curves that form one shape: the ink runs around their union, not through it."""
        for part in parts:
            self.outline(part, scale=2.0)
        for part in parts:
            self.fill(part, color, shader=shader)
