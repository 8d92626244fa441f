"""Features of short clips, for FVD (Unterthiner et al. 2018): I3D's logits of 16 frames at 224 × 224 pixels."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.inception import bilinear
from emo_rt.evaluate.onnx_network import OnnxNetwork
from emo_rt.model.metric_networks import INPUTS

_, FRAMES, SIDE, _ = INPUTS["i3d"]["clip"]
"""Frames and pixels of a clip."""
EVERY = 8
"""Frames from the start of one clip to that of the next: each frame is in two."""

Features = NDArray[np.float64]


class I3D(OnnxNetwork):
    """(1, 3, 16, 224, 224) float32 RGB in −1 … 1 → (1, 400)."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`InputError`, :class:`MissingDependencyError`."""
        super().__init__(path, "I3D, Kinetics-400 (FVD)", "i3d")


class ClipFeatures:
    """Takes the frames of one video in order, keeps no more than a clip."""

    def __init__(self, network: I3D) -> None:
        self._network = network
        self._kept: deque[NDArray[np.float32]] = deque(maxlen=FRAMES)
        self._count = 0
        self._found: list[Features] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """One frame (H, W, 3)."""
        self._kept.append(bilinear(frame, SIDE) / np.float32(127.5) - 1)
        self._count += 1
        if self._count >= FRAMES and (self._count - FRAMES) % EVERY == 0:
            clip = np.stack(self._kept).transpose(3, 0, 1, 2)[None]
            self._found.append(self._network.run(clip=np.ascontiguousarray(clip))[0][0])

    @property
    def features(self) -> Features | None:
        """(n, 400); ``None`` where the video is shorter than a clip."""
        return np.stack(self._found) if self._found else None
