"""The command `emo-rt`: runs what was asked for, and says in one line what went wrong.

Each command is a module of this package with ``add_arguments(parser)`` and ``run(args)``, which gives an exit code or
``None``; only the one that is asked for is imported.

Exit codes: 0 done, 1 it failed, 2 the command line or a setting is wrong, 130 stopped by Ctrl-C, SIGTERM or
SIGHUP.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from emo_rt.cli import terminal
from emo_rt.errors import Cancelled, ConfigError, EmoRtError
from emo_rt.version import __version__

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
"""Exit codes."""
OPENING = """Talking-head video from one portrait and a voice.

First try:  emo-rt demo
Then:       emo-rt animate portrait.jpg speech.wav -o talking.mp4
"""
COMMANDS = {
    "demo": "animate the portrait and the voice that come with emo_rt",
    "animate": "animate a portrait with a voice or a song",
    "batch": "make the videos of a list, on and on until all are made",
    "faces": "find faces, with landmarks, expression and head pose",
    "export": "write a model as a bundle that emo_rt runs (needs emo_rt[export])",
    "build": "build TensorRT engines of a bundle, those that are absent or stale",
    "info": "show what is in a bundle and verify its hashes",
    "doctor": "show what this machine can do, and what to install for more",
    "bench": "measure how fast a model is on this machine",
    "verify": "tell which marks of AI-generated video a file has",
    "evaluate": "measure talking-head videos, or hold one setting against another",
    "tune": "measure what each shortcut saves and costs on a model, and name the best settings",
    "serve": "serve jobs and live sessions over HTTP (needs emo_rt[serve])",
}
"""Name of the command, which is its module's, and what it does."""


class Parser(argparse.ArgumentParser):
    """Errors take one line, in the form of all our errors."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(USAGE, f"error: {terminal.plain(message)}; see {self.prog} --help\n")


def make_parser(filled: Collection[str] = tuple(COMMANDS)) -> Parser:
    """The parser of the whole command line. ``args.command`` is the subcommand's name, or ``None``.

    ``filled``: commands that get their arguments; of the others only the name is known.
    """
    parser = Parser(prog="emo-rt", description=OPENING)
    parser.add_argument("--version", action="version", version=f"emo-rt {__version__}")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        command.add_argument("--debug", action="store_true", help="log everything and show tracebacks (default: off)")
        if name in filled:
            _module(name).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; never raises."""
    terminal.fill_closed_streams()
    terminal.tolerate_narrow_encodings()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # while the command's modules are imported
        terminal.note("stopped; no output was written")
        return STOPPED


def _run(argv: Sequence[str]) -> int:
    parser = make_parser(filled=[word for word in argv if word in COMMANDS][:1])
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:  # --help, --version, or a wrong command line
        return int(exc.code or DONE)
    if args.command is None:
        parser.print_help()
        return DONE
    with terminal.session(debug=args.debug):
        return _guarded(args)


def _module(command: str) -> Any:
    return importlib.import_module(f"{__name__}.{command}")


def _guarded(args: argparse.Namespace) -> int:
    """Run the command; every way to fail becomes one line and an exit code."""
    try:
        code = int(_module(args.command).run(args) or DONE)
        sys.stdout.flush()
    except (KeyboardInterrupt, Cancelled):
        return _failed(args, STOPPED, "stopped; no output was written")
    except BrokenPipeError:  # `emo-rt info … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EmoRtError as exc:
        return _failed(args, USAGE if isinstance(exc, ConfigError) else FAILED, f"error: {exc}")
    except OSError as exc:  # standard output is full, a temporary folder is gone
        return _failed(args, FAILED, f"error: {exc}")
    except Exception as exc:  # noqa: BLE001 - what a user sees of a bug
        hint = "" if args.debug else " (a bug in emo-rt; --debug shows where)"
        return _failed(args, FAILED, f"error: unexpected {type(exc).__name__}: {exc}{hint}")
    return code


def _failed(args: argparse.Namespace, code: int, message: str) -> int:
    if args.debug:
        terminal.note(traceback.format_exc().rstrip())
    terminal.note(" ".join(message.split()))
    return code
