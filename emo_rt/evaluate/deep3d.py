"""Expression coefficients of a 3D face model, for the paper's E-FID: the ResNet-50 of Deep3DFaceRecon.

The face is scaled and moved, never turned, so that its five points come nearest to those of the model's mean face
(Deng et al. 2019).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.errors import InputError
from emo_rt.evaluate.onnx_network import OnnxNetwork
from emo_rt.faces.align import Points
from emo_rt.model.aligned_face import five_points
from emo_rt.model.metric_networks import INPUTS, MEAN_FACE

SIDE = INPUTS["deep3d"]["picture"][-1]
"""Pixels of the crop."""
FACE_SCALE = 102.0
"""Pixels of the crop that one unit of the mean face takes."""
SMALLEST = 1e-6

Vector = NDArray[np.float64]


class Deep3D(OnnxNetwork):
    """(1, 3, 224, 224) float32 RGB in 0 … 1 → (1, 64)."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`InputError`, :class:`MissingDependencyError`."""
        super().__init__(path, "Deep3DFaceRecon (E-FID)", "deep3d")
        try:
            self._mean_face = np.array(json.loads(self.metadata[MEAN_FACE]), np.float64).reshape(5, 3)
        except (KeyError, ValueError) as exc:
            raise InputError(f"{path} has no mean face ({exc}); convert it again with --mean-face") from exc

    def expression(self, frame: NDArray[np.uint8], landmarks: Points) -> Vector:
        """(64,) of one face. ``frame``: (H, W, 3); ``landmarks``: (478, 2 or 3) in its pixels."""
        crop = aligned_crop(frame, five_points(landmarks), self._mean_face).astype(np.float32) / np.float32(255)
        return np.asarray(self.run(picture=crop.transpose(2, 0, 1)[None])[0][0])


def aligned_crop(frame: NDArray[np.uint8], points: Points, mean_face: Vector) -> NDArray[np.uint8]:
    """(224, 224, 3): ``points`` (5, 2) in pixels, ``mean_face`` (5, 3) with y upwards.

    Scale and place by weak perspective: rows of an affine map by least squares, their mean length as the scale.
    """
    height, width = frame.shape[:2]
    upwards = np.stack([points[:, 0], height - 1 - points[:, 1]], axis=1)
    rows, *_ = np.linalg.lstsq(np.c_[mean_face, np.ones(5)], upwards, rcond=None)
    scale = FACE_SCALE / max(float(np.linalg.norm(rows[:3], axis=0).mean()), SMALLEST)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    left = int(size[0] / 2 - SIDE / 2 + (rows[3, 0] - width / 2) * scale)
    top = int(size[1] / 2 - SIDE / 2 + (height / 2 - rows[3, 1]) * scale)
    image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
    return np.array(image.crop((left, top, left + SIDE, top + SIDE)))
