"""`emo-rt animate`: a portrait and a voice of the user's."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo_rt.cli import terminal
from emo_rt.cli.animation import STDOUT, Job, animate, time_taken, what_was_made
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_overwrite, add_quiet, read_options, video_name
from emo_rt.errors import ConfigError
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.video_file import VideoOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import PrepareOptions, Request
from emo_rt.schema.option import option_of, options_of

EXAMPLES = """examples:
  emo-rt animate portrait.jpg speech.wav -o talking.mp4
  emo-rt animate team.jpg song.mp3 -o song.mp4 --face-box 412,172,612,352 --speed 1.2 --seed 7
  emo-rt animate portrait.jpg speech.wav -o - | ffplay -"""
MODE = ("mode", "seed")
"""Options that most users need, shown first."""
SOUND = ("max_audio",)
PASTE = ("paste_back",)
MARKS = tuple(option.name for option in options_of(MarkOptions))
"""Options of :class:`VideoOptions` that have a group of their own."""
EMBEDDING = ("face_embedding", "embedding_model", "no_face_embedding")
"""Options that exclude each other."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    for name, outside in (("portrait", "portrait"), ("voice", "audio")):
        text = option_of(Request, name).text
        parser.add_argument(outside, help=text[0].lower() + text[1:])
    _add_output(parser.add_argument_group("output"))
    motion = parser.add_argument_group("motion")
    add_options(motion, AnimateOptions, only=MODE)
    add_options(motion, AnimateOptions, leave_out=(*MODE, *SOUND, *PASTE))
    add_options(parser.add_argument_group("sound"), AnimateOptions, only=SOUND)
    picture = parser.add_argument_group("picture")
    add_options(picture, PrepareOptions)
    add_options(picture, AnimateOptions, only=PASTE)
    face = parser.add_argument_group("face (Hallo models only)")
    add_options(face.add_mutually_exclusive_group(), FaceInputs, only=EMBEDDING)
    add_options(face, FaceInputs, leave_out=EMBEDDING)
    add_options(parser.add_argument_group("encoding"), VideoOptions, leave_out=MARKS)
    add_options(parser.add_argument_group("marks"), MarkOptions)
    machine = parser.add_argument_group("model and machine")
    add_options(machine, Machine)
    machine.add_argument(
        "--trace", metavar="OUT.json", type=Path, help="write which stage worked when, for Perfetto or chrome://tracing"
    )
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Make the video and print a short receipt. Raises what :class:`emo_rt.Animator` raises, :class:`OutputError`."""
    if args.out is None and args.frames_dir is None:
        raise ConfigError("there is nothing to write; pass -o OUT.mp4, --frames-dir DIR, or both")
    request = Request(
        portrait=args.portrait,
        voice=args.audio,
        prepare=read_options(args, PrepareOptions, face=read_options(args, FaceInputs)),
        animate=read_options(args, AnimateOptions),
        video=read_options(args, VideoOptions),
    )
    output = {name: getattr(args, name) for name in ("frames_dir", "overwrite", "trace", "quiet")}
    outcome = animate(Job(request, args.out, read_options(args, Machine), **output))
    if not args.quiet:
        write = terminal.note if args.out == STDOUT else terminal.say  # stdout has the video then
        write(f"{what_was_made(outcome)}\nmade with {outcome.runtime} in {time_taken(outcome)}")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-o", "--out", metavar="OUT", type=video_name,
        help="video to write: .mp4, .m4v, .mov; - = fragmented MP4 to stdout",
    )  # fmt: skip
    group.add_argument(
        "--frames-dir", metavar="DIR", type=Path, help="also, or without -o only, write PNG frames into this new folder"
    )
    add_overwrite(group)
