"""Losses over time: one JSON line per some steps, and a picture of the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

EVERY = 20
"""Steps that are averaged into one line."""
INK = ((38, 84, 160), (196, 78, 60), (60, 140, 90), (140, 90, 170), (200, 150, 40), (90, 90, 90))


class Journal:
    """Collects losses and writes them to ``<name>.jsonl`` and ``<name>.png``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.rows: list[dict[str, float]] = [json.loads(line) for line in text.splitlines()]
        self._pending: list[Mapping[str, float]] = []

    def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Losses of one step; ``seconds`` of training so far."""
        self._pending.append(values)
        if len(self._pending) == EVERY:
            means = {key: float(np.mean([row[key] for row in self._pending])) for key in values}
            self.rows.append({"step": step, "seconds": round(seconds, 1), **means})
            self._pending.clear()

    def keep_until(self, step: int) -> None:
        """Forget what came after a checkpoint."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def write(self) -> None:
        """Write both files."""
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        if len(self.rows) >= 2:
            plot(self.rows).save(self.path.with_suffix(".png"))


def plot(rows: list[dict[str, float]], width: int = 900, height: int = 480) -> Image.Image:
    """Smoothed losses over steps, logarithmic."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    names = [name for name in rows[-1] if name not in ("step", "seconds", "gradient")]
    steps = np.array([row["step"] for row in rows])
    curves = {name: np.log10(smoothed([row.get(name, np.nan) for row in rows])) for name in names}
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max()) + 1e-6
    left, top, right, bottom = 60, 20, width - 20, height - 40
    for tick in range(5):
        share = tick / 4
        y = bottom - share * (bottom - top)
        draw.line([(left, y), (right, y)], fill=(225, 225, 225))
        draw.text((6, y - 6), f"{10 ** (low + share * (high - low)):.3g}", fill="black")
        draw.text((left + share * (right - left) - 12, bottom + 8), f"{int(share * steps[-1])}", fill="black")
    for index, (name, curve) in enumerate(curves.items()):
        x = left + (right - left) * steps / steps[-1]
        y = bottom - (bottom - top) * (curve - low) / (high - low)
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
        draw.line(points, fill=INK[index % len(INK)], width=2)
        draw.text((right - 120, top + 14 * index), name, fill=INK[index % len(INK)])
    return image


def smoothed(values: list[float], keep: float = 0.9) -> np.ndarray:
    """A running mean that forgets."""
    result, mean = [], float("nan")
    for value in values:
        mean = value if np.isnan(mean) else keep * mean + (1 - keep) * value
        result.append(max(mean, 1e-9))
    return np.array(result)
