"""Small networks in the places of the published ones: random, but SyncNet's, which is fitted to one drawn video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.cepstra import cepstra
from emo_rt.evaluate.syncnet import face_crops
from emo_rt.export.metrics.layers import Layers, Weights
from emo_rt.media.box import Box
from emo_rt.model.metric_networks import MEAN_FACE
from tests.evaluate.random_networks import FIVE, random_weights, small_arcface

CELL = 14
"""Pixels of a cell of SyncNet's crop: it sees 16 × 16 of them."""
RIDGE = 1e-2
"""Of the fit, which has more weights than frames."""


KERNELS: dict[str, tuple[str, tuple[int, ...], Any]] = {
    "inception": ("picture", (6, 3, 5, 5), 4),
    "i3d": ("clip", (4, 3, 3, 7, 7), (2, 4, 4)),
    "deep3d": ("picture", (64, 3, 7, 7), 8),
}
"""Network → its input, the shape of its only kernel, and strides."""


def pooled_networks(folder: Path, names: Sequence[str] = tuple(KERNELS)) -> dict[str, Path]:
    """Option of :class:`emo_rt.evaluate.assessment.Eyes` → file: convolution, ReLU and mean, of random weights."""
    return {name: _written(folder, name, _pooled(name)) for name in names}


def all_networks(
    folder: Path, frames: NDArray[np.uint8], boxes: Sequence[Box], sound: NDArray[np.float32]
) -> dict[str, Path]:
    """The same, and ArcFace and SyncNet. ``frames``, ``boxes``, ``sound``: what SyncNet is fitted to."""
    more = {"arcface": small_arcface(), "syncnet": _syncnet(frames, boxes, sound)}
    return pooled_networks(folder) | {name: _written(folder, name, model) for name, model in more.items()}


def _written(folder: Path, name: str, model: Any) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _pooled(network: str) -> Any:
    source, kernel, strides = KERNELS[network]
    layers = Layers(random_weights({f"{network}.weight": kernel, f"{network}.bias": kernel[:1]}))
    x = layers.conv(source, network, strides=strides, pads=0)
    x = layers.node("Flatten", [layers.node("GlobalAveragePool", [x])], axis=1)
    return layers.model(network, {"features": x}, {MEAN_FACE: json.dumps(FIVE.tolist())})


def _syncnet(frames: NDArray[np.uint8], boxes: Sequence[Box], sound: NDArray[np.float32]) -> Any:
    """Lips → how loud it is in each of the five frames, as linear regression sees it; sound → how loud it is."""
    layers = Layers(_fitted(frames, boxes, sound))
    x = layers.pool("lips", "AveragePool", (1, CELL, CELL), (1, CELL, CELL))
    seen = layers.node("Flatten", [layers.conv(x, "lips", pads=0, relu=False)], axis=1)
    heard = layers.node("Flatten", [layers.conv("sound", "sound", strides=(1, 4), pads=0, relu=False)], axis=1)
    return layers.model("syncnet", {"seen": seen, "heard": heard})


def _fitted(frames: NDArray[np.uint8], boxes: Sequence[Box], sound: NDArray[np.float32]) -> Weights:
    crops = np.stack(list(face_crops(frames, boxes, 25)))[..., ::-1].astype(np.float64)
    cells = crops.reshape(len(crops), 16, CELL, 16, CELL, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    pixels = cells.reshape(len(cells), -1)
    energy = cepstra(np.round(32_767 * sound.clip(-1, 1)).astype(np.int16))[:, 0]
    count = min(len(pixels), len(energy) // 4)
    loud = energy[: 4 * count].reshape(count, 4).mean(axis=1)
    middle, spread = loud.mean(), max(float(loud.std()), 1e-6)
    centred = pixels[:count] - pixels[:count].mean(axis=0)
    gram = centred @ centred.T
    ridge = RIDGE * np.trace(gram) / count * np.eye(count)
    kernel = centred.T @ np.linalg.solve(gram + ridge, (loud - middle) / spread)
    hearing = np.zeros((1, 1, 13, 4))
    hearing[0, 0, 0] = 0.25 / spread
    weights = {
        "lips.weight": kernel.reshape(1, 3, 1, 16, 16),
        "lips.bias": np.array([-pixels[:count].mean(axis=0) @ kernel]),
        "sound.weight": hearing,
        "sound.bias": np.array([-middle / spread]),
    }
    return {name: value.astype(np.float32) for name, value in weights.items()}
