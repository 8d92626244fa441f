"""Does the regression gate see what is wrong? Faults are planted into a model and its own video.

Question: would ``emo-rt evaluate --regression`` have caught it?
Theory: rounding of another engine is far above 60 dB; noise on weights, late lips, another face and repeated frames are
not seen by one measure alone, so each needs its own.

    python -m emo_rt.benchmarks.planted_faults --portrait portrait.png --other someone_else.png --voice speech.wav

A is the model as it is. B is: the same on another engine (or the same again), the model with normal noise of 1 % of
each weight's deviation in one graph, the sound late by three frames, another portrait, every tenth frame repeated.
Engines and weights must compute the same; the others are asked for quality, which lets frames differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile, copytree

import numpy as np
from numpy.typing import NDArray

from emo_rt import AnimateOptions, Bundle
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, read_options
from emo_rt.errors import BackendUnavailableError, MissingDependencyError
from emo_rt.evaluate.assessment import Eyes
from emo_rt.evaluate.footage import Footage, of_frames, waveform
from emo_rt.evaluate.options import Against, Expect
from emo_rt.evaluate.regression import compare
from emo_rt.evaluate.subject import Speech, made
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, open_audio
from emo_rt.media.box import FaceBox
from emo_rt.media.picture import PictureSource
from emo_rt.model.bundle import GRAPHS_FOLDER, read_manifest, write_manifest

SUMMARY = (__doc__ or "").partition("\n")[0]
NOISE = 0.01
"""Deviation of the noise, as a share of the weights' own."""
LEAST_WEIGHTS = 64
"""Smaller tensors are constants of the graph rather than weights."""
LATE_FRAMES, EVERY = 3, 10
"""Frames by which the sound is late, and the place of the repeated frame."""
EXACT = {"onnxruntime": "openvino", "openvino": "onnxruntime"}
"""Backend → another that computes the same to rounding; those of bfloat16 are held against themselves."""
GRAPHS = ("reference", "clip", "step", "vae_decoder")
"""Graphs that get noise, each by itself."""


@dataclass(frozen=True)
class Answer:
    """What the gate said of one fault."""

    fault: str
    """What was planted."""
    expect: Expect
    """What the gate was asked."""
    should_pass: bool
    """What it ought to say."""
    passed: bool
    """What it said."""
    verdict: str
    """In words."""


def noisy_bundle(bundle: Bundle, graph: str, folder: Path) -> Path:
    """A copy whose ``graph`` has noise on its weights. Raises :class:`MissingDependencyError` without onnx."""
    try:
        import onnx
    except ImportError as exc:
        raise MissingDependencyError("noise on weights needs onnx: pip install 'emo_rt[export]'") from exc
    copy = Path(copytree(bundle.path, folder, copy_function=copyfile))
    rng = np.random.default_rng(0)
    for path in sorted((copy / GRAPHS_FOLDER).glob(f"{graph}*.onnx")):
        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and values.size > LEAST_WEIGHTS:
                noise = rng.normal(0, NOISE * float(values.std()), values.shape)
                tensor.CopyFrom(onnx.numpy_helper.from_array((values + noise).astype(values.dtype), tensor.name))
        onnx.save(model, str(path))
    write_manifest(copy, read_manifest(copy))
    return copy


def late(sound: NDArray[np.float32], frames: int, fps: float) -> NDArray[np.float32]:
    """The sound after so many frames of silence, no longer than before."""
    silence = np.zeros(round(frames / fps * AUDIO_SAMPLE_RATE), np.float32)
    return np.concatenate([silence, sound])[: len(sound)]


def repeating(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every tenth frame is the one before it."""
    frames = frames.copy()
    frames[EVERY - 1 :: EVERY] = frames[EVERY - 2 : -1 : EVERY]
    return frames


class Planter:
    """Makes A once and each B, and asks the gate."""

    def __init__(self, machine: Machine, speech: Speech, options: AnimateOptions, eyes: Eyes | None = None) -> None:
        """Raises what making a video raises."""
        self._machine, self._speech, self._options = machine, speech, options
        self._eyes = eyes or Eyes()
        is_file = isinstance(speech.portrait, str | Path)
        self._against = Against(portrait=speech.portrait if is_file else None)  # as `emo-rt evaluate` is told it
        terminal.note("the model as it is")
        self._frames, self._fps = self._made(machine, speech)
        self._first = of_frames("A", self._frames, self._fps, speech.sound)

    def answers(self, other: PictureSource, face_box: FaceBox | None = None) -> Iterator[Answer]:
        """One after another. ``other``: picture of somebody else, with the face at ``face_box`` (default: found)."""
        yield self._ask(*self._other_engine(), "equal", True)
        for graph in GRAPHS:
            yield self._ask(f"1 % noise on the weights of {graph}", self._noisy(graph), "equal", False)
        sound = late(self._speech.sound, LATE_FRAMES, self._fps)
        frames, _ = self._made(self._machine, replace(self._speech, sound=sound))
        yield self._ask(f"lips late by {LATE_FRAMES} frames", frames, "quality", False)
        frames, _ = self._made(self._machine, replace(self._speech, portrait=other, face_box=face_box))
        yield self._ask("another person's portrait", frames, "quality", False)
        yield self._ask("every tenth frame repeated", repeating(self._frames), "quality", False)

    def _made(self, machine: Machine, speech: Speech) -> tuple[NDArray[np.uint8], float]:
        with machine.load() as animator:
            return made(animator, speech, self._options)[0], animator.config.fps

    def _other_engine(self) -> tuple[str, NDArray[np.uint8]]:
        """What it is, and its frames."""
        with self._machine.load() as animator:
            own = animator.backend
        other = EXACT.get(own, own)
        try:
            frames, _ = self._made(replace(self._machine, backend=other), self._speech)
        except BackendUnavailableError:  # not installed here; a failure of an engine that is here is told
            return f"the same by {own} again", self._made(self._machine, self._speech)[0]
        return f"the same by {other} " + ("again" if other == own else f"instead of {own}"), frames

    def _noisy(self, graph: str) -> NDArray[np.uint8]:
        with tempfile.TemporaryDirectory() as folder:
            path = noisy_bundle(Bundle.open(self._machine.bundle), graph, Path(folder) / "noisy")
            return self._made(replace(self._machine, bundle=str(path)), self._speech)[0]

    def _ask(self, fault: str, frames: NDArray[np.uint8], expect: Expect, should_pass: bool) -> Answer:
        second: Footage = of_frames("B", frames, self._fps, self._speech.sound)
        result = compare(self._first, second, expect, self._against, eyes=self._eyes)
        terminal.note(f"{fault}: {result.verdict}")
        return Answer(fault, expect, should_pass, result.passed, result.verdict)


def markdown(answers: Sequence[Answer]) -> str:
    """A row per fault."""
    lines = ["| B is | asked for | what the gate says |", "|---|---|---|"]
    for one in answers:
        wrong = "" if one.passed == one.should_pass else " **(wrong)**"
        lines.append(f"| {one.fault} | {one.expect} | {one.verdict}{wrong} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, ask, print. Returns 1 where the gate was wrong."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.planted_faults", description=SUMMARY)
    add_options(parser, Machine)
    add_options(parser, AnimateOptions, only=("mode",))
    parser.add_argument("--portrait", type=Path, required=True, help="picture of a person")
    parser.add_argument("--other", type=Path, required=True, help="picture of somebody else")
    parser.add_argument("--voice", type=Path, required=True, help="what the person says")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the voice (default: %(default)g)")
    add_outputs(parser)
    given = parser.parse_args(arguments)
    machine = read_options(given, Machine)
    sound = waveform(open_audio(given.voice))[: round(given.seconds * AUDIO_SAMPLE_RATE)]
    planter = Planter(machine, Speech(given.portrait, sound), AnimateOptions(preset=given.mode))
    answers = list(planter.answers(given.other))
    result = {
        "benchmark": "planted_faults",
        "schema": SCHEMA,
        "seconds": given.seconds,
        "environment": environment(given.threads),
        "answers": [vars(one) for one in answers],
    }
    publish(result, markdown(answers), given)
    return 0 if all(one.passed == one.should_pass for one in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
