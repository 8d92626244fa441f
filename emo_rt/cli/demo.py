"""`emo-rt demo`: animates what the package brings along."""

from __future__ import annotations

import argparse
from pathlib import Path

from emo_rt.cli import terminal
from emo_rt.cli.animation import UNTRAINED, Job, Outcome, animate, time_taken, what_was_made
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, add_overwrite, add_quiet, read_options, video_name
from emo_rt.media.box import Box
from emo_rt.memory import peak_memory
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import PrepareOptions, Request

ASSETS = Path(__file__).parent.parent / "assets"
DEMO_PORTRAIT = ASSETS / "portrait.png"
DEMO_VOICE = ASSETS / "voice.flac"
DEMO_FACE = Box(122, 94, 390, 424)
"""Where the face is in the demo portrait, so that the demo needs no detector."""
DEMO_MODE = "fast"
"""The demo's mode: it shall be over soon on any CPU."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("-o", "--out", default="demo.mp4", type=video_name, help="video (default: %(default)s)")
    add_options(parser, AnimateOptions, only=("mode", "steps", "solver", "seed"), defaults={"mode": DEMO_MODE})
    add_options(parser, Machine, leave_out=("bundle",))
    add_overwrite(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Make the demo's video; the receipt says where the time went and what to try next."""
    request = Request(
        portrait=str(DEMO_PORTRAIT),
        voice=str(DEMO_VOICE),
        prepare=PrepareOptions(face_box=DEMO_FACE),
        animate=read_options(args, AnimateOptions),
    )
    job = Job(request, args.out, read_options(args, Machine), overwrite=args.overwrite, quiet=args.quiet)
    outcome = animate(job)
    if not job.quiet:
        terminal.say(what_was_made(outcome))
        terminal.say(terminal.pairs(_receipt(outcome)))


def _receipt(outcome: Outcome) -> list[tuple[str, str]]:
    stats = outcome.stats
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stats.stages.items())
    peak = peak_memory()
    rows = [
        ("backend", outcome.runtime),
        ("time", time_taken(outcome)),
        ("stages", f"{stages} (they overlap)"),
        ("solver loop", stats.loop),
        ("peak memory", terminal.size(peak) if peak else "unknown on this system"),
    ]
    if outcome.bundle.is_untrained:
        rows.append(("picture", UNTRAINED.format(name=outcome.bundle.config.name)))
    return [*rows, ("next", "emo-rt animate YOUR_PICTURE.jpg YOUR_VOICE.wav -o talking.mp4")]
