"""Times are compared only where the numbers agree: what the comparisons with torch share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from emo_rt.errors import EmoRtError
from emo_rt.model.contract import Array


class DisagreementError(EmoRtError):
    """Two ways gave different results: their times must not be compared."""


def psnr(ours: Array, other: Array) -> float:
    """Peak signal-to-noise ratio of uint8 pictures in dB, 100 at most: where they are equal."""
    error = np.mean((ours.astype(np.float64) - other) ** 2)
    return float(min(100.0, 10 * np.log10(255**2 / error))) if error else 100.0


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch with ``count`` threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
