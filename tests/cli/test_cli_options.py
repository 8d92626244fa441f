"""A field of a dataclass becomes an option of a command, and nothing else has to be written."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from emo_rt.cli import COMMANDS, make_parser
from emo_rt.cli.evaluate import ReportFiles
from emo_rt.cli.options import add_options, read_options
from emo_rt.evaluate.options import DURATION, Against, GateOptions, TuneOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import SECTIONS
from emo_rt.schema.compound import Files
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import Outside, options_of


@dataclass(frozen=True)
class Example:
    """Every kind of option that a command line knows."""

    count: Annotated[int, Range(1, 9)] = 3
    """Number of things. Hallo has more. 100 % of them."""
    share: Annotated[float | None, Range(0, 1), Outside("part_of_it", "SHARE")] = None
    """Share. ``None`` = half."""
    way: Literal["up", "down"] = "up"
    """Direction."""
    is_loud: bool = False
    """Make a noise."""
    is_polite: bool = True
    """Greet first."""
    is_whole: bool | None = None
    """Take all. ``None`` = if it fits."""
    names: tuple[str, ...] | None = None
    """Names. ``None`` = all."""
    files: Path | None = None
    """A file. ``None`` = none."""
    folders: Annotated[Sequence[str | Path], Files(), Outside(placeholder="FOLDER")] = ()
    """Some folders."""
    wait: Annotated[float, DURATION] = 600.0
    """How long."""
    secret: Annotated[str, Outside(is_hidden=True)] = "x"
    """Not for everybody."""


def parser(**settings: Any) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(exit_on_error=False)
    add_options(made, Example, **settings)
    return made


def helps() -> dict[str, str | None]:
    return {action.option_strings[-1]: action.help for action in parser()._actions}


def test_help_has_text_range_and_default() -> None:
    assert helps()["--count"] == "number of things; Hallo has more; 100 %% of them [1 … 9] (default: %(default)s)"
    assert helps()["--part-of-it"] == "share [0 … 1] (default: half)"
    assert helps()["--is-loud"] == "make a noise (default: off)"
    assert helps()["--no-is-polite"] == "don't greet first (default: greet)"
    assert helps()["--no-is-whole"] == "take all (default: if it fits)"
    assert helps()["--names"] == "names (default: all)"
    assert helps()["--files"] == "a file"
    assert helps()["--folders"] == "some folders"
    assert helps()["--wait"] == "how long (default: 10m)"
    assert "--secret" not in helps()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("", {}),
        ("--count 4 --part-of-it 0.5 --way down", {"count": 4, "share": 0.5, "way": "down"}),
        ("--is-loud --no-is-polite --no-is-whole", {"is_loud": True, "is_polite": False, "is_whole": False}),
        ("--names a,b --files x.png", {"names": ("a", "b"), "files": Path("x.png")}),
        ("--folders a b,c --wait 90s", {"folders": ["a", "b,c"], "wait": 90.0}),
    ],
)
def test_a_line_becomes_the_dataclass(line: str, fields: dict[str, Any]) -> None:
    assert read_options(parser().parse_args(line.split()), Example) == Example(**fields)


def test_some_options_and_other_defaults() -> None:
    some = parser(only=("way", "count"), defaults={"way": "down"})
    assert read_options(some.parse_args([]), Example, secret="y") == Example(way="down", secret="y")
    rest = {action.dest for action in parser(leave_out=("way", "count"))._actions}
    assert rest == {option.name for option in options_of(Example)} - {"way", "count", "secret"} | {"help"}


@pytest.mark.parametrize(
    ("line", "message"),
    [(["--count", "x"], "'x' cannot be read; expected an integer from 1 to 9"), (["--part-of-it", "x"], "0 … 1")],
)
def test_a_text_that_is_no_value_is_answered(line: list[str], message: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=message):
        parser().parse_args(line)


def test_animate_takes_every_option_of_a_request() -> None:
    """So a new field is a new option, without another word."""
    args = make_parser(["animate"]).parse_args(["animate", "portrait.png", "voice.wav"])
    names = {option.name for section in SECTIONS[1:] for option in options_of(section) if not option.is_hidden}
    assert names <= set(vars(args))
    assert read_options(args, AnimateOptions) == AnimateOptions()
    assert vars(read_options(args, FaceInputs)) == vars(FaceInputs())


@pytest.mark.parametrize(
    ("command", "classes"), [("evaluate", (Against, GateOptions, ReportFiles)), ("tune demo", (TuneOptions,))]
)
def test_evaluate_and_tune_take_every_option_of_their_classes(command: str, classes: tuple[type, ...]) -> None:
    args = make_parser([command.split(maxsplit=1)[0]]).parse_args(command.split())
    for cls in classes:
        assert {option.name for option in options_of(cls)} <= set(vars(args)), cls
        assert read_options(args, cls) == cls()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2h", 7200)])
def test_times_are_written_as_they_are_read(text: str, seconds: float) -> None:
    option = next(option for option in options_of(TuneOptions) if option.name == "budget")
    assert option.load(text) == seconds
    assert option.load(option.dump(seconds)) == seconds


def test_a_command_imports_no_other_command() -> None:
    """Each in a process of its own, which begins where only the command line itself is imported."""
    code = """
import json, os, sys
from emo_rt.cli import COMMANDS, main
for command in COMMANDS:
    if os.fork() == 0:
        main([command, "--help"])
        found = [name for name in COMMANDS if f"emo_rt.cli.{name}" in sys.modules]
        os.write(2, json.dumps([command, found]).encode() + b"\\n")
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = dict(map(json.loads, done.stderr.splitlines()))
    others = {"bench": {"demo", "doctor"}, "doctor": {"demo"}}  # its portrait; what is installed
    assert {command: set(names) for command, names in found.items()} == {
        command: {command} | others.get(command, set()) for command in COMMANDS
    }
