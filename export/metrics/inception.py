"""FID's Inception: the network that pytorch-fid (Seitzer 2020) distributes as ``pt_inception-2015-12-05-*.pth``.

Szegedy et al. 2015 (arXiv 1512.00567), in TensorFlow's form of 2015: means leave the padding out, and the last block
takes a maximum instead of a mean.
"""

from __future__ import annotations

import onnx

from emo_rt.export.metrics.layers import Layers, Weights

STEM = (("1a_3x3", 2, 0), ("2a_3x3", 1, 0), ("2b_3x3", 1, 1), None, ("3b_1x1", 1, 0), ("4a_3x3", 1, 0), None)
"""Name, stride and padding of the first convolutions; ``None`` is a maximum over 3 × 3 of every second pixel."""
POOL = "pool"
BLOCKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "A": (("1x1",), ("5x5_1", "5x5_2"), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3"), (POOL,)),
    "B": (("3x3!",), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3!")),
    "C": (("1x1",), ("7x7_1", "7x7_2", "7x7_3"), tuple(f"7x7dbl_{n}" for n in range(1, 6)), (POOL,)),
    "D": (("3x3_1", "3x3_2!"), ("7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4!")),
    "E": (("1x1",), ("3x3_1", "3x3_2a|3x3_2b"), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3a|3x3dbl_3b"), (POOL,)),
}
"""Branches of each kind of block. ``!``: every second pixel, no padding; ``|``: two side by side. Blocks of halved size
(B, D) end with a maximum."""
LAYOUT = {"5b": "A", "5c": "A", "5d": "A", "6a": "B", "6b": "C", "6c": "C", "6d": "C", "6e": "C", "7a": "D",
          "7b": "E", "7c": "E"}  # fmt: skip
MAXIMUM = "7c"
"""The block that takes a maximum where the others take a mean."""


def inception(weights: Weights) -> onnx.ModelProto:
    """``picture`` (n, 3, 299, 299) float32 RGB in −1 … 1 → ``features`` (n, 2048)."""
    layers = Layers(weights, epsilon=1e-3)
    x = "picture"
    for step in STEM:
        if step is None:
            x = layers.pool(x, "MaxPool", (3, 3), (2, 2))
        else:
            name, stride, padding = step
            x = _unit(layers, x, f"Conv2d_{name}", stride, padding)
    for name, kind in LAYOUT.items():
        x = _block(layers, x, f"Mixed_{name}", kind, name == MAXIMUM)
    x = layers.node("Flatten", [layers.node("GlobalAveragePool", [x])], axis=1)
    return layers.model("inception", {"features": x})


def _block(layers: Layers, x: str, name: str, kind: str, is_last: bool) -> str:
    outputs = []
    for branch in BLOCKS[kind]:
        y = [x]
        for part in branch:
            if part == POOL:
                y = [layers.pool(x, "MaxPool" if is_last else "AveragePool", (3, 3), (1, 1), 1)]
            halved = part.endswith("!")
            names = [f"{name}.branch{'_' if part == POOL else ''}{one.rstrip('!')}" for one in part.split("|")]
            y = [_unit(layers, y[0], one, 2 if halved else 1, 0 if halved else "same") for one in names]
        outputs += y
    if kind in "BD":
        outputs.append(layers.pool(x, "MaxPool", (3, 3), (2, 2)))
    return layers.node("Concat", outputs, axis=1)


def _unit(layers: Layers, x: str, name: str, stride: int, padding: int | str) -> str:
    return layers.conv(x, f"{name}.conv", f"{name}.bn", strides=stride, pads=padding)
