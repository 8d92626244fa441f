"""Measures of the pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.intervals import Sample
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]

STILL_SHARE = 0.5
"""Share of the cells outside the face that counts as still background."""
FROZEN_SHARE = 0.1
"""Change, in median changes of the video, below which the face stands still."""


def sharpness(reading: Reading, context: Context) -> Sample | str:
    """Mean over frames."""
    return Sample.of(reading.sharpness, reading.fps)


def background_flicker(reading: Reading, context: Context) -> Sample | str:
    """Mean change in the stillest cells."""
    outside = ~reading.face_cells
    if len(reading) < 2 or outside.sum() < 2:
        return "the face fills the picture, or there is one frame only"
    change = reading.cell_change[:, outside].astype(np.float64)
    rest = np.argsort(np.nanmean(change[1:], axis=0))[: max(1, int(STILL_SHARE * outside.sum()))]
    return Sample.of(change[:, rest].mean(axis=1), reading.fps)


def frozen_frames(reading: Reading) -> Values:
    """(T,) 1 where the face stands still, else 0; NaN where that is not known."""
    change = reading.face_change
    known = change[np.isfinite(change)]
    least = FROZEN_SHARE * float(np.median(known)) if len(known) else 0.0
    return np.where(np.isfinite(change), (change <= least).astype(np.float64), np.nan)


def frozen(reading: Reading, context: Context) -> Sample | str:
    """Share of frozen frames in percent."""
    return Sample.of(100 * frozen_frames(reading), reading.fps)


def border_jump(reading: Reading, context: Context) -> Sample | str:
    """Change across the borders of clips over change inside them."""
    if context.clip_frames is None:
        return "needs the clip length: --clip-frames"
    border = np.arange(len(reading)) % context.clip_frames == 0
    border[0] = False
    change = reading.face_change
    if not np.isfinite(change[border]).any():
        return f"the video has no border of clips of {context.clip_frames} frames"
    parts = np.stack([np.where(border, change, np.nan), np.where(border, np.nan, change)], axis=1)
    return Sample.of(parts, reading.fps, lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-6))


def face_found(reading: Reading, context: Context) -> Sample | str:
    """Share in percent."""
    return Sample.of(100 * reading.found.astype(np.float64), reading.fps)


def length_gap(reading: Reading, context: Context) -> Sample | str:
    """Picture minus sound in milliseconds; one number for a video."""
    if reading.audio_s is None:
        return "the video has no sound track"
    return Sample.of(np.array([1000 * (reading.video_s - reading.audio_s)]), reading.fps)
