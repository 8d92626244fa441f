"""What tests of the command line share: a short run of ``emo-rt animate``, and how a command fails."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from emo_rt.cli import demo, main

PORTRAIT = demo.DEMO_PORTRAIT
WITH_SIGINT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from emo_rt.cli import main; raise SystemExit(main(sys.argv[1:]))"
)
"""Where the tests run in the background, Ctrl-C is ignored and would be in child processes, too."""

Animate = Callable[..., list[str]]


def failure(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Run a command that fails: nothing on stdout, one line on stderr, which is returned."""
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    return lines[0]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emo_rt.cli", *arguments]
