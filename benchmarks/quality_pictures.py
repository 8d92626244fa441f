"""Pictures of the quality benchmark: what was said, what was seen, and the lips as curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Curve = NDArray[np.float64]

TRUTH, READ, LOUDNESS = (30, 30, 40), (214, 72, 48), (150, 185, 225)


def contact_sheet(
    portraits: Sequence[Pixels], true: Sequence[Pixels], made: Sequence[Pixels], stride: int = 8
) -> Image.Image:
    """Two rows per person: portrait and true frames; portrait and generated frames."""
    rows = []
    for portrait, truth, video in zip(portraits, true, made, strict=True):
        size = truth.shape[1]
        small = np.array(Image.fromarray(portrait).resize((size, size), Image.Resampling.LANCZOS))
        count = min(len(truth), len(video))
        for frames in (truth[:count:stride], video[:count:stride]):
            rows.append(np.concatenate([small, *frames], axis=1))
    return Image.fromarray(np.concatenate(rows))


def lip_plot(
    truth: Sequence[Curve], read: Sequence[Curve], loudness: Sequence[Curve], width: int = 1000
) -> Image.Image:
    """One strip per person: true opening dark, read opening red, loudness as a light area."""
    height, margin = 110, 12
    image = Image.new("RGB", (width, height * len(truth) + 20), "white")
    draw = ImageDraw.Draw(image)
    draw.text((margin, 4), "mouth opening: truth", fill=TRUTH)
    draw.text((margin + 150, 4), "generated", fill=READ)
    draw.text((margin + 240, 4), "loudness", fill=LOUDNESS)
    for row, curves in enumerate(zip(truth, read, loudness, strict=True)):
        bottom = 20 + (row + 1) * height - margin
        count = min(len(curve) for curve in curves)
        x = np.linspace(margin, width - margin, count)
        lines = [
            list(zip(x.tolist(), (bottom - curve[:count] * (height - 2 * margin)).tolist(), strict=True))
            for curve in curves
        ]
        draw.polygon([(margin, bottom), *lines[2], (width - margin, bottom)], fill=LOUDNESS)
        draw.line([(margin, bottom), (width - margin, bottom)], fill=(200, 200, 200))
        draw.line(lines[0], fill=TRUTH, width=2)
        draw.line(lines[1], fill=READ, width=2)
    return image
