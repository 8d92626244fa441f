"""Soft masks of boxes, pixel for pixel as Hallo draws them with OpenCV, without needing OpenCV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.box import Box
from emo_rt.model.contract import Array

MAP_SIZE = 64
"""Side of the blurred maps, in pixels, whatever the size of the picture."""


def blurred_map(box: Box, size: int, kernel: int) -> NDArray[np.uint8]:
    """The box as a (64, 64) picture with soft edges, stretched to 0 … 255. Rounded as OpenCV rounds in between."""
    picture = np.outer(*(resized(profile, MAP_SIZE) for profile in profiles(box, size)))
    soft = _blurred(np.floor(255 * picture + 0.5).astype(np.int64), kernel)
    low, high = soft.min(), soft.max()
    if low == high:  # the box fills the square
        return np.full_like(soft, 255, np.uint8)
    stretched: NDArray[np.uint8] = np.rint(255 * (soft - low) / (high - low)).astype(np.uint8)
    return stretched


def resized(profile: Array, size: int) -> Array:
    """(n,) → (size,), linear between the centres of pixels, without averaging (OpenCV's INTER_LINEAR)."""
    centres = (np.arange(size) + 0.5) * len(profile) / size - 0.5
    return np.interp(centres, np.arange(len(profile)), profile)


def _blurred(picture: Array, kernel: int) -> Array:
    """Gaussian blur of whole numbers, the borders mirrored around the outermost pixels."""
    weights, padded = _gaussian(kernel), np.pad(picture, kernel // 2, mode="reflect")
    across = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=1) @ weights
    return (np.lib.stride_tricks.sliding_window_view(across, kernel, axis=0) @ weights + (1 << 15)) >> 16


def _gaussian(kernel: int) -> Array:
    """(kernel,) whole numbers with sum 256: OpenCV blurs 8-bit pictures with these, a visible difference after the
    stretch (7 of 255). Sigma follows from the kernel: 8 for 51, 5 for 31. Each weight takes over the rounding error
    of its outer neighbour; the middle one makes up the sum."""
    reach = kernel // 2
    sigma = 0.3 * (reach - 1) + 0.8
    exact = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    outer = np.diff(np.rint(256 * np.cumsum(exact / exact.sum())[:reach]), prepend=0)
    return np.array([*outer, 256 - 2 * outer.sum(), *outer[::-1]], np.int64)


def profiles(box: Box, size: int) -> tuple[Array, Array]:
    """A box as rows and columns, (size,) each, 1 inside; the picture of the box is their outer product."""
    places = np.arange(size)
    rows = (places >= box.top) & (places < box.bottom)
    columns = (places >= box.left) & (places < box.right)
    return rows.astype(np.float64), columns.astype(np.float64)
