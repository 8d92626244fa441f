"""Random weights and inputs that every machine has alike, for networks of public layouts.

The golden numbers beside this file are what the public implementations compute of them. Made with checkouts of
syncnet_python, pytorch-i3d and Deep3DFaceRecon_pytorch, and with torch, torchvision, python_speech_features,
pytorch-fid, torchmetrics, insightface and scikit-image installed; each part alone, too::

    python -m tests.evaluate.make_golden_networks inception arcface frechet
    python -m tests.evaluate.make_golden_networks syncnet i3d deep3d --syncnet DIR --i3d DIR --deep3d DIR
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden"
KEPT = 16
"""Every so many-th feature is in the golden file."""


def golden(name: str) -> Any:
    """What a public implementation gave."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def random_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """By name: kernels with a deviation that keeps the size of values, and batch norms that do something."""
    return {name: _random(name, tuple(shape)) for name, shape in shapes.items()}


def _random(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        return values * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    if name.endswith("running_var"):
        return rng.random(shape, np.float32) + np.float32(0.5)
    return np.float32(0.1) * values + np.float32(name.endswith("weight"))


def random_input(name: str, shape: Sequence[int], low: float, high: float) -> NDArray[np.float32]:
    """Evenly spread values."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (low + (high - low) * rng.random(tuple(shape))).astype(np.float32)


def random_sound(seconds: float) -> NDArray[np.int16]:
    """(n,) 16 kHz: gliding tones with pauses, and some noise."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(7).normal(0, 200, len(t))
    return (6000 * np.sin(2 * np.pi * (200 + 300 * t) * t) * (np.sin(9 * t) > -0.3) + noise).astype(np.int16)


ARCFACE = {"conv.weight": (8, 3, 7, 7), "conv.bias": (8,), "head.weight": (32, 8 * 14 * 14), "head.bias": (32,)}
"""A small network of ArcFace's layout: convolution, ReLU, linear layer."""
PIXELS = {"conv.weight": (5, 3, 5, 5), "conv.bias": (5,)}
"""A small one in the place of Inception: convolution, ReLU, mean over the picture."""
SIDE = 61
"""Pixels of its picture."""
POINTS = {
    "portrait": ((100.0, 110.0), (155.0, 104.0), (130.0, 138.0), (108.0, 168.0), (154.0, 164.0)),
    "frame": ((112.0, 102.0), (161.0, 111.0), (134.0, 134.0), (107.0, 156.0), (150.0, 164.0)),
}
"""Eyes, nose and corners of the mouth in two pictures of 260 x 260 pixels, all of whose crops lie inside."""


FIVE = np.array([[-0.3, 0.3, 0.3], [0.3, 0.3, 0.3], [0.0, 0.0, 0.6], [-0.25, -0.35, 0.4], [0.25, -0.35, 0.4]])
"""Roughly a face in space."""


def small_arcface() -> Any:
    """``input.1`` (n, 3, 112, 112) → (n, 32), as an ONNX model."""
    conv, head = _conv_relu("input.1", "conv", 8), _gemm("flat", "head")
    nodes = [*conv, ("Flatten", ["kept"], ["flat"], {"axis": 1}), head]
    return _onnx_model("input.1", ["n", 3, 112, 112], ["n", 32], nodes, random_weights(ARCFACE))


def small_inception() -> Any:
    """``picture`` (1, 3, 61, 61) → (1, 5), as an ONNX model."""
    pooled = [("GlobalAveragePool", ["kept"], ["pooled"], {}), ("Flatten", ["pooled"], ["features"], {"axis": 1})]
    nodes = [*_conv_relu("picture", "conv", 3), *pooled]
    return _onnx_model("picture", [1, 3, SIDE, SIDE], [1, 5], nodes, random_weights(PIXELS))


def smooth_picture(name: str) -> NDArray[np.uint8]:
    """(260, 260, 3): noise that changes over about ten pixels, so that half a pixel matters little."""
    coarse = random_input(name, (26, 26, 3), 0, 255)
    rows, columns = (np.linspace(0, side - 1.001, 10 * side) for side in coarse.shape[:2])
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return np.round(upper * (1 - down) + lower * down).astype(np.uint8)


def large_face() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(780, 780, 3): each pixel of the frame as three by three, with a pattern in them; and its points (5, 2)."""
    blocks = smooth_picture("frame").repeat(3, axis=0).repeat(3, axis=1).astype(int)
    pattern = 20 * ((np.arange(780)[:, None] + np.arange(780)) % 3 - 1)
    pixels = np.clip(blocks + pattern[..., None], 0, 255).astype(np.uint8)
    return pixels, 3 * np.array(POINTS["frame"], np.float32) + 1


def feature_sets() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(300, 12) and (250, 12): features that depend on each other."""
    one, other = (random_input(name, (count, 12), -1, 1) for name, count in (("made", 300), ("true", 250)))
    mixed = random_input("mix", (12, 12), -1, 1)
    return one.astype(np.float64) @ mixed + 0.3, other.astype(np.float64)


def picture_sets() -> list[NDArray[np.uint8]]:
    """(20, 61, 61, 3) and (16, 61, 61, 3), the second darker."""
    made, true = (random_input(name, (count, SIDE, SIDE, 3), 0, 255) for name, count in (("one", 20), ("two", 16)))
    return [made.astype(np.uint8), (true / 2).astype(np.uint8)]


def _conv_relu(source: str, name: str, stride: int) -> list[tuple[str, list[str], list[str], dict[str, Any]]]:
    weights = [f"{name}.weight", f"{name}.bias"]
    return [
        ("Conv", [source, *weights], ["seen"], {"strides": [stride, stride]}),
        ("Relu", ["seen"], ["kept"], {}),
    ]


def _gemm(source: str, name: str) -> tuple[str, list[str], list[str], dict[str, Any]]:
    return "Gemm", [source, f"{name}.weight", f"{name}.bias"], ["features"], {"transB": 1}


def _onnx_model(source: str, taken: Sequence[Any], given: Sequence[Any], nodes: Any, weights: Any) -> Any:
    import onnx

    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in ((source, taken), ("features", given))
    ]
    made = [onnx.helper.make_node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in nodes]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(made, "small", ends[:1], ends[1:], stored)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
