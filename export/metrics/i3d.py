"""FVD's I3D: Kinetics-400 weights of DeepMind's network in the layout of piergiaj's ``rgb_imagenet.pt``.

Carreira and Zisserman 2017 (arXiv 1705.07750). FVD (Unterthiner et al. 2018, arXiv 1812.01717) takes the 400 logits,
averaged over time.
"""

from __future__ import annotations

import onnx

from emo_rt.export.metrics.layers import Layers, Weights

STAGES = (
    (("Mixed_3b", "Mixed_3c"), (3, 3, 3), (2, 2, 2)),
    (("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"), (2, 2, 2), (2, 2, 2)),
    (("Mixed_5b", "Mixed_5c"), None, None),
)
"""Blocks, and the kernel and strides of the maximum behind them."""
LAST = (2, 7, 7)
"""Kernel of the last mean."""


def i3d(weights: Weights) -> onnx.ModelProto:
    """``clip`` (n, 3, 16, 224, 224) float32 RGB in −1 … 1 → ``features`` (n, 400)."""
    layers = Layers(weights, epsilon=1e-3)
    x = _unit(layers, "clip", "Conv3d_1a_7x7", 2)
    x = layers.pool(x, "MaxPool", (1, 3, 3), (1, 2, 2), "same")
    x = _unit(layers, _unit(layers, x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    x = layers.pool(x, "MaxPool", (1, 3, 3), (1, 2, 2), "same")
    for blocks, kernel, strides in STAGES:
        for block in blocks:
            x = _block(layers, x, block)
        if kernel is not None and strides is not None:
            x = layers.pool(x, "MaxPool", kernel, strides, "same")
    x = layers.pool(x, "AveragePool", LAST, (1, 1, 1))
    x = layers.conv(x, "logits.conv3d", relu=False)
    x = layers.node("Flatten", [layers.node("GlobalAveragePool", [x])], axis=1)
    return layers.model("i3d", {"features": x})


def _block(layers: Layers, x: str, name: str) -> str:
    pooled = layers.pool(x, "MaxPool", (3, 3, 3), (1, 1, 1), "same")
    outputs = [_unit(layers, x, f"{name}.b0")]
    outputs += [_unit(layers, _unit(layers, x, f"{name}.b{n}a"), f"{name}.b{n}b") for n in (1, 2)]
    outputs.append(_unit(layers, pooled, f"{name}.b3b"))
    return layers.node("Concat", outputs, axis=1)


def _unit(layers: Layers, x: str, name: str, stride: int = 1) -> str:
    return layers.conv(x, f"{name}.conv3d", f"{name}.bn", strides=stride)
