"""Time stretching that keeps the pitch: makes held notes out of vowels (WSOLA: Verhelst and Roelands, 1993)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WINDOW = 512
_HOP = _WINDOW // 2
_SEARCH = 160
"""Samples to each side in which the best match is looked for: 10 ms at 16 kHz, one period of a 100 Hz voice."""


def stretch(samples: NDArray[np.float32], source: Sequence[float], target: Sequence[float]) -> NDArray[np.float32]:
    """Move the samples at `source` to `target` (both rising, in samples, from 0): (N,) -> (target[-1],) float32."""
    total = round(target[-1])
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    padded = np.pad(samples, (_SEARCH + _HOP, _SEARCH + 2 * _WINDOW))
    output = np.zeros(total + 2 * _WINDOW, dtype=np.float32)
    previous = -1
    for start in range(0, total + _HOP, _HOP):
        wanted = int(np.interp(start, target, source)) + _SEARCH
        if previous >= 0:
            wanted = _best_match(padded, previous + _HOP, wanted)
        output[start : start + _WINDOW] += padded[wanted : wanted + _WINDOW] * window
        previous = wanted
    return output[_HOP : _HOP + total]


def _best_match(padded: NDArray[np.float32], natural: int, wanted: int) -> int:
    """Where near `wanted` the sound goes on most like it does at `natural`."""
    if abs(natural - wanted) <= 1 or natural + _WINDOW > len(padded):
        return min(natural, len(padded) - _WINDOW) if abs(natural - wanted) <= 1 else wanted
    low = max(0, wanted - _SEARCH)
    region = padded[low : min(wanted + _SEARCH + _WINDOW, len(padded))]
    template = padded[natural : natural + _WINDOW]
    score = np.correlate(region[::2], template[::2], mode="valid")
    return low + 2 * int(np.argmax(score)) if len(score) else wanted
