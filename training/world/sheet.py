"""Contact sheets: look at the world before you train on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.world.identity import Identity
from training.world.pose import Pose
from training.world.renderer import render

TURNS: tuple[Pose, ...] = (
    Pose(),
    Pose(yaw=-0.44),
    Pose(yaw=-0.22),
    Pose(yaw=0.22),
    Pose(yaw=0.44),
    Pose(pitch=0.3),
    Pose(pitch=-0.3),
    Pose(roll=0.3),
    Pose(yaw=0.35, pitch=0.2, roll=-0.15, opening=0.8),
    Pose(yaw=-0.35, pitch=-0.2, roll=0.2, opening=0.5, brow=1),
    Pose(blink_left=1, blink_right=1, smile=0.8),
    Pose(gaze_x=1, brow=1, opening=0.3),
    Pose(gaze_x=-1, gaze_y=0.6, brow=-1),
    Pose(blink_left=0.5, blink_right=0.5, x=0.2, y=0.1),
    Pose(smile=1, opening=0.5, width=0.9),
)


def grid(images: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Lay equal images out in rows; missing cells stay white: (H, W, 3) uint8."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    return sheet


def identities(first: int, count: int, size: int = 128, columns: int = 8) -> NDArray[np.uint8]:
    """Many people at rest, with a hint of a smile."""
    rest = Pose(smile=0.3)
    return grid([render(Identity.sample(first + index), rest, size) for index in range(count)], columns)


def turns(seeds: Sequence[int], size: int = 128) -> NDArray[np.uint8]:
    """Each person over the same poses, one person a row."""
    return grid([render(Identity.sample(seed), pose, size) for seed in seeds for pose in TURNS], len(TURNS))


def save(image: NDArray[np.uint8], path: Path) -> None:
    """Write a sheet as PNG."""
    Image.fromarray(image).save(path)
