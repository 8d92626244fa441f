"""How long does it take to put animated squares back into the whole picture?

    python -m emo_rt.benchmarks.pasting

Twelve frames of models of 128, 256 and 512 pixels, pasted into pictures of 512, 1024 and 1920 pixels a side. Goal: 4 ms
per megapixel of the square and frame, on one core. A byte of the picture is written once, and a byte of the square is
read and written about five times (turned, resized, turned, resized, copied), so memory alone allows about 1 ms; the
filter's four taps in each direction cost the rest. Where the square is smaller than the model's picture, the work is
that of the model's picture, and the goal is missed: Pillow shrinks it. Times are of the CPU, the least of several
rounds; ``pillow_ms`` is Pillow's bicubic filter alone. Prints a table, and one JSON line last.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from emo_rt.media.framing import prepare_portrait
from emo_rt.media.paste import Paster

FRAMES = 12
ROUNDS = 7
SIZES = (128, 256, 512)
PICTURES = (512, 1024, 1920)


@dataclass(frozen=True)
class PasteTime:
    """Pasting of twelve frames."""

    size: int
    """Side of the model's picture, in pixels."""
    picture: int
    """Width of the whole picture; its height is nine tenths of that."""
    square: int
    """Side of the square in the whole picture."""
    ms: float
    """Milliseconds for all frames."""
    ms_per_megapixel: float
    """Of the square, and frame."""
    pillow_ms: float
    """Milliseconds that Pillow takes to resize the frames, without pasting."""


def paste_time(size: int, picture: int) -> PasteTime:
    """Measure one case."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (picture * 9 // 10 // 2 * 2, picture, 3), dtype=np.uint8)
    portrait = prepare_portrait(still, size, face_box="full")
    frames = rng.integers(0, 256, (FRAMES, size, size, 3), dtype=np.uint8)
    paster, side = Paster(portrait), int(portrait.crop.width)
    ms = least_ms(lambda: paster(frames))
    pillow_ms = least_ms(lambda: [_resized(frame, side) for frame in frames])
    return PasteTime(size, picture, side, ms, ms / FRAMES / (side**2 / 1e6), pillow_ms)


def least_ms(work: Callable[[], object]) -> float:
    """Milliseconds of the CPU, the least of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def _resized(frame: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))


def main() -> None:
    """Measure all cases."""
    cases = [paste_time(size, picture) for size in SIZES for picture in PICTURES]
    write = sys.stdout.write
    write("model  picture  square  12 frames  per megapixel  Pillow's resize\n")
    for case in cases:
        write(
            f"{case.size:5}  {case.picture:7}  {case.square:6}  {case.ms:6.0f} ms  {case.ms_per_megapixel:10.1f} ms"
            f"  {case.pillow_ms:12.0f} ms\n"
        )
    write(json.dumps([asdict(case) for case in cases]) + "\n")


if __name__ == "__main__":
    main()
