"""`emo-rt tune`: presets measured on the user's own model, portrait and machine."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from typing import Any

from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_quiet, read_options
from emo_rt.errors import ConfigError
from emo_rt.evaluate.options import TuneOptions
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import PrepareOptions

EXAMPLES = """examples:
  emo-rt tune my_bundle --portrait portrait.png --voice speech.wav --budget 10m
  emo-rt tune my_bundle --forget"""
SPEED = "s per s of video"
LEGEND = """s per s of video: seconds of computing per second of video. kept: share of the first setting's quality,
the mean of lips, range of the mouth, sharpness and SSIM. PSNR: likeness of the frames to the first setting's.
gate: whether `emo-rt evaluate --regression` takes it for as good as the first."""


def add_arguments(parser: Any) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument("bundle", metavar="BUNDLE", help="model folder, or demo")
    add_options(parser, TuneOptions)
    add_options(parser, AnimateOptions, only=("seed",))
    add_options(parser, PrepareOptions, only=("face_box",))
    parser.add_argument("--json", action="store_true", help="print the presets and the curve as JSON")
    add_options(parser.add_argument_group("machine"), Machine, leave_out=("bundle",))
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from emo_rt.model.bundle import Bundle
    from emo_rt.model.tuned import forget_tuned

    options = read_options(args, TuneOptions)
    if options.forget:
        had = forget_tuned(Bundle.open(args.bundle))
        terminal.say("the tuned presets are deleted" if had else "this model has no tuned presets")
        return 0
    if options.portrait is None or options.voice is None:
        raise ConfigError("say what the model shall be tuned on: --portrait PICTURE --voice SOUND")
    _tune(args, options, options.portrait, options.voice)
    return 0


def _tune(
    args: argparse.Namespace, options: TuneOptions, portrait: str | os.PathLike[str], voice: str | os.PathLike[str]
) -> None:
    from emo_rt.evaluate.footage import waveform
    from emo_rt.evaluate.subject import Speech
    from emo_rt.evaluate.tuning import tune
    from emo_rt.media.audio import open_audio
    from emo_rt.model.tuned import write_tuned

    sound = waveform(open_audio(voice))
    speech = Speech(os.fspath(portrait), sound, args.face_box, args.seed, args.device, args.threads)
    with read_options(args, Machine).load(tuned=False) as animator:  # not on top of what was tuned before
        tuned = tune(animator, speech, options.budget, None if args.quiet else terminal.note)
        path = None if options.dry_run else write_tuned(animator.bundle, tuned)
    presets = {name: asdict(preset) for name, preset in tuned.presets.items()}
    if args.json:
        terminal.say(json.dumps({"presets": presets, "measured": tuned.measured, "curve": tuned.curve}))
        return
    terminal.say(_curve_table(tuned.curve))
    for row in tuned.curve:
        if not row["passed"]:
            terminal.say(row["verdict"])
    terminal.say(LEGEND)
    left_out = tuned.measured["left_out"]
    if left_out:
        terminal.say(
            f"The budget left out {left_out} of {left_out + len(tuned.curve)} settings; a larger one tries more."
        )
    terminal.say("")
    terminal.say(_preset_table(presets, tuned.curve))
    terminal.say(_speed_of_realtime(presets, tuned.curve))
    if path is not None:
        undo = f"`emo-rt tune {args.bundle} --forget` undoes it"
        terminal.say(f"kept in {path}: this model's presets from now on, like `emo-rt animate --mode fast`; {undo}")


def _curve_table(curve: Any) -> str:
    rows = [("setting", SPEED, "kept", "PSNR", "gate")]
    for row in sorted(curve, key=lambda row: -row["speed"]):
        gate = "passes" if row["passed"] else "fails"
        rows.append((row["name"], f"{row['speed']:.2f}", f"{row['kept']:.3f}", f"{row['likeness']:.1f} dB", gate))
    return terminal.table(rows)


def _preset_table(presets: Any, curve: Any) -> str:
    rows = [("preset", "setting", SPEED, "kept", "may step down to")]
    for name, preset in presets.items():
        row = _measured(preset, curve)
        facts = (row["name"], f"{row['speed']:.2f}", f"{row['kept']:.3f}")
        rows.append((name, *facts, ", ".join(preset["ladder"]) or "-"))
    return terminal.table(rows)


def _speed_of_realtime(presets: Any, curve: Any) -> str:
    speed = _measured(presets["realtime"], curve)["speed"]
    if speed < 1:
        return f"realtime is {1 / speed:.1f} times as fast as the video plays"
    return f"nothing keeps up with the video here: realtime takes {speed:.1f} s for a second"


def _measured(preset: Any, curve: Any) -> Any:
    """The row of the curve that a preset was taken from."""
    plain = {json.dumps({**row["preset"], "ladder": None}, default=list): row for row in curve}
    return plain[json.dumps({**preset, "ladder": None}, default=list)]
