"""The face locator for the larger mask: the same feature as the one it replaces gives for the mask at half the size."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emo_rt.export.networks.face_locator import FaceLocator
from training.larger.base import base, config
from training.larger.kept import started
from training.larger.loop import train
from training.larger.pictures import SIZE
from training.masks import box_mask

MASKS = 4
"""Of one step."""


def make_locator(old: FaceLocator) -> FaceLocator:
    """What is trained; what comes behind its first halving starts as in the one that it replaces."""
    settings = config()
    locator = FaceLocator(settings.locator, settings.unet.block_out_channels[0])
    fresh, known = locator.state_dict(), old.state_dict()
    for name, value in known.items():
        layer, _, part = name.rpartition(".")
        there = f"blocks.{int(layer.removeprefix('blocks.')) + 2}.{part}" if layer.startswith("blocks.") else name
        if fresh[there].shape == value.shape:
            fresh[there] = value
    locator.load_state_dict(fresh)
    return locator


def train_locator(folder: Path, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
    """Until the budget is used; leaves ``locator.pt`` and ``locator.jsonl``."""
    old = base(folder).face_locator
    locator = started(make_locator(old), "locator")
    unseen = masks(np.random.default_rng(1_000_000), 16)
    wanted = feature(old, unseen)

    def step(share: float, rng: np.random.Generator) -> dict[str, Tensor]:
        mask = masks(rng, MASKS)
        error = locator(mask) - feature(old, mask)
        total = error.abs().mean() + error.square().mean()
        total.backward()
        return {"total": total}

    def look() -> dict[str, float]:
        with torch.no_grad():
            error = locator(unseen) - wanted
        return {"error": float(error.square().mean().sqrt()), "spread": float(wanted.std())}

    train(folder, "locator", locator, seconds, step, look, now)


def masks(rng: np.random.Generator, count: int) -> Tensor:
    """(count, 1, 256, 256): boxes of any size and place, one in six white."""
    drawn = []
    for _ in range(count):
        extent = rng.uniform(0.1, 1.1, 2)
        low = rng.uniform(-0.1, 1.1 - extent) if rng.random() < 0.85 else np.array([0.0, 0.0])
        if rng.random() < 1 / 6:
            low, extent = np.zeros(2), np.ones(2)
        drawn.append(box_mask(np.concatenate([low, low + extent]), SIZE))
    return torch.from_numpy(np.concatenate(drawn))


@torch.no_grad()
def feature(locator: FaceLocator, mask: Tensor) -> Tensor:
    """What the locator for 128×128 says of a larger mask."""
    told: Tensor = locator(F.avg_pool2d(mask, 2))
    return told
