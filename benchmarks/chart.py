"""A bar chart of seconds: SVG, or a page of HTML around it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from emo_rt.benchmarks.harness import write_text
from emo_rt.errors import ConfigError

WIDTH, ROW, LABEL, VALUE = 720, 34, 130, 170
"""Pixels: picture, a bar's row, room for names on the left and for figures on the right."""
BAR = "#3b6ea5"
FORMATS = (".html", ".svg")


def check_name(path: Path) -> None:
    """Raise :class:`ConfigError` unless the file's name ends in one of :data:`FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path} is no name for a chart; it must end in {', '.join(FORMATS)}")


def write(path: Path, bars: Sequence[tuple[str, float]], title: str = "Where the time of one clip goes") -> None:
    """Names and seconds as bars, with times and shares. Raises :class:`ConfigError`, :class:`OutputError`."""
    check_name(path)
    svg = as_svg(bars, title)
    page = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n{svg}'
    write_text(path, page if path.suffix.lower() == ".html" else svg)


def as_svg(bars: Sequence[tuple[str, float]], title: str) -> str:
    """One ``<svg>`` element."""
    height = ROW * (len(bars) + 1)
    longest, total = max(value for _, value in bars) or 1.0, sum(value for _, value in bars) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="14" dominant-baseline="middle"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="{ROW / 2}">{html.escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(bars, start=1):
        middle, length = ROW * (number + 0.5), max((WIDTH - LABEL - VALUE) * value / longest, 1)
        figures = f"{1000 * value:,.1f} ms   {100 * value / total:.1f} %"
        parts += [
            f'<text x="{LABEL - 10}" y="{middle}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{LABEL}" y="{middle - 12}" width="{length:.1f}" height="24" fill="{BAR}"/>',
            f'<text x="{LABEL + length + 8:.1f}" y="{middle}">{figures}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
