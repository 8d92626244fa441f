"""Samples of sound in arrays: what is accepted, and its way to float32."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import AudioError

Samples: TypeAlias = NDArray[np.float32]
"""(n,) or (n, channels), about -1 … 1."""

SAMPLE_RATES = range(1_000, 768_001)
"""Rates that make sense for a voice, in Hz; anything else is a damaged header or a wrong argument."""
MAX_CHANNELS = 64
"""More channels than this is an array with its axes swapped."""
MAX_PEAK = 16.0
"""Float samples are in -1 … 1. Loud codecs overshoot a little; beyond 24 dB the numbers are integers in disguise."""


def mono_block(block: NDArray[Any]) -> Samples:
    """(n,) or (n, channels), float, int16 or int32 → (n,) float32, the mean of the channels.

    Raises :class:`AudioError` for samples that cannot be used.
    """
    columns = as_float(as_columns(block))
    check_level(columns, "the audio")
    return mix_to_mono(columns)


def checked_rate(sample_rate: object) -> int:
    """A rate in Hz. Raises :class:`AudioError` for a number that is none, or outside :data:`SAMPLE_RATES`."""
    try:
        rate = operator.index(sample_rate)  # type: ignore[arg-type]
    except TypeError:
        raise AudioError(f"sample_rate is {sample_rate!r}; expected a whole number of Hz") from None
    if rate not in SAMPLE_RATES:
        raise AudioError(f"sample_rate is {rate} Hz; expected {SAMPLE_RATES[0]} … {SAMPLE_RATES[-1]} Hz")
    return rate


def as_columns(array: NDArray[Any]) -> NDArray[Any]:
    """(n,) or (n, channels) → (n, channels), a view."""
    columns = array[:, None] if array.ndim == 1 else array
    if columns.ndim != 2 or not 1 <= columns.shape[1] <= MAX_CHANNELS:
        raise AudioError(
            f"the audio array has shape {array.shape}; expected (samples,) or (samples, channels) with at most "
            f"{MAX_CHANNELS} channels. Transpose it if the channels come first"
        )
    return columns


def as_float(array: NDArray[Any]) -> Samples:
    """float, int16 or int32 → float32 in about -1 … 1, same shape."""
    if array.dtype.kind == "i" and array.dtype.itemsize in (2, 4):
        scale = np.float64(2 ** (8 * array.dtype.itemsize - 1))
        return (array / scale).astype(np.float32)
    if array.dtype.kind != "f":
        raise AudioError(f"the audio array is {array.dtype}; expected float in -1 … 1, int16 or int32")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
        return array.astype(np.float32, copy=False)


def mix_to_mono(block: Samples) -> Samples:
    """(n, channels) → (n,), the mean. Channel by channel: the last bit of numpy's own sum depends on memory layout."""
    mono: Samples = block[:, 0].astype(np.float32)
    for channel in range(1, block.shape[1]):
        mono += block[:, channel]
    mono /= np.float32(block.shape[1])
    return mono


def check_level(block: Samples, name: str) -> None:
    """Raise :class:`AudioError` for samples that are not finite, or far beyond -1 … 1."""
    peak = float(np.abs(block).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{name} has samples that are not finite; replace NaN and infinity with 0")
    if peak > MAX_PEAK:
        raise AudioError(f"{name} peaks at {peak:g}; expected floats in -1 … 1: divide, or pass int16 or int32")
