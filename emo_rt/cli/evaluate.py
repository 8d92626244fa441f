"""`emo-rt evaluate`: how good are these videos, and is a setting as good as another?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_overwrite, add_quiet
from emo_rt.errors import ConfigError, InputError, OutputError
from emo_rt.files import whole_file
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import PrepareOptions

EXAMPLES = """examples:
  emo-rt evaluate talking.mp4 --portrait portrait.png --html report.html
  emo-rt evaluate ours/ --truth true_videos/ --against wav2lip/ sadtalker/ --markdown table.md
  emo-rt evaluate --regression demo:quality demo:fast --portrait portrait.png --voice speech.wav
  emo-rt evaluate --regression before.mp4 after.mp4 --portrait portrait.png"""


CONVERTED = {"i3d": "FVD", "syncnet": "LSE-C and LSE-D", "deep3d": "E-FID"}
"""Networks of published measures, which a converter makes of their public files."""


def add_arguments(parser: Any) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument("videos", metavar="VIDEO", nargs="*", type=Path, help="video, or a folder of videos")
    parser.add_argument("--portrait", type=Path, help="picture of the person; or a folder, one per video's name")
    parser.add_argument("--voice", metavar="SOUND", type=Path, help="sound to hold the lips against (default: its own)")
    parser.add_argument("--truth", metavar="FOLDER", type=Path, help="true videos, for E-FID on blendshapes")
    parser.add_argument("--against", metavar="FOLDER", type=Path, nargs="+", default=[],
                        help="videos of other systems: a row each, same measures")  # fmt: skip
    parser.add_argument("--clip-frames", metavar="N", type=int, help="frames in a clip, for jumps at clip borders")
    parser.add_argument("--arcface", metavar="FILE.onnx", type=Path,
                        help="face-recognition network for F-SIM, like InsightFace's w600k_r50.onnx")  # fmt: skip
    parser.add_argument("--inception", metavar="FILE.onnx", type=Path,
                        help="Inception network for FID: (1, 3, 299, 299) in -1 … 1 to 2048 numbers")  # fmt: skip
    for name, title in CONVERTED.items():
        parser.add_argument(f"--{name}", metavar="FILE.onnx", type=Path,
                            help=f"network for {title}, by python -m emo_rt.export.metrics.convert {name}")  # fmt: skip
    gate = parser.add_argument_group("regression gate: exit code 1 where B is worse than A")
    gate.add_argument("--regression", metavar=("A", "B"), nargs=2,
                      help="two of: a video file, or BUNDLE[:PRESET][@BACKEND], like demo:fast@openvino")  # fmt: skip
    gate.add_argument("--expect", choices=("equal", "quality"),
                      help="equal: the same frames to rounding; quality: as good, though the frames differ "
                      "(default: quality for two presets, else equal)")  # fmt: skip
    gate.add_argument("--least-psnr", metavar="DB", type=float, default=60.0,
                      help="what every frame needs where they shall be equal (default: %(default)g)")  # fmt: skip
    add_options(gate, AnimateOptions, only=("seed",))
    add_options(gate, PrepareOptions, only=("face_box",))
    add_options(gate, Machine, leave_out=("bundle", "memory_limit"))
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="OUT.json", type=Path, help="everything, with a stable schema; - = stdout")
    output.add_argument("--markdown", metavar="OUT.md", type=Path, help="tables and definitions (default: to stdout)")
    output.add_argument("--html", metavar="OUT.html", type=Path, help="one page with players and curves")
    add_overwrite(output, "report")
    add_quiet(output)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns the exit code: 1 where the gate says no."""
    _check(args)
    if args.regression:
        return _regression(args)
    from emo_rt.evaluate import evaluate
    from emo_rt.evaluate.page import report_page

    if not args.videos:
        raise ConfigError("there is nothing to evaluate; name one or more videos, or pass --regression A B")
    report = evaluate(args.videos, _against(args), progress=_teller(args))
    _publish(args, report, lambda: report_page(report, args.portrait))
    return 0


def _regression(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from emo_rt.evaluate.page import regression_page
    from emo_rt.evaluate.regression import Expect, compare
    from emo_rt.evaluate.subject import Subject

    if args.videos:
        raise ConfigError(f"--regression compares two; {args.videos[0]} is a third, leave it out")
    subjects = [Subject.parse(text) for text in args.regression]
    say, speech = _teller(args), _speech(args)
    made = []
    for subject in subjects:
        say(subject.text)
        made.append(subject.footage(speech))
    (first, one_s, clip_frames), (second, other_s, _) = made
    expect: Expect = args.expect or ("quality" if subjects[0].preset != subjects[1].preset else "equal")
    against = replace(_against(args), clip_frames=args.clip_frames or clip_frames)
    if any(subject.is_model for subject in subjects):
        against = replace(against, voice=None)  # the sound went in; files bring their own
    result = compare(first, second, expect, against, least_psnr=args.least_psnr, seconds=(one_s, other_s))
    _publish(args, result, lambda: regression_page(result, args.portrait))
    return 0 if result.passed else 1


def _speech(args: argparse.Namespace) -> Any:
    from emo_rt.evaluate.footage import waveform
    from emo_rt.evaluate.subject import Speech
    from emo_rt.media.audio import open_audio

    if args.portrait is None or args.voice is None:
        return None
    sound = waveform(open_audio(args.voice))
    return Speech(args.portrait, sound, args.face_box, args.seed, args.device, args.threads)


def _against(args: argparse.Namespace) -> Any:
    from emo_rt.evaluate import Against

    names = ("portrait", "voice", "truth", "clip_frames", "arcface", "inception", *CONVERTED)
    return Against(systems=args.against, **{name: getattr(args, name) for name in names})


def _teller(args: argparse.Namespace) -> Any:
    return (lambda name: None) if args.quiet else (lambda name: terminal.note(f"looking at {name}"))


def _check(args: argparse.Namespace) -> None:
    """Before minutes of work: whether every report can be written."""
    if args.clip_frames is not None and args.clip_frames < 1:
        raise ConfigError(f"clip_frames is {args.clip_frames}; expected 1 or more")
    for name in ("arcface", "inception", *CONVERTED):
        path = getattr(args, name)
        if path is not None and not path.is_file():
            raise InputError(f"there is no network {path}; --{name} expects an ONNX file")
    if args.regression and args.against:
        raise ConfigError("--against adds rows to a table; --regression compares two, leave one of them out")
    if args.expect and not args.regression:
        raise ConfigError("--expect is a question of the gate; pass --regression A B with it")
    for path in (args.json, args.markdown, args.html):
        if path is None or str(path) == "-":
            continue
        if not path.parent.is_dir():
            raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")
        if path.exists() and not args.overwrite:
            raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")


def _publish(args: argparse.Namespace, result: Any, page: Any) -> None:
    """Write what was asked for; the table goes to stdout where nothing else does."""
    texts = {args.json: result.json, args.markdown: result.markdown, args.html: page}
    for path, text in texts.items():
        if path is None:
            continue
        if str(path) == "-":
            terminal.say(text())
        else:
            _write(path, text())
    if str(args.json) != "-" and str(args.markdown) != "-":
        terminal.say(result.markdown().rstrip() if args.markdown is None else getattr(result, "verdict", ""))


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path.absolute()) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
