"""Clips of the drawn world on disk: rendered once, read many times.

``python -m training.corpus clips FOLDER --clips 1200 --seconds 3`` renders what is missing; it may be stopped at any
time and started again with more clips. Each file holds one :class:`Recording`; files are whole or absent. With
``--sound-only`` nothing is drawn, and more voices say words that no language has: for the stage that learns to hear.

The same work in two parts, the second on a machine without synthesisers: ``python -m training.corpus voices PACK`` lets
them speak into one small file, ``python -m training.corpus pictures PACK FOLDER`` draws the people who say it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.files import whole_file
from training.voices import Voices, say_all
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
    angles: Floats = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    """(T, 3) yaw, pitch, roll, radians."""
    brows: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    """(T,) -1 lowered, 0 at rest, 1 raised."""
    prosody: Floats = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """(T, 2) loudness, 0 … 1, and melody, octaves around the clip's median: what brows and head follow."""

    @classmethod
    def load(cls, path: Path, names: Sequence[str] | None = None) -> Recording:
        """Read a file; with ``names`` only these fields, the others are empty."""
        with np.load(path) as data:
            wanted = [part.name for part in fields(cls)]
            return cls(**{name: data[name] if names is None or name in names else np.zeros(0) for name in wanted})


def save_arrays(clip: Any, path: Path) -> None:
    """Write a dataclass of arrays as ``.npz``, whole or not at all."""
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **{part.name: getattr(clip, part.name) for part in fields(clip)})


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
        angles=clip.truth.angles,
        brows=np.array([pose.brow for pose in poses], np.float32),
        prosody=np.stack([clip.prosody.loudness, clip.prosody.melody], axis=1).astype(np.float32),
    )


def detector_box(head_box: Floats) -> Floats:
    """Head boxes (…, 4) from crown to chin → boxes of the face mesh as the runtime finds them, forehead to chin.

    The mean over 48 people of the training split, all of whom ``emo_rt.faces`` finds (spread 0.02).
    """
    left, top, right, bottom = np.moveaxis(head_box, -1, 0)
    width, height = right - left, bottom - top
    inset = np.array(BOX_INSET, np.float32)
    sides = [left + inset[0] * width, top + inset[1] * height, right - inset[2] * width, bottom - inset[3] * height]
    return np.stack(sides, axis=-1).astype(np.float32)


BOX_INSET = (0.036, 0.265, 0.034, 0.004)
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


def draw_clip(seed: int, pack: Path, folder: Path, size: int, style: str | None) -> int:
    """Draw one clip of a pack of voices if it is not there yet; gives back its seed."""
    path = clip_path(folder, seed)
    if not path.exists():
        save_arrays(record(_pack(pack).clip(seed, style), size), path)
    return seed


@lru_cache(maxsize=1)
def _pack(path: Path) -> Voices:
    """Each process reads the pack once."""
    return Voices.load(path)


def render_all(
    folder: Path, seeds: Iterable[int], seconds: float, size: int = 128, sound_only: bool = False, workers: int = 1
) -> Iterator[int]:
    """Render many clips, each in turn or in ``workers`` processes; yields the seeds as they are done."""
    return _in_turn(partial(render_clip, seconds=seconds, size=size, sound_only=sound_only), folder, seeds, workers)


def draw_all(
    pack: Path, folder: Path, size: int, style: str | None = None, limit: int | None = None, workers: int = 1
) -> Iterator[int]:
    """Draw the clips of a pack of voices, the first ``limit`` or all, as :func:`render_all` does."""
    seeds = Voices.load(pack).seeds[:limit]
    return _in_turn(partial(draw_clip, pack=pack, size=size, style=style), folder, seeds, workers)


def _in_turn(work: Callable[..., int], folder: Path, seeds: Iterable[int], workers: int) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    here = partial(work, folder=folder)
    if workers == 1:
        yield from map(here, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(here, seeds, chunksize=4)


def available(folder: Path) -> list[int]:
    """Seeds of the clips that are there, in order."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.npz"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = _parser().parse_args(arguments)
    given.run(given)


def _clips(given: argparse.Namespace) -> None:
    seeds = range(given.first, given.first + given.clips)
    rendered = render_all(given.folder, seeds, given.seconds, given.size, given.sound_only, given.workers)
    _report(rendered, given.clips)


def _voices(given: argparse.Namespace) -> None:
    seeds = range(given.first, given.first + given.clips)
    pack = say_all(seeds, given.seconds, given.split, given.varied, given.bits_per_second, given.workers)
    given.pack.parent.mkdir(parents=True, exist_ok=True)
    pack.save(given.pack)
    sys.stderr.write(f"{given.clips} voices in {given.pack}, {given.pack.stat().st_size / 1e6:.1f} MB" + "\n")


def _pictures(given: argparse.Namespace) -> None:
    drawn = draw_all(given.pack, given.folder, given.size, given.style, given.clips, given.workers)
    _report(drawn, given.clips or len(Voices.load(given.pack).seeds))


def _report(done: Iterable[int], count: int) -> None:
    for number, seed in enumerate(done, 1):
        if number % 100 == 0 or number == count:
            sys.stderr.write(f"{number} of {count} clips, up to seed {seed}" + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.corpus", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    clips = _command(commands, "clips", _clips, "sound and pictures into a folder")
    voices = _command(commands, "voices", _voices, "only what the synthesisers say, into one file")
    pictures = _command(commands, "pictures", _pictures, "the clips of such a file into a folder")
    for command in (clips, voices):
        command.add_argument("folder" if command is clips else "pack", type=Path)
        command.add_argument("--first", type=int, default=0, help="seed of the first clip")
        command.add_argument("--clips", type=int, default=1200)
        command.add_argument("--seconds", type=float, default=3.0)
    clips.add_argument("--sound-only", action="store_true", help="no pictures; more voices and made-up words")
    voices.add_argument("--split", choices=("train", "test"), default="train")
    voices.add_argument("--varied", action="store_true", help="more voices and made-up words")
    voices.add_argument("--bits-per-second", type=int, default=15_000, help="of the speech coder")
    pictures.add_argument("pack", type=Path)
    pictures.add_argument("folder", type=Path)
    pictures.add_argument("--clips", type=int, help="only the first so many")
    pictures.add_argument("--style", help="all people in this style instead of their own")
    for command in (clips, pictures):
        command.add_argument("--size", type=int, default=256, help="side of a frame, pixels")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    main()
