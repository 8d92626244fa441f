"""`emo-rt evaluate`: how good are these videos, and is a setting as good as another?"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_overwrite, add_quiet, read_options
from emo_rt.errors import ConfigError, InputError, OutputError
from emo_rt.evaluate.options import NETWORKS, Against, Expect, GateOptions
from emo_rt.files import whole_file
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import PrepareOptions
from emo_rt.schema.option import Outside

EXAMPLES = """examples:
  emo-rt evaluate talking.mp4 --portrait portrait.png --html report.html
  emo-rt evaluate ours/ --truth true_videos/ --against wav2lip/ sadtalker/ --markdown table.md
  emo-rt evaluate --regression demo:quality demo:fast --portrait portrait.png --voice speech.wav
  emo-rt evaluate --regression before.mp4 after.mp4 --portrait portrait.png"""


@dataclass(frozen=True)
class ReportFiles:
    """Where a report goes."""

    json: Annotated[Path | None, Outside(placeholder="OUT.json")] = None
    """All results, with a stable schema; - = stdout."""
    markdown: Annotated[Path | None, Outside(placeholder="OUT.md")] = None
    """Tables and definitions; - = stdout. ``None`` = stdout, unless JSON goes there."""
    html: Annotated[Path | None, Outside(placeholder="OUT.html")] = None
    """One page with players and curves."""


def add_arguments(parser: Any) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument("videos", metavar="VIDEO", nargs="*", type=Path, help="video, or a folder of videos")
    add_options(parser, Against, leave_out=NETWORKS)
    networks = parser.add_argument_group("networks of published measures", "ONNX files that you make or get once.")
    add_options(networks, Against, only=NETWORKS)
    gate = parser.add_argument_group("regression gate", "Exit code 1 where B is worse than A.")
    gate.add_argument("--regression", metavar=("A", "B"), nargs=2,
                      help="two of: a video file, or BUNDLE[:PRESET][@BACKEND], like demo:fast@openvino")  # fmt: skip
    add_options(gate, GateOptions)
    add_options(gate, AnimateOptions, only=("seed",))
    add_options(gate, PrepareOptions, only=("face_box",))
    add_options(gate, Machine, leave_out=("bundle", "memory_limit", "exact"))
    output = parser.add_argument_group("output")
    add_options(output, ReportFiles)
    add_overwrite(output, "report")
    add_quiet(output)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns the exit code: 1 where the gate says no."""
    against, files = read_options(args, Against), read_options(args, ReportFiles)
    _check(args, against, files)
    if args.regression:
        return _regression(args, against, files)
    from emo_rt.evaluate import evaluate
    from emo_rt.evaluate.page import report_page

    if not args.videos:
        raise ConfigError("there is nothing to evaluate; name one or more videos, or pass --regression A B")
    report = evaluate(args.videos, against, progress=_teller(args))
    _publish(files, report, lambda: report_page(report, against.portrait))
    return 0


def _regression(args: argparse.Namespace, against: Against, files: ReportFiles) -> int:
    from emo_rt.evaluate.page import regression_page
    from emo_rt.evaluate.regression import compare
    from emo_rt.evaluate.subject import Subject

    if args.videos:
        raise ConfigError(f"--regression compares two; {args.videos[0]} is a third, leave it out")
    gate, subjects = read_options(args, GateOptions), [Subject.parse(text) for text in args.regression]
    say, speech = _teller(args), _speech(args)
    made = []
    for subject in subjects:
        say(subject.text)
        made.append(subject.footage(speech))
    (first, one_s, clip_frames), (second, other_s, _) = made
    against = replace(against, clip_frames=against.clip_frames or clip_frames)
    if any(subject.is_model for subject in subjects):
        against = replace(against, voice=None)  # the sound went in; files bring their own
    expect: Expect = gate.expect or ("quality" if subjects[0].preset != subjects[1].preset else "equal")
    result = compare(first, second, expect, against, least_psnr=gate.least_psnr, seconds=(one_s, other_s))
    _publish(files, result, lambda: regression_page(result, against.portrait))
    return 0 if result.passed else 1


def _speech(args: argparse.Namespace) -> Any:
    from emo_rt.evaluate.footage import waveform
    from emo_rt.evaluate.subject import Speech
    from emo_rt.media.audio import open_audio

    if args.portrait is None or args.voice is None:
        return None
    sound = waveform(open_audio(args.voice))
    return Speech(args.portrait, sound, args.face_box, args.seed, args.device, args.threads)


def _teller(args: argparse.Namespace) -> Any:
    return (lambda name: None) if args.quiet else (lambda name: terminal.note(f"looking at {name}"))


def _check(args: argparse.Namespace, against: Against, files: ReportFiles) -> None:
    """Before minutes of work: whether all networks are there, and every report can be written."""
    for name in NETWORKS:
        path = getattr(against, name)
        if path is not None and not Path(path).is_file():
            raise InputError(f"there is no network {path}; --{name} expects an ONNX file")
    if args.regression and against.systems:
        raise ConfigError("--against adds rows to a table; --regression compares two, leave one of them out")
    if args.expect and not args.regression:
        raise ConfigError("--expect is a question of the gate; pass --regression A B with it")
    for path in (files.json, files.markdown, files.html):
        if path is None or str(path) == "-":
            continue
        if not path.parent.is_dir():
            raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")
        if path.exists() and not args.overwrite:
            raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")


def _publish(files: ReportFiles, result: Any, page: Any) -> None:
    """Write what was asked for; the table goes to stdout where nothing else does."""
    texts = {files.json: result.json, files.markdown: result.markdown, files.html: page}
    for path, text in texts.items():
        if path is None:
            continue
        if str(path) == "-":
            terminal.say(text())
        else:
            _write(path, text())
    if str(files.json) != "-" and str(files.markdown) != "-":
        terminal.say(result.markdown().rstrip() if files.markdown is None else getattr(result, "verdict", ""))


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path.absolute()) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
