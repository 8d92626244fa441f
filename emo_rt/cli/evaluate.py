"""`emo-rt evaluate`: how good are these videos, and is a setting as good as another?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
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
from emo_rt.schema.option import Outside, options_of

EXAMPLES = """examples:
  emo-rt evaluate talking.mp4 --portrait portrait.png --html report.html
  emo-rt evaluate ours/ --truth true_videos/ --against wav2lip/ sadtalker/ --markdown table.md
  emo-rt evaluate --regression demo:quality demo:fast --portrait portrait.png --voice speech.wav
  emo-rt evaluate --regression before.mp4 after.mp4 --portrait portrait.png"""


OF_MODELS: Mapping[type, Sequence[str]] = {
    AnimateOptions: ("seed",),
    PrepareOptions: ("face_box",),
    Machine: ("device", "backend", "threads"),
}
"""Options of the gate that say how a model makes its video."""
OF_GATE: Mapping[type, Sequence[str]] = {GateOptions: [option.name for option in options_of(GateOptions)]}
"""What it asks for."""


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
    for cls, names in OF_MODELS.items():
        add_options(gate, cls, only=names)
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
    if any(subject.is_model for subject in subjects):
        against = replace(against, voice=None)  # the sound goes in; files bring their own
    else:
        _refuse(args, OF_MODELS, "is for a model, and both sides are videos; leave it out")
    made = []
    for subject in subjects:
        say(subject.text)
        made.append(subject.footage(speech))
    (first, one_s, clip_frames), (second, other_s, other_clip_frames) = made
    against = replace(against, clip_frames=against.clip_frames or clip_frames or other_clip_frames)
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
    if not args.regression:
        _refuse(
            args,
            {GateOptions: [one.name for one in options_of(GateOptions)], **OF_MODELS},
            "is for the gate: pass --regression A B",
        )
    _check_files(files, overwrite=args.overwrite)


def _refuse(args: argparse.Namespace, unheeded: Mapping[type, Sequence[str]], why: str) -> None:
    """Raise :class:`ConfigError` for an option that was given and would not be heeded."""
    for cls, names in unheeded.items():
        for option in options_of(cls):
            if option.name in names and getattr(args, option.name) != option.default:
                raise ConfigError(f"--{option.name.replace('_', '-')} {why}")


def _check_files(files: ReportFiles, *, overwrite: bool) -> None:
    named = [path for path in (files.json, files.markdown, files.html) if path is not None]
    if len(set(named)) < len(named):
        raise ConfigError(f"two reports shall go to {max(named, key=named.count)}; name a file for each")
    for path in named:
        if str(path) == "-":
            continue
        if not path.parent.is_dir():
            raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; expected the name of a file")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")


def _publish(files: ReportFiles, result: Any, page: Callable[[], str]) -> None:
    """Write what was asked for; the table goes to stdout where nothing else does. All is made before any is written."""
    makers = {"json": result.json, "markdown": result.markdown, "html": page}
    texts = {path: make() for name, make in makers.items() if (path := getattr(files, name)) is not None}
    to_stdout = [text for path, text in texts.items() if str(path) == "-"]
    for path, text in texts.items():
        if str(path) != "-":
            _write(path, text)
    if not to_stdout and files.markdown is None:
        to_stdout = [result.markdown().rstrip()]
    elif not to_stdout and hasattr(result, "verdict"):
        to_stdout = [result.verdict]
    for text in to_stdout:
        terminal.say(text)


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path.absolute()) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
