"""Nothing that a file, a name or a message says can command the terminal."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata

import pytest

from emo_rt.cli import main, terminal

TURNING = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
BAD = "a\x1b[2J\x9b1m\x7f\r\u202e\u2066\ud800\0b"
SHOWN = r"a\u001b[2J\u009b1m\u007f\u000d\u202e\u2066\ud800\u0000b"


def test_what_commands_is_spelled_out_and_all_else_stays() -> None:
    assert terminal.plain(BAD) == SHOWN
    fine = "Größe 12×3 …\n\tпривет 你好 עברית 👩‍🚀"
    assert terminal.plain(fine) == fine
    assert terminal.one_line("a\nb\tc") == r"a\u000ab c"


def test_all_that_unicode_has_for_the_order_of_characters() -> None:
    marks = [chr(code) for code in range(0x3000) if unicodedata.bidirectional(chr(code)) in TURNING]
    assert len(marks) == 9
    assert all(terminal.plain(mark) == f"\\u{ord(mark):04x}" for mark in [*marks, "\u061c", "\u200e", "\u200f"])
    assert len(terminal.one_line("a\u2028b\u2029c").splitlines()) == 1


def test_json_stays_json_and_says_the_same() -> None:
    text = json.dumps({"name": BAD}, ensure_ascii=False, indent=2)
    assert json.loads(terminal.plain(text)) == {"name": BAD}


def test_a_cell_begins_no_row() -> None:
    assert len(terminal.pairs([("a", "b\nc  d")]).splitlines()) == 1
    assert len(terminal.table([("a", "b"), ("c\nd", "e")]).splitlines()) == 2


def test_every_way_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(BAD)
    terminal.note(BAD)
    with terminal.session(debug=False):
        logging.getLogger("emo_rt").warning("%s", BAD.replace("\ud800", ""))  # pytest-xdist cannot pass it on
    assert main(["verify", "a.mp4", f"--{BAD}"]) == 2
    assert main(["verify", BAD]) == 1
    told = capsys.readouterr()
    assert told.out == SHOWN + "\n"
    assert told.err.count(SHOWN) == 2
    assert SHOWN.replace(r"\ud800", "") in told.err
    assert SHOWN.replace(r"\u000d", " ") in told.err.splitlines()[-1]  # an error's spaces are one
    assert not terminal.COMMANDING.search(told.err)


def test_a_traceback_is_spelled_out_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "a\x1b[2J", "--debug"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert r"a\u001b[2J" in told.splitlines()[-2]
    assert not terminal.COMMANDING.search(told)


def test_a_label_of_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.ProgressBar("a\x1b[2J\n") as bar:
        bar.update(1, 2)
    assert r"a\u001b[2J\u000a" in screen.getvalue()
    assert not terminal.COMMANDING.search(screen.getvalue().replace("\r", ""))
