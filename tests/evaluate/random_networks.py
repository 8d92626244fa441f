"""Random weights and inputs that every machine has alike, for networks of public layouts.

The golden numbers beside this file are what the public implementations compute of them. Made with checkouts of
pytorch-fid, syncnet_python, pytorch-i3d and Deep3DFaceRecon_pytorch, and with torch, torchvision,
python_speech_features and pytorch-fid installed::

    python -m tests.evaluate.make_golden_networks --syncnet DIR --i3d DIR --deep3d DIR
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
