"""Small charts without a plotting library: bars and lines, as SVG, as a page of HTML around it, or as PNG (Pillow)."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from emo_rt.benchmarks.harness import write_text
from emo_rt.errors import ConfigError, OutputError

WIDTH, ROW, MARGIN, LABEL, VALUE = 720, 34, 24, 110, 150
"""Pixels: picture, a bar's row, edge, room for names on the left and for figures on the right."""
INK, BAR, GRID = "#222222", "#3b6ea5", "#d0d0d0"
LINES = ("#3b6ea5", "#c0504d", "#6a9a3a", "#8064a2", "#d08020", "#2a9d9d", "#555555", "#d46aa6", "#8c6d46")
"""Colours of lines, in order."""
FEW = 8
"""With up to this many values of x, each gets a label. With more, round numbers are labelled."""
KEYS, KEY, LEAD = 4, 170, 20
"""The legend: names per row, width of a name and height of a row in pixels."""
FORMATS = (".html", ".svg", ".png")
SIZE = 14
"""Height of letters in pixels."""


@dataclass
class Drawing:
    """Rectangles, lines and words, to be written in one of :data:`FORMATS`."""

    title: str
    """Heading."""
    height: int
    """Pixels."""
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    """Left, top, width, height, colour."""
    lines: list[tuple[tuple[tuple[float, float], ...], str]] = field(default_factory=list)
    """Points, colour."""
    words: list[tuple[float, float, str, str]] = field(default_factory=list)
    """Left or right edge, middle of the line, anchor ``start`` or ``end``, text."""


def check_name(path: Path) -> None:
    """Raise :class:`ConfigError` unless the file's name ends in one of :data:`FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path} is no name for a chart; it must end in {', '.join(FORMATS)}")


def write(path: Path, bars: Sequence[tuple[str, float]], title: str = "Where the time of one clip goes") -> None:
    """Names and seconds as a bar chart. Raises :class:`ConfigError` for another ending, :class:`OutputError`."""
    save(path, bar_chart(title, bars))


def save(path: Path, drawing: Drawing) -> None:
    """Write a drawing in the format that the file's name says."""
    check_name(path)
    if path.suffix.lower() == ".png":
        try:
            as_picture(drawing).save(path)
        except OSError as exc:
            raise OutputError(f"cannot write {path}: {exc}") from exc
        return
    svg = as_svg(drawing)
    page = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(drawing.title)}</title>\n{svg}'
    write_text(path, page if path.suffix.lower() == ".html" else svg)


def bar_chart(title: str, bars: Sequence[tuple[str, float]]) -> Drawing:
    """Horizontal bars, each with its time and its share."""
    drawing = Drawing(title, 2 * MARGIN + ROW * (len(bars) + 1))
    longest, total = max(value for _, value in bars) or 1.0, sum(value for _, value in bars) or 1.0
    drawing.words.append((MARGIN, MARGIN + ROW / 2, "start", title))
    for number, (name, value) in enumerate(bars):
        top = MARGIN + ROW * (number + 1)
        width = (WIDTH - 2 * MARGIN - LABEL - VALUE) * value / longest
        drawing.boxes.append((MARGIN + LABEL, top + 5, max(width, 1), ROW - 10, BAR))
        drawing.words.append((MARGIN + LABEL - 10, top + ROW / 2, "end", name))
        text = f"{1000 * value:,.1f} ms   {100 * value / total:.1f} %"
        drawing.words.append((MARGIN + LABEL + width + 8, top + ROW / 2, "start", text))
    return drawing


def line_chart(
    title: str,
    along: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    log: bool = False,
    bottom: float = 0.0,
) -> Drawing:
    """Lines through (x, y) points; ``along``: what x is; ``log``: x in powers of ten (x > 0); ``bottom``: lowest y."""
    extra = LEAD * ((len(series) - 1) // KEYS)
    drawing = Drawing(title, 360 + extra)
    left, right, highest, lowest = MARGIN + 70, WIDTH - MARGIN, MARGIN + 60 + extra, drawing.height - MARGIN - 40
    xs, ys = zip(*[point for row in series.values() for point in row], strict=True)
    start, height = _scaled(min(xs), log), (max(ys) - bottom) or 1.0
    span = (_scaled(max(xs), log) - start) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (_scaled(x, log) - start) / span * (right - left)
        return across, lowest - (y - bottom) / height * (lowest - highest)

    drawing.words.append((MARGIN, MARGIN + 8, "start", title))
    for share in (0, 0.25, 0.5, 0.75, 1):
        level = lowest - share * (lowest - highest)
        drawing.lines.append((((left, level), (right, level)), GRID))
        drawing.words.append((left - 8, level, "end", f"{bottom + share * height:.3g}"))
    named = sorted(set(xs))
    for x in named if len(named) <= FEW else ticks(named[0], named[-1], log):
        across, _ = place(x, bottom)
        drawing.lines.append((((across, lowest), (across, lowest + 5)), INK))
        drawing.words.append((across, lowest + 16, "end" if across > right - 20 else "start", f"{x:g}"))
    drawing.words.append((right, lowest + 38, "end", along))
    for number, (name, row) in enumerate(series.items()):
        colour, points = LINES[number % len(LINES)], tuple(place(x, y) for x, y in row)
        drawing.lines.append((points, colour))
        drawing.boxes += [(x - 3, y - 3, 6, 6, colour) for x, y in points]
        key, top = MARGIN + KEY * (number % KEYS), MARGIN + 26 + LEAD * (number // KEYS)
        drawing.boxes.append((key, top, 12, 12, colour))
        drawing.words.append((key + 18, top + 6, "start", name))
    return drawing


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers from ``low`` to ``high``: 1, 2, 5 times powers of ten, or (not ``log``) equal steps like that."""
    first, last = math.floor(math.log10(low if log else (high - low) or 1)) - 1, math.ceil(math.log10(high or 1))
    rounds = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
    if log:
        return [value for value in rounds if low <= value <= high] or [low, high]
    step = next(value for value in rounds if high - low <= 6 * value)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def as_svg(drawing: Drawing) -> str:
    """One ``<svg>`` element."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {drawing.height}" width="{WIDTH}" '
        f'height="{drawing.height}" font-family="sans-serif" font-size="{SIZE}">',
        f'<rect width="{WIDTH}" height="{drawing.height}" fill="white"/>',
    ]
    for points, colour in drawing.lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for left, top, width, height, colour in drawing.boxes:
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
    for x, y, anchor, text in drawing.words:
        middle = 'dominant-baseline="middle"'
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {middle} fill="{INK}">{html.escape(text)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def as_picture(drawing: Drawing) -> Image.Image:
    """The same in pixels."""
    picture = Image.new("RGB", (WIDTH, drawing.height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(SIZE)
    for points, colour in drawing.lines:
        pen.line(points, fill=colour, width=2)
    for left, top, width, height, colour in drawing.boxes:
        pen.rectangle((left, top, left + width, top + height), fill=colour)
    for x, y, anchor, text in drawing.words:
        pen.text((x, y), text, fill=INK, font=font, anchor="lm" if anchor == "start" else "rm")
    return picture


def _scaled(x: float, log: bool) -> float:
    return math.log10(x) if log else x
