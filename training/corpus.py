"""Clips of the drawn world on disk: rendered once, read many times.

``python -m training.corpus FOLDER --clips 1200 --seconds 3`` renders what is missing; it may be stopped at any time and
started again with more clips. Each file holds one :class:`Recording`; files are whole or absent. With ``--sound-only``
nothing is drawn, and more voices say words that no language has: for the stage that learns to hear.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.world import Clip

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip as training needs it. T frames."""

    frames: NDArray[np.uint8]
    """(T, size, size, 3) RGB; T is 0 where only the sound was wanted."""
    waveform: Floats
    """(T · 16000 / fps,) mono, 16 kHz."""
    phonemes: NDArray[np.int64]
    """(T,) numbers of :data:`training.world.visemes.PHONEME_IDS`; 0 is silence."""
    lips: Floats
    """(T, 3) opening, width, rounding, each 0 … 1."""
    face_box: Floats
    """(T, 4) left, top, right, bottom as the runtime's face detector would give them, shares of the side."""
    speed: Floats
    """(T,) head speed, in ``training.world.motion.SPEED_UNIT_DEG_S``."""

    @classmethod
    def load(cls, path: Path, names: Sequence[str] | None = None) -> Recording:
        """Read a file; with ``names`` only these fields, the others are empty."""
        with np.load(path) as data:
            wanted = [field.name for field in fields(cls)]
            return cls(**{name: data[name] if names is None or name in names else np.zeros(0) for name in wanted})


def save_arrays(clip: Any, path: Path) -> None:
    """Write a dataclass of arrays as ``.npz``, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **{field.name: getattr(clip, field.name) for field in fields(clip)})
    part.replace(path)


def record(clip: Clip, size: int, sound_only: bool = False) -> Recording:
    """Render a clip at ``size`` pixels."""
    poses = clip.poses
    return Recording(
        frames=np.zeros((0, size, size, 3), np.uint8) if sound_only else np.stack(list(clip.frames(size))),
        waveform=clip.waveform,
        phonemes=clip.truth.phoneme,
        lips=np.array([(pose.opening, pose.width, pose.rounding) for pose in poses], np.float32),
        face_box=detector_box(clip.truth.face_box),
        speed=clip.truth.head_speed,
    )


def detector_box(head_box: Floats) -> Floats:
    """Head boxes (…, 4) from crown to chin → boxes as the runtime's detector draws them, forehead to chin.

    A least-squares fit over the people of the training split that the detector finds.
    """
    left, top, right, bottom = np.moveaxis(head_box, -1, 0)
    width, height = right - left, bottom - top
    inset = np.array(BOX_INSET, np.float32)
    sides = [left + inset[0] * width, top + inset[1] * height, right - inset[2] * width, bottom - inset[3] * height]
    return np.stack(sides, axis=-1).astype(np.float32)


BOX_INSET = (0.005, 0.13, 0.0, -0.11)
"""How far the detector's box lies inside the head's: left, top, right, bottom, shares of the head's box."""


def clip_path(folder: Path, seed: int) -> Path:
    """Where a clip lies."""
    return folder / f"{seed:06d}.npz"


def render_clip(seed: int, folder: Path, seconds: float, size: int, sound_only: bool) -> int:
    """Render one clip of the training split if it is not there yet; gives back its seed."""
    path = clip_path(folder, seed)
    if not path.exists():
        save_arrays(record(Clip.sample(seed, seconds, varied=sound_only), size, sound_only), path)
    return seed


def render_all(
    folder: Path, seeds: Iterable[int], seconds: float, size: int = 128, sound_only: bool = False, workers: int = 1
) -> Iterator[int]:
    """Render many clips, each in turn or in ``workers`` processes; yields the seeds as they are done."""
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(render_clip, folder=folder, seconds=seconds, size=size, sound_only=sound_only)
    if workers == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, seeds, chunksize=4)


def available(folder: Path) -> list[int]:
    """Seeds of the clips that are there, in order."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.npz"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0, help="seed of the first clip")
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=128, help="side of a frame, pixels")
    parser.add_argument("--sound-only", action="store_true", help="no pictures; more voices and made-up words")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.clips)
    rendered = render_all(given.folder, seeds, given.seconds, given.size, given.sound_only, given.workers)
    for done, seed in enumerate(rendered, 1):
        if done % 100 == 0:
            sys.stderr.write(f"{done} of {given.clips} clips, up to seed {seed}" + "\n")


if __name__ == "__main__":
    main()
