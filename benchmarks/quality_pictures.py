"""A picture of the quality benchmark: portraits, true frames and generated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


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
