"""What does the watermark outlast, what does it cost, and how often is it seen where it is not?

    python -m emo_rt.benchmarks.watermark [PICTURE …] [--only time keys survival] [--sides 256] [--moves head]
                                          [--keys 10000] [--json FILE] [--markdown FILE]

Each picture (default: the package's portrait) becomes 4 s of video at 25 frames per second: the head sways before a
background that stays (``head``), or the whole picture does (``all``, as from a camera in a hand). Sides of 128, 256 and
512 pixels; marked; encoded with libx264 and its preset ``medium`` as it is, at half its size, or with 10 % of each side
cut off, at CRF 18, 23 and 30. A row has the score of each; ``+``: found, and the payload was right; ``-``: found, but
the payload could not be read; ``.``: not found. Goal: found at 256 pixels and more, with PSNR ≥ 42 dB against the
unmarked frames.

``--keys``: so many wrong keys are looked for in a video of the first picture (256 pixels, ``head``, CRF 23), which is
marked with another; goal: none is found, at a threshold of one false alarm in a million. 10,000 take some minutes.

Time: of the CPU, one core, one frame at a time, the least of several rounds; goal 2 ms per megapixel. Prints tables,
and one JSON line last.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

import emo_rt
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.benchmarks.pasting import least_ms
from emo_rt.media.marking.detector import Evidence, threshold
from emo_rt.media.marking.pattern import Pattern
from emo_rt.media.marking.watermark import Watermark

SUMMARY = (__doc__ or "").partition("\n")[0]
PORTRAIT = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
PAYLOAD = 0x1234_5678_9ABC
FPS, FRAMES, LOOKED_AT = 25, 100, 50
"""Frames per second, of a video, and of those that are looked at (each second one)."""
SIDES = (256, 512, 128)
MOVES = ("head", "all")
HALF, CUT = 0.5, 0.1
ATTACKS = tuple((crf, scale, cut) for scale, cut in ((1.0, 0.0), (HALF, 0.0), (1.0, CUT)) for crf in (18, 23, 30))
"""CRF, share of the size, share that is cut off each side."""
HEAD = (0.5, 0.4, 0.3, 0.35)
"""Middle and radii of what sways, as shares of the side."""
TIMED = (256, 512, 1024)
SHARES = {"median": 50.0, "99 %": 99.0, "99.9 %": 99.9, "best": 100.0}
"""Of the wrong keys' scores, in percent."""

Frames = np.ndarray


@dataclass(frozen=True)
class Row:
    """One video."""

    picture: str
    side: int
    move: str
    psnr: float
    """Of the marked frames, in dB."""
    scores: tuple[str, ...]
    """Of the attacks, in order, with a sign each."""


@dataclass(frozen=True)
class Result:
    """What was measured. ``None`` = it was not asked for."""

    benchmark: str
    schema: int
    environment: dict[str, Any]
    threshold: float
    """Score from which on a mark is found."""
    ms_per_megapixel: dict[str, float] | None = None
    """By side."""
    wrong_keys: int | None = None
    false_alarms: int | None = None
    """Wrong keys that were found."""
    wrong_scores: dict[str, float] | None = None
    """By :data:`SHARES`."""
    rows: tuple[Row, ...] | None = None


def sway(picture: Image.Image, side: int, move: str) -> Frames:
    """(100, side, side, 3) uint8."""
    still = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    x, y, across, down = HEAD
    rows, columns = np.mgrid[0:side, 0:side] / side
    distance = np.hypot((columns - x) / across, (rows - y) / down)
    share = np.clip(1.6 - 1.6 * distance, 0, 1)[..., None] if move == "head" else 1.0
    frames = np.empty((FRAMES, side, side, 3), np.uint8)
    for index, place in enumerate(_places(side)):
        moved = np.asarray(still.transform((side, side), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC))
        frames[index] = np.rint(np.asarray(still) * (1 - share) + moved * share)
    return frames


def _places(side: int) -> Iterator[tuple[float, ...]]:
    """For each frame, where its pixels come from: a turn of at most a degree, and a shift of at most 2 %."""
    middle = side * HEAD[0], side * HEAD[1]
    for time in np.arange(FRAMES) / FPS:
        right = side * (0.012 * np.sin(2 * np.pi * 0.35 * time) + 0.004 * np.sin(2 * np.pi * 1.3 * time))
        down = side * 0.008 * np.sin(2 * np.pi * 0.5 * time + 1)
        cos, sin = np.cos(0.02 * np.sin(2 * np.pi * 0.3 * time)), np.sin(0.02 * np.sin(2 * np.pi * 0.3 * time))
        start = middle[0] - cos * middle[0] + sin * middle[1] + right, middle[1] - sin * middle[0] - cos * middle[1]
        yield float(cos), float(-sin), float(start[0]), float(sin), float(cos), float(start[1] + down)


def encoded(frames: Frames, crf: int) -> Frames:
    """(n, H, W, 3) → (n, H, W) luma, through H.264 and back."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    target.seek(0)
    with av.open(target) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def attacked(frames: Frames, crf: int, scale: float, cut: float) -> Frames:
    """What is left of the frames, as luma."""
    side = frames.shape[1]
    kept = round(side * (1 - cut)) // 2 * 2
    top, left = round(0.6 * (side - kept)), round(0.3 * (side - kept))
    frames = np.ascontiguousarray(frames[:, top : top + kept, left : left + kept])
    if scale != 1:
        size = (round(kept * scale) // 2 * 2,) * 2
        frames = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in frames])
    return encoded(frames, crf)


def evidence_of(luma: Frames) -> Evidence:
    """Of each second picture."""
    evidence = Evidence()
    for picture in luma[:: FRAMES // LOOKED_AT]:
        evidence.add(picture)
    return evidence


def survival(name: str, picture: Image.Image, side: int, move: str, attacks: Sequence[tuple[int, float, float]]) -> Row:
    """Mark one video and attack it."""
    frames = sway(picture, side, move)
    marked = Watermark(payload=PAYLOAD)(frames)
    error = np.mean([np.mean((one.astype(float) - other) ** 2) for one, other in zip(frames, marked, strict=True)])
    scores = []
    for attack in attacks:
        seen = evidence_of(attacked(marked, *attack)).look_for(Pattern())
        if seen.payload not in (None, PAYLOAD):
            raise AssertionError(f"a wrong payload was told for {name} {side} {move} {attack}")
        sign = "." if not seen.is_found else "-" if seen.payload is None else "+"
        scores.append(f"{seen.score:.1f}{sign}")
    return Row(name, side, move, float(10 * np.log10(255**2 / error)), tuple(scores))


def wrong_keys(picture: Image.Image, count: int) -> list[float]:
    """Best scores of keys that nothing was marked with, sorted."""
    evidence = evidence_of(encoded(Watermark(payload=PAYLOAD)(sway(picture, 256, "head")), 23))
    return sorted(evidence.look_for(Pattern(f"wrong key {number}")).score for number in range(count))


def ms_per_megapixel(side: int) -> float:
    """Of marking, one frame at a time, on one core. Each is let go before the next, as where they are encoded."""
    frame = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    watermark = Watermark()
    watermark(frame)

    def mark_ten() -> None:
        for _ in range(10):
            watermark(frame)

    return least_ms(mark_ten) / 10 / (side**2 / 1e6)


def timing(result: Result, _: argparse.Namespace) -> Result:
    """What marking costs."""
    return replace(result, ms_per_megapixel={str(side): ms_per_megapixel(side) for side in TIMED})


def surviving(result: Result, given: argparse.Namespace) -> Result:
    """What the mark outlasts."""
    rows = [
        survival(path.stem, Image.open(path), side, move, ATTACKS)
        for side in given.sides for path in given.pictures for move in given.moves
    ]  # fmt: skip
    return replace(result, rows=tuple(rows))


def alarms(result: Result, given: argparse.Namespace) -> Result:
    """How wrong keys fared."""
    best = np.array(wrong_keys(Image.open(given.pictures[0]), given.keys))
    return replace(
        result,
        wrong_keys=len(best),
        false_alarms=int((best >= threshold()).sum()),
        wrong_scores={name: float(np.percentile(best, share)) for name, share in SHARES.items()},
    )


SECTIONS: dict[str, Callable[[Result, argparse.Namespace], Result]] = {
    "time": timing,
    "keys": alarms,
    "survival": surviving,
}
"""What can be measured, by name. Each gives the result with its part."""


def table(result: Result) -> str:
    """What was measured, as Markdown."""
    parts = []
    if times := result.ms_per_megapixel:
        cells = " | ".join(f"{ms:.2f}" for ms in times.values())
        parts.append(f"| {' | '.join(f'{side}×{side}' for side in times)} |\n{'|--:' * len(times)}|\n| {cells} |\n")
        parts[-1] = f"Milliseconds per megapixel:\n\n{parts[-1]}"
    if scores := result.wrong_scores:
        told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        found = f"{result.wrong_keys} wrong keys, {result.false_alarms} found from {result.threshold:.2f} on"
        parts.append(f"{found}. Scores: {told}.\n")
    if result.rows:
        heads = [f"{'half, ' if scale < 1 else 'cut, ' if cut else ''}CRF {crf}" for crf, scale, cut in ATTACKS]
        lines = [f"| picture | side | sways | PSNR, dB | {' | '.join(heads)} |", f"|---|--:|---|{'--:|' * 10}"]
        for row in result.rows:
            cells = " | ".join(row.scores)
            lines.append(f"| {row.picture} | {row.side} | {row.move} | {row.psnr:.1f} | {cells} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.watermark", description=SUMMARY)
    parser.add_argument("pictures", nargs="*", type=Path, default=[PORTRAIT], help="portraits (default: the package's)")
    parser.add_argument("--keys", type=int, default=200, help="wrong keys to look for (default: 200)")
    parser.add_argument("--sides", nargs="*", type=int, default=SIDES, help="of videos, in pixels (default: all)")
    parser.add_argument("--moves", nargs="*", choices=MOVES, default=MOVES, help="what sways (default: both)")
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS), help="parts (default: all)")
    add_outputs(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print the tables and the JSON line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.keys < 1 or min(given.sides, default=0) < 64:
        parser.error("--keys is 1 or more, --sides are 64 or more")
    result = Result("watermark", SCHEMA, environment(None), threshold())
    for name in given.only:
        result = SECTIONS[name](result, given)
    publish(result, table(result), given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
