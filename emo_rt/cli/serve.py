"""`emo-rt serve`: jobs and live sessions over HTTP."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from emo_rt.animator import Animator
from emo_rt.cli import terminal
from emo_rt.cli.machine import LongRunning, Machine
from emo_rt.cli.options import add_options, read_options
from emo_rt.errors import ConfigError, MissingDependencyError
from emo_rt.media.marking.options import MarkOptions
from emo_rt.runtime.runtime import Runtime
from emo_rt.serve.settings import Limits, ServeOptions

EXAMPLES = """examples:
  emo-rt serve
  emo-rt serve my_bundle --port 9000 --data /srv/emo_rt
  emo-rt serve --new-key anna && emo-rt serve --host 0.0.0.0 --allow-host talk.example.com"""


def add_arguments(parser: Any) -> None:
    """What the command takes."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "bundles", metavar="BUNDLE", nargs="*", default=["demo"], help="model folder, or demo (default: demo)"
    )
    add_options(parser, ServeOptions)
    parser.add_argument(
        "--new-key", metavar="NAME", help="make an API key, show it once, keep its hash in the data folder, and end"
    )
    add_options(parser.add_argument_group("model and machine"), LongRunning, leave_out=("bundle",))
    add_options(parser.add_argument_group("marks of all pictures"), MarkOptions)
    add_options(parser.add_argument_group("limits"), Limits)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    options = read_options(args, ServeOptions, limits=read_options(args, Limits), marks=read_options(args, MarkOptions))
    if args.new_key is not None:
        from emo_rt.serve.keys import add_key

        terminal.say(add_key(options.folder, args.new_key))
        return
    if options.device_names and args.device != "auto":
        raise ConfigError(f"device is {args.device!r}, and devices is {options.devices!r}; give one of them")
    if sys.platform == "win32":
        raise ConfigError("emo-rt serve runs on Linux and macOS; on Windows use WSL")
    try:
        from emo_rt.serve.logs import logging_to_stderr
        from emo_rt.serve.server import serve
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(f"serving needs {exc.name}; pip install 'emo_rt[serve]'") from exc
    machine = read_options(args, LongRunning, bundle="demo")
    with logging_to_stderr(debug=args.debug), ExitStack() as exits:
        devices = options.device_names or (machine.device,)
        serve(options, *(_animators(machine, args.bundles, device, len(devices) > 1, exits) for device in devices))


def _animators(
    machine: Machine, bundles: Sequence[str], device: str, is_apart: bool, exits: ExitStack
) -> list[Animator]:
    """All models on one device. ``is_apart``: it shares nothing with the others, even where it is the same."""
    runtime = exits.enter_context(Runtime(device)) if is_apart else None
    found = []
    for bundle in bundles:
        animator = dataclasses.replace(machine, bundle=bundle, device=device).load(runtime)
        exits.callback(animator.close)
        found.append(animator)
    return found
