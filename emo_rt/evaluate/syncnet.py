"""LSE-C and LSE-D (Prajwal et al. 2020): how well lips and sound fit, by SyncNet (Chung and Zisserman 2016).

A window of five frames is held against the sound of the same moment and of up to 15 frames before and after. LSE-D is
the smallest mean distance over these shifts, LSE-C the median of the mean distances minus the smallest. Videos of other
rates are looked at 25 times a second. Crops are those of ``syncnet_python``, around the box of our face mesh instead of
its detector's, so numbers of other face detectors differ a little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.evaluate.cepstra import cepstra
from emo_rt.evaluate.onnx_network import OnnxNetwork
from emo_rt.media.box import Box
from emo_rt.model.metric_networks import INPUTS

Values = NDArray[np.float64]
Pixels = NDArray[np.uint8]

RATE, SAMPLES = 25, 640
"""Frames a second, and samples of 16 kHz sound in one."""
_, FRAMES, SIDE, _ = INPUTS["syncnet"]["lips"]
STEPS = INPUTS["syncnet"]["sound"][-1] // FRAMES
"""Steps of the cepstral coefficients in a frame."""
SHIFT = 15
"""Frames by which the sound is moved."""
MARGIN, GREY, SMOOTH = 0.4, 110, 13
"""Room around the face in half boxes, what is outside the picture, and frames of the median over places."""


class SyncNet(OnnxNetwork):
    """``lips`` (1, 3, 5, 224, 224) BGR 0 … 255 and ``sound`` (1, 1, 13, 20) → two vectors (1, 1024)."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`InputError`, :class:`MissingDependencyError`."""
        super().__init__(path, "SyncNet (LSE-C, LSE-D)", "syncnet")

    def distances(self, crops: Iterable[Pixels], sound: NDArray[np.float32]) -> Values:
        """Crops (224, 224, 3) RGB, 25 a second, and their sound (n,) at 16 kHz → (windows, 31)."""
        heard = cepstra(np.round(32_767 * sound.clip(-1, 1)).astype(np.int16))
        window: deque[NDArray[np.float32]] = deque(maxlen=FRAMES)
        pairs: list[tuple[Values, Values]] = []
        index, last = -1, -1
        for index, crop in enumerate(crops):
            window.append(crop[..., ::-1].astype(np.float32))
            start = index - FRAMES + 1
            part = heard[STEPS * start : STEPS * (start + FRAMES)] if start >= 0 else heard[:0]
            if len(part) < STEPS * FRAMES or (start + FRAMES + 1) * SAMPLES > len(sound):
                continue
            lips = np.stack(window).transpose(3, 0, 1, 2)[None]
            seen, told = self.run(lips=lips, sound=part.T[None, None].astype(np.float32))
            pairs.append((seen[0], told[0]))
            last = start
        if pairs and last == index - FRAMES + 1:  # the public code leaves the video's last window out
            pairs.pop()
        if not pairs:
            return np.zeros((0, 2 * SHIFT + 1))
        return shifted_distances(*(np.stack(side) for side in zip(*pairs, strict=True)))


def shifted_distances(seen: Values, heard: Values) -> Values:
    """(n, d), (n, d) → (n, 31): from window i to the sound i − 15 … i + 15; beyond the ends there are zeros."""
    padded = np.pad(heard, ((SHIFT, SHIFT), (0, 0)))
    columns = [np.linalg.norm(seen - padded[s : s + len(seen)] + 1e-6, axis=1) for s in range(2 * SHIFT + 1)]
    return np.stack(columns, axis=1)


def best_shift(means: Values) -> int:
    """(31,) mean distances → the place of the smallest."""
    return int(means.argmin())


def lse_d(means: Values, shift: int) -> Values:
    """(…, 31) mean distances → (…,) that of the best shift."""
    return np.asarray(means[..., shift])


def lse_c(means: Values, shift: int) -> Values:
    """(…, 31) mean distances → (…,) how far the best shift's is below the median."""
    return np.asarray(np.median(means, axis=-1) - means[..., shift])


def face_crops(frames: Iterable[Pixels], boxes: Sequence[Box | None], fps: float) -> Iterator[Pixels]:
    """(224, 224, 3) 25 times a second: the face with some room, more below than above."""
    places = smoothed_places(boxes)
    for index, frame in enumerate(frames):
        first, end = (int(np.ceil((at - 0.5) * RATE / fps - 1e-9)) for at in (index, index + 1))
        if end <= max(first, 0):
            continue
        crop = _crop(frame, *places[index])
        for _ in range(max(first, 0), end):
            yield crop


def smoothed_places(boxes: Sequence[Box | None]) -> Values:
    """(T, 3): middle across and down and half the side; between frames with a face on a straight line, then medians."""
    known = [index for index, box in enumerate(boxes) if box is not None]
    rows = np.array([
        ((b.left + b.right) / 2, (b.top + b.bottom) / 2, max(b.width, b.height) / 2) for b in boxes if b is not None
    ])  # fmt: skip
    columns = [np.interp(np.arange(len(boxes)), known, column) for column in rows.T]
    padded = np.pad(np.stack(columns, axis=1), ((SMOOTH // 2, SMOOTH // 2), (0, 0)), mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, SMOOTH, axis=0), axis=-1))


def _crop(frame: Pixels, across: float, down: float, half: float) -> Pixels:
    room = int(half * (1 + 2 * MARGIN)) + 1
    padded = np.pad(frame, ((room, room), (room, room), (0, 0)), constant_values=GREY)
    x, y = across + room, down + room
    box = (x - half * (1 + MARGIN), y - half, x + half * (1 + MARGIN), y + half * (1 + 2 * MARGIN))
    height, width = padded.shape[:2]
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
    return np.array(Image.fromarray(padded).resize((SIDE, SIDE), Image.Resampling.BILINEAR, inside))
