"""Where does the time of one clip go? Each stage on its own, medians; nothing overlaps in a single clip."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from emo_rt import VideoOptions
from emo_rt.benchmarks.harness import measure, timed
from emo_rt.benchmarks.subject import Subject
from emo_rt.media.video_file import VideoWriter
from emo_rt.model.contract import Array

STAGES = {
    "reference": "per portrait: crop, VAE encoder, ReferenceNet",
    "audio": "per clip: audio encoder",
    "clip": "per clip: audio and motion features",
    "step": "per clip: all solver steps",
    "motion": "per clip: motion frames decoded and encoded again (Hallo)",
    "decode": "per clip: latents to pixels",
    "paste": "per clip: back into the whole picture",
    "encode": "per clip: H.264",
}
"""Stages in the order of a run, in words."""


@dataclass(frozen=True)
class Breakdown:
    """Where the time goes."""

    seconds: dict[str, float]
    """Of each of :data:`STAGES`."""
    step_once_s: float
    """Of a single solver step."""
    graphs: dict[str, dict[str, float]]
    """Every graph on its own: see :meth:`emo_rt.benchmarks.recording.Recording.by_graph`."""


def breakdown(subject: Subject) -> Breakdown:
    """Measure every stage and every graph."""
    rounds = subject.setting.rounds
    found: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        stats = subject.run(paste_back=True).stats
        assert stats is not None
        found.append(stats.stages)
    seconds = {name: median(stages[name] for stages in found[1:]) for name in found[0]}
    seconds["reference"] = measure(subject.prepare, rounds).median
    seconds["encode"] = _encode(subject)
    in_order = {name: seconds[name] for name in STAGES if name in seconds}
    return Breakdown(in_order, seconds["step"] / subject.resolved.steps, _graphs(subject))


def _encode(subject: Subject) -> float:
    """Seconds to encode one clip's frames into a file, in the size of the finished video."""
    video = subject.animate(paste_back=True)
    frames = video.numpy()
    with tempfile.TemporaryDirectory(prefix="emo_rt-bench-") as folder:
        return median(_write(Path(folder) / f"{number}.mp4", frames, video.fps) for number in range(3))


def _write(path: Path, frames: Array, fps: int) -> float:
    height, width = frames.shape[1:3]
    with VideoWriter(path, width=width, height=height, fps=fps, options=VideoOptions()) as writer:
        writing = timed(lambda: writer.write(frames))
        return writing + timed(writer.close)  # encoders hold frames back: closing is where the rest is encoded


def _graphs(subject: Subject) -> dict[str, dict[str, float]]:
    """Every graph of a portrait and a clip: how often it runs, and its median time without the runtime around it."""
    if subject.recorder is None:
        return {}
    with subject.recorder.recording() as recording:
        subject.prepare()
        subject.run()
    recording.replay()
    return recording.by_graph(recording.replay_timed())
