"""All marks in pictures, for whatever sends pictures out: files, live streams, adapters, the user's own code."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.errors import InputError
from emo_rt.media.marking.label import Label
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.marking.pattern import PUBLIC_KEY
from emo_rt.media.marking.watermark import LEAST_SIDE, Laid, Watermark
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import require_type

Frames = NDArray[np.uint8]

RATES = Range(0, 1000, "more than 0, up to 1000 frames per second", is_open=True)
"""Of a video, for the label's times."""


class FrameMarker:
    """Marks the frames of one video, or of one live session. Safe to share between threads.

    It keeps nothing of the video but the pattern in its size, so any number of sessions of different sizes may take
    turns: laying a pattern over a picture takes longer than marking a frame.
    """

    def __init__(self, options: MarkOptions, fps: float) -> None:
        """``fps``: frames per second, of which the label's times are counted. Raises :class:`ConfigError`."""
        check(isinstance(options, MarkOptions), "options", options, "MarkOptions")
        check(RATES.has(fps), "fps", fps, str(RATES))
        key = PUBLIC_KEY if options.watermark_key is None else options.watermark_key
        self._watermark = _watermark(key, options.watermark_payload) if options.watermark else None
        self._label = Label(fps) if options.visible_label else None
        self._kept: tuple[tuple[int, int], Laid] | None = None

    def __call__(self, frames: Frames, start_index: int) -> Frames:
        """(n, H, W, 3) uint8 RGB, the first of which is frame ``start_index`` of the video → marked.

        A new array where there is something to do, else the same. A frame is marked in the same way alone. Raises
        :class:`InputError` for frames of another shape or type, :class:`ConfigError` for another ``start_index``.
        """
        is_index = hasattr(start_index, "__index__") and start_index >= 0  # numpy's integers, too
        check(is_index, "start_index", start_index, "an integer, 0 or more")
        is_picture = isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and frames.ndim == 4
        if not is_picture or frames.shape[3] != 3 or 0 in frames.shape[1:]:
            actual = (getattr(frames, "shape", type(frames)), getattr(frames, "dtype", None))
            raise InputError(f"frames are {actual}; expected shape (n, height, width, 3), uint8")
        if self._label is not None:
            frames = self._label(frames, start_index)
        return frames if self._watermark is None else self._watermark(frames, self._pattern(self._watermark, frames))

    def _pattern(self, watermark: Watermark, frames: Frames) -> Laid | None:
        """Of the size of the frames; ``None`` for those that are too small."""
        size = (frames.shape[1], frames.shape[2])
        if min(size) < LEAST_SIDE:
            return None
        kept = self._kept
        if kept is None or kept[0] != size:
            kept = self._kept = (size, watermark.pattern(*size))
        return kept[1]


def mark(frames: Frames, start_index: int = 0, *, fps: float = 25, options: MarkOptions | None = None) -> Frames:
    """Mark frames as made by a machine, before they leave your program by a way of your own.

    Frames that :class:`emo_rt.VideoWriter`, the server and the adapters send are marked already; arrays of the SDK are
    not. ``frames``: (n, H, W, 3) uint8 RGB; ``start_index``: number of the first of them in its video, 0 or more;
    ``fps``: frames per second; ``options``: which marks, default the watermark that everybody can find. Returns a new
    array. Raises :class:`InputError` for frames of another shape or type, :class:`ConfigError` for other arguments.
    """
    require_type("options", options, MarkOptions)
    marked = FrameMarker(options or MarkOptions(), fps)(frames, start_index)
    return marked.copy() if marked is frames else marked


@lru_cache(maxsize=8)
def _watermark(key: str, payload: int) -> Watermark:
    """Kept, so that all that have the same mark share its patterns."""
    return Watermark(key, payload)
