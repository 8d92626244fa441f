"""Expression coefficients of a 3D face model, for E-FID: the ResNet-50 of Deep3DFaceRecon (Deng et al. 2019).

Of the 257 coefficients that it gives, EMO's E-FID takes the 64 of expression. Its crops are aligned to five points of
the model's mean face, which come with it (``BFM/similarity_Lm3D_all.mat``) and go into the file's metadata.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
from numpy.typing import NDArray

from emo_rt.errors import CheckpointError
from emo_rt.export.metrics.layers import Layers, Weights
from emo_rt.model.metric_networks import MEAN_FACE

DEPTHS = (3, 4, 6, 3)
"""Blocks of each stage."""
EXPRESSION = 1
"""Which of the last layers gives expression."""
OF_68 = ((36, 39), (42, 45), (30,), (48,), (54,))
"""The five points, as means of the 68 landmarks of Multi-PIE."""


def deep3d(weights: Weights, mean_face: NDArray[np.float64]) -> onnx.ModelProto:
    """``picture`` (n, 3, 224, 224) float32 RGB 0 … 1 → ``features`` (n, 64). ``mean_face``: (68, 3) landmarks."""
    if mean_face.shape != (68, 3):
        raise CheckpointError(f"the mean face has landmarks of {mean_face.shape}; expected (68, 3)")
    layers = Layers({name.removeprefix("module."): value for name, value in weights.items()})
    x = layers.conv("picture", "backbone.conv1", "backbone.bn1", strides=2, pads=3)
    x = layers.pool(x, "MaxPool", (3, 3), (2, 2), 1)
    for stage, depth in enumerate(DEPTHS, 1):
        for block in range(depth):
            x = _bottleneck(layers, x, f"backbone.layer{stage}.{block}", 2 if stage > 1 and not block else 1)
    x = layers.node("GlobalAveragePool", [x])
    x = layers.node("Flatten", [layers.conv(x, f"final_layers.{EXPRESSION}", relu=False)], axis=1)
    five = [mean_face[list(group)].mean(axis=0).tolist() for group in OF_68]
    return layers.model("deep3d", {"features": x}, {MEAN_FACE: json.dumps(five)})


def _bottleneck(layers: Layers, x: str, name: str, stride: int) -> str:
    y = layers.conv(x, f"{name}.conv1", f"{name}.bn1", pads=0)
    y = layers.conv(y, f"{name}.conv2", f"{name}.bn2", strides=stride, pads=1)
    y = layers.conv(y, f"{name}.conv3", f"{name}.bn3", pads=0, relu=False)
    if f"{name}.downsample.0.weight" in layers.weights:
        x = layers.conv(x, f"{name}.downsample.0", f"{name}.downsample.1", strides=stride, pads=0, relu=False)
    return layers.node("Relu", [layers.node("Add", [y, x])])
