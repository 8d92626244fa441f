"""Features of whole frames for FID, by an Inception network that the user names as ONNX.

The picture goes in as pytorch-fid (Seitzer 2020) gives it to its network: resized by bilinear interpolation without
averaging, pixel centres at half, values −1 … 1. FIDs of other resizings are not comparable (Parmar et al. 2022).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.onnx_network import OnnxNetwork
from emo_rt.model.metric_networks import INPUTS

SIDE = INPUTS["inception"]["picture"][-1]
"""Pixels of the network's picture, unless the file says otherwise."""


class Inception(OnnxNetwork):
    """(1, 3, s, s) float32 RGB in −1 … 1 → (1, d) or (1, d, 1, 1): for FID, the 2048 numbers of the last pooling."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`InputError` for a file that cannot be used, :class:`MissingDependencyError`."""
        super().__init__(path, "Inception (FID)")
        side = self._session.inputs[0].shape[-1]
        self._side = side if isinstance(side, int) else SIDE

    def features(self, frame: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(H, W, 3) uint8 → (d,). Raises :class:`InputError` where the network does not take such a picture."""
        picture = bilinear(frame, self._side) / np.float32(127.5) - 1
        return self.run_one(picture.transpose(2, 0, 1)[None].astype(np.float32))


def bilinear(picture: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """(H, W, 3) → (side, side, 3) float32, 0 … 255, as ``torch.nn.functional.interpolate(align_corners=False)``."""
    values = picture.astype(np.float32)
    for axis in (0, 1):
        count = values.shape[axis]
        places = np.maximum((np.arange(side) + 0.5) * (count / side) - 0.5, 0)
        first = places.astype(int)
        shape = [1, 1, 1]
        shape[axis] = side
        share = (places - first).astype(np.float32).reshape(shape)
        second = np.minimum(first + 1, count - 1)
        values = values.take(first, axis) * (1 - share) + values.take(second, axis) * share
    return values
