"""What is measured on pixels: sharpness of a face, change between frames, PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.media.box import Box

Pixels = NDArray[np.uint8]
Luma = NDArray[np.float32]
"""(H, W) 0 … 255."""

WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue in the luma (ITU-R BT.601)."""
FACE_SIDE = 160
"""Side of the square to which a face is brought before its sharpness is measured, in pixels."""
CELLS = 32
"""The picture's cells across and down in which change is averaged."""
MOST_DB = 100.0
"""PSNR of equal frames."""
SSIM_SIGMA, SSIM_REACH = 1.5, 5
"""Gaussian window of SSIM: 11 × 11 pixels."""


def luma(frame: Pixels) -> Luma:
    """(H, W, 3) uint8 → (H, W)."""
    return np.asarray(frame @ WEIGHTS, np.float32)


def sharpness(frame: Pixels, face: Box) -> float:
    """Fine detail of a face: root mean square of the Laplacian over the standard deviation, in percent.

    The face is brought to :data:`FACE_SIDE` pixels first, so that a small picture that was blown up counts as blurred.
    """
    height, width = frame.shape[:2]
    part = face.clipped(width, height)
    box = (part.left, part.top, part.right, part.bottom)
    size = (FACE_SIDE, FACE_SIDE)
    grey = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, box), np.float32) @ WEIGHTS
    bend = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(100 * np.sqrt(np.mean(np.square(bend))) / max(float(grey.std()), 1e-3))


def cell_means(values: Luma) -> NDArray[np.float32]:
    """(H, W) → (cells, cells): means of rectangles of almost the same size."""
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)), np.float32)


def cells_of(face: Box, height: int, width: int) -> NDArray[np.bool_]:
    """(cells, cells): those that a box touches."""
    place = face.scaled(CELLS / width, CELLS / height)
    rows, columns = np.arange(CELLS)[:, None], np.arange(CELLS)[None]
    inside = (rows + 1 > place.top) & (rows < place.bottom) & (columns + 1 > place.left) & (columns < place.right)
    return np.asarray(inside)


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio of two frames in dB, :data:`MOST_DB` at most."""
    error = float(np.mean(np.square(first.astype(np.float32) - second)))
    return min(MOST_DB, 10 * float(np.log10(255**2 / error))) if error else MOST_DB


def ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity of two frames' luma, −1 … 1 (Wang et al. 2004): 11 × 11 Gaussian window, valid part only.

    Frames smaller than the window in one direction are compared as wholes.
    """
    one, two = luma(first).astype(np.float64), luma(second).astype(np.float64)
    mean_1, mean_2 = _blurred(one), _blurred(two)
    spread_1 = _blurred(one * one) - mean_1**2
    spread_2 = _blurred(two * two) - mean_2**2
    shared = _blurred(one * two) - mean_1 * mean_2
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_1 * mean_2 + c_1) * (2 * shared + c_2)
    below = (mean_1**2 + mean_2**2 + c_1) * (spread_1 + spread_2 + c_2)
    return float(np.mean(above / below))


def _blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = np.arange(-SSIM_REACH, SSIM_REACH + 1)
    window = np.exp(-0.5 * np.square(reach / SSIM_SIGMA))
    window /= window.sum()
    for axis in (0, 1):
        count = values.shape[axis] - 2 * SSIM_REACH
        if count < 1:
            values = values.mean(axis=axis, keepdims=True)
            continue
        parts = (np.take(values, range(start, start + count), axis) for start in range(len(window)))
        values = np.asarray(sum(weight * part for weight, part in zip(window, parts, strict=True)))
    return values
