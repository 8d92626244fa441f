"""Contact sheets: look at the world before you train on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.world.clip import Clip
from training.world.identity import KEPT_OUT, STYLES, Identity
from training.world.lips import loudness_of
from training.world.pose import Pose
from training.world.renderer import render
from training.world.visemes import VISEMES

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


def identities(first: int, count: int, size: int = 256, columns: int = 8) -> NDArray[np.uint8]:
    """Many people at rest, with a hint of a smile."""
    rest = Pose(smile=0.3)
    return grid([render(Identity.sample(first + index), rest, size) for index in range(count)], columns)


def turns(seeds: Sequence[int], size: int = 256) -> NDArray[np.uint8]:
    """Each person over the same poses, one person a row."""
    return grid([render(Identity.sample(seed), pose, size) for seed in seeds for pose in TURNS], len(TURNS))


def styles(seeds: Sequence[int], size: int = 256) -> NDArray[np.uint8]:
    """The same people in every style, one style a row; the last row is the style kept out of training."""
    pose = Pose(opening=0.4, smile=0.4, yaw=0.15)
    rows = [render(Identity.sample(seed, style), pose, size) for style in (*STYLES, KEPT_OUT) for seed in seeds]
    return grid(rows, len(seeds))


def mouths(seeds: Sequence[int], size: int = 256) -> NDArray[np.uint8]:
    """Each person with the mouth of every viseme, one person a row, in the order of `VISEMES`."""
    shapes = [
        Pose(opening=v.opening, width=v.width, rounding=v.rounding, press=v.press, smile=0.15) for v in VISEMES.values()
    ]
    return grid([render(Identity.sample(seed), pose, size) for seed in seeds for pose in shapes], len(shapes))


def film(clip: Clip, size: int = 256, columns: int = 12, step: int = 2) -> NDArray[np.uint8]:
    """Every `step`-th frame of a clip; under each frame its lip gap (dark) and its loudness (light)."""
    loud = loudness_of(clip.waveform, (np.arange(len(clip)) + 0.5) / clip.fps)
    cells = []
    for index in range(0, len(clip), step):
        strip = np.full((size // 4, size, 3), 255, dtype=np.uint8)
        _bar(strip[:, : size // 2], float(clip.truth.opening[index]), (60, 40, 70))
        _bar(strip[:, size // 2 :], float(loud[index]), (190, 200, 215))
        cells.append(np.concatenate([clip.frame(index, size), strip]))
    return grid(cells, columns)


def _bar(area: NDArray[np.uint8], share: float, color: tuple[int, int, int]) -> None:
    height = round(area.shape[0] * share)
    if height:
        area[-height:] = color


def save(image: NDArray[np.uint8], path: Path) -> None:
    """Write a sheet as PNG."""
    Image.fromarray(image).save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m training.world.sheet identities --output sheet.png`"""
    parser = argparse.ArgumentParser(
        prog="python -m training.world.sheet", description="Draw a contact sheet of the drawn world."
    )
    parser.add_argument("kind", choices=("identities", "styles", "turns", "mouths", "clip"))
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="first person, or the clip")
    parser.add_argument("--count", type=int, default=8, help="how many people")
    parser.add_argument("--size", type=int, default=256, help="pixels of a frame's side")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clip")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    options = parser.parse_args(arguments)
    people = range(options.seed, options.seed + options.count)
    if options.kind == "identities":
        image = identities(options.seed, options.count, options.size)
    elif options.kind == "styles":
        image = styles(people, options.size)
    elif options.kind == "turns":
        image = turns(people, options.size)
    elif options.kind == "mouths":
        image = mouths(people, options.size)
    else:
        image = film(Clip.sample(options.seed, options.seconds, split=options.split), options.size)
    save(image, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
