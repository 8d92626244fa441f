"""What does it cost to ask for more: a longer video, a larger picture, longer clips, more avatars at once?

Theory
    length      every clip costs the same and nothing of it is kept: time grows in a straight line, memory not at all
                but for the index of the MP4 file (80 bytes per frame).
    resolution  convolutions and temporal layers grow with the pixels, self-attention with their square; at small sizes
                calls cost more than arithmetic, so the first doublings are cheap.
    frames      temporal attention grows with the square of the clip's frames, all else in a straight line: the cost per
                frame stays about the same.
    avatars     the graphs of one model already use all cores: several avatars share them, and only fill pauses.

Method
    Networks of the preset ``tiny`` with random weights, exported first (needs emo_rt[export]); ``--bundle`` measures
    length and avatars with another model. Each length runs in a fresh process, from a WAV file to an MP4 file, after
    :meth:`emo_rt.Animator.estimate` has predicted its time and memory.

Command
    python -m emo_rt.benchmarks.scaling [--only length,resolution,frames,avatars] [--lengths 1,10,60,600,3600]
                                        [--steps 2] [--threads 1] [--bundle DIR] [--quick]
                                        [--json FILE] [--markdown FILE]

The tables are Markdown; the last line is JSON. ``--json`` and ``--markdown`` also write them to files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from emo_rt.benchmarks.harness import SCHEMA, PeakMemory, add_outputs, as_json, environment, measure, publish
from emo_rt.benchmarks.subject import Setting, Subject
from emo_rt.benchmarks.throughput import AtOnce, several
from emo_rt.errors import BackendError, MissingDependencyError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig

SUMMARY = (__doc__ or "").partition("\n")[0]
LENGTHS = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds of sound."""
SIZES, FRAMES, AVATARS = (32, 64, 128), (4, 8, 16), (1, 2, 4, 8)
"""Pixels of a side; frames per clip; avatars at once."""
CHILD = "import sys; from emo_rt.benchmarks.scaling import child; child(sys.argv[1], float(sys.argv[2]))"


@dataclass(frozen=True)
class Length:
    """A video of some length, and what was predicted of it."""

    seconds: float
    """Of sound."""
    frames: int
    wall_s: float
    wall_per_second: float
    """Seconds of work per second of sound."""
    peak_rss_bytes: int | None
    wall_predicted: float
    """The estimate in units of what came."""
    memory_predicted: float | None
    """The same of memory."""
    calibration_s: float
    """What the estimate took."""


@dataclass(frozen=True)
class OneClip:
    """One clip of some size."""

    size: int
    """Pixels of a side."""
    frames: int
    clip_s: float
    frame_s: float
    run_bytes: int
    """Buffers of the run."""


Row = Length | OneClip | AtOnce


@dataclass(frozen=True)
class Result:
    """All that was measured."""

    benchmark: str
    schema: int
    environment: dict[str, Any]
    setting: dict[str, Any]
    sections: dict[str, Sequence[Row]]
    """By name, a row for each value that varies."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    only: tuple[str, ...]
    """Names of :data:`SECTIONS`."""
    lengths: tuple[float, ...]
    """Seconds of sound."""
    sizes: tuple[int, ...]
    """Pixels of a side."""
    frames: tuple[int, ...]
    """Frames per clip."""
    avatars: tuple[int, ...]
    """Avatars at once."""
    bundle: str | None
    """Model for length and avatars; ``None`` = the preset ``tiny``."""
    setting: Setting
    """Steps, threads, rounds."""


def lengths(plan: Plan, folder: Path) -> Sequence[Row]:
    """Time and memory by length, with what was predicted."""
    bundle = plan.bundle or export(_tiny(), folder)
    setting = json.dumps(asdict(replace(plan.setting, bundle=bundle)))
    return [_fresh_process(setting, seconds) for seconds in plan.lengths]


def resolutions(plan: Plan, folder: Path) -> Sequence[Row]:
    """Time of one clip by picture size."""
    return [_one_clip(plan, export(replace(_tiny(), size=size), folder)) for size in plan.sizes]


def frames(plan: Plan, folder: Path) -> Sequence[Row]:
    """Time of one clip by its frames."""
    base = _tiny()
    room = replace(base.temporal, max_positions=max(plan.frames) + base.motion_frames)
    configs = [replace(base, frames=count, temporal=room) for count in plan.frames]
    return [_one_clip(plan, export(config, folder)) for config in configs]


def avatars(plan: Plan, folder: Path) -> Sequence[Row]:
    """Frames per second by the number of avatars that speak at once."""
    with Subject(replace(plan.setting, bundle=plan.bundle or export(_tiny(), folder))) as subject:
        subject.run()
        return several(subject, plan.avatars).rows


SECTIONS: dict[str, Callable[[Plan, Path], Sequence[Row]]] = {
    "length": lengths,
    "resolution": resolutions,
    "frames": frames,
    "avatars": avatars,
}
"""Parts of the benchmark by name."""
COLUMNS = {
    "length": ("seconds", "wall_s", "wall_per_second", "peak_rss_bytes", "wall_predicted", "memory_predicted"),
    "resolution": ("size", "clip_s", "frame_s", "run_bytes"),
    "frames": ("frames", "clip_s", "frame_s", "run_bytes"),
    "avatars": ("avatars", "wall_s", "frames_per_second", "slowest_s"),
}
"""Columns of each table; the first is what varies. ``…_predicted`` is the estimate divided by what came."""


def run(plan: Plan) -> Result:
    """All sections of the plan."""
    stamp = environment(plan.setting.threads)
    with tempfile.TemporaryDirectory(prefix="emo_rt-scaling-") as folder:
        sections = {name: SECTIONS[name](plan, Path(folder)) for name in plan.only}
    return Result("scaling", SCHEMA, stamp, plan.setting.to_dict(), sections)


def child(setting: str, seconds: float) -> None:
    """In a fresh process: predict and make one video; print the row as JSON."""
    with Subject(Setting(**json.loads(setting))) as subject, tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.wav"
        _write_sound(sound, seconds)
        predicted = subject.animator.estimate(seconds, options=subject.setting.options())
        video = subject.animator.animate(subject.avatar, sound, options=subject.setting.options())
        with PeakMemory() as memory:
            start = perf_counter()
            video.save(Path(folder) / "out.mp4")
            wall = perf_counter() - start
    peak, expected = memory.value, predicted.memory_bytes
    row = Length(
        seconds=seconds,
        frames=video.frame_count,
        wall_s=wall,
        wall_per_second=wall / seconds,
        peak_rss_bytes=peak,
        wall_predicted=predicted.wall_s / wall,
        memory_predicted=expected / peak if expected and peak else None,
        calibration_s=predicted.calibration_s,
    )
    sys.stdout.write(as_json(row) + "\n")


def _fresh_process(setting: str, seconds: float) -> Length:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, setting, str(seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BackendError(f"the process for {seconds:g} s failed: {done.stderr.strip()[-500:]}")
    return Length(**json.loads(done.stdout.splitlines()[-1]))


def _one_clip(plan: Plan, bundle: str) -> OneClip:
    with Subject(replace(plan.setting, bundle=bundle)) as subject:
        video = subject.animate()
        chunks = video.chunks()
        next(chunks)
        buffers = subject.animator.memory_stats()["runs"]
        for _ in chunks:
            pass
        clip_s = measure(subject.run, plan.setting.rounds).median
    config = subject.config
    return OneClip(config.size, config.frames, clip_s, clip_s / config.frames, buffers)


def _write_sound(path: Path, seconds: float) -> None:
    """Noise in a WAV file, second by second: an hour must not be in memory."""
    generator, left = np.random.default_rng(0), round(seconds * AUDIO_SAMPLE_RATE)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, AUDIO_SAMPLE_RATE, 0, "NONE", ""))
        while left > 0:
            samples = generator.integers(-3000, 3000, min(left, AUDIO_SAMPLE_RATE)).astype("<i2")
            file.writeframes(samples.tobytes())
            left -= len(samples)


def _tiny() -> ModelConfig:
    with _torch():
        from emo_rt.export.presets import preset

        return preset("tiny")


def export(config: ModelConfig, folder: Path) -> str:
    """A bundle of ``config`` with random weights in ``folder``, made once. Raises :class:`MissingDependencyError`."""
    target = folder / f"{config.name}-{config.size}-{config.frames}-{config.temporal.max_positions}"
    if not target.exists():
        with _torch():
            from emo_rt.export.networks.model import build_model
            from emo_rt.export.onnx_export import ExportOptions, export_bundle

        export_bundle(build_model(config), target, ExportOptions(check=False))
    return str(target)


@contextmanager
def _torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(f"exporting needs {exc.name}; pip install 'emo_rt[export]'") from exc


def tables(result: Result) -> str:
    """One Markdown table per section."""
    parts = []
    for name, rows in result.sections.items():
        columns = COLUMNS[name]
        lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---:" * len(columns) + "|"]
        lines += [f"| {' | '.join(_cell(column, getattr(row, column)) for column in columns)} |" for row in rows]
        parts.append(f"## {name}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f} MB" if column.endswith("_bytes") else f"{value:.4g}"


def _plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    setting = Setting(threads=options.threads, steps=options.steps, rounds=1 if quick else 5)
    return Plan(
        only=tuple(options.only),
        lengths=(1.0, 2.0) if quick else tuple(options.lengths),
        sizes=SIZES[:1] if quick else SIZES,
        frames=FRAMES[:1] if quick else FRAMES,
        avatars=AVATARS[:2] if quick else AVATARS,
        bundle=options.bundle,
        setting=setting,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.scaling", description=SUMMARY)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument(
        "--lengths", type=lambda text: [float(part) for part in text.split(",")], default=LENGTHS, help="seconds"
    )
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bundle", help="model for length and avatars (the preset tiny)")
    parser.add_argument("--quick", action="store_true", help="short, only to see that it runs")
    add_outputs(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and the JSON line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.only) - set(SECTIONS))
    if unknown or options.steps < 1 or min(options.lengths) <= 0:
        parser.error(f"--only takes {', '.join(SECTIONS)}; --steps is 1 or more, --lengths are more than 0")
    result = run(_plan(options))
    publish(result, tables(result), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
