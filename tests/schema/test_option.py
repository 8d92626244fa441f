"""Options that say of themselves what they are: kinds, texts at run time, and what a check says."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import emo_rt
from emo_rt.errors import ConfigError
from emo_rt.evaluate.options import Against, GateOptions, TuneOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.request import SECTIONS, PrepareOptions, Request
from emo_rt.schema import field_docs
from emo_rt.schema.compound import Coded, Files, Several
from emo_rt.schema.kinds import Choice, Kind, Range
from emo_rt.schema.option import Option, Outside, check_options, options_of, refuse_unknown

PACKAGE = Path(emo_rt.__file__).parent


@dataclasses.dataclass(frozen=True)
class Example:
    """Every kind of option."""

    count: Annotated[int, Range(1, 9)] = 3
    """Number of things.

    This paragraph is for programmers."""
    share: Annotated[float | None, Range(0, math.inf, is_open=True), Outside("part", "SHARE")] = None
    """A ``share`` of :class:`~emo_rt.Box`, and
    more. ``None`` = half of it, 0.5 in all."""
    way: Literal["up", "down"] = "up"
    """Direction."""
    colour: Annotated[str, Choice(("red", "blue"))] = "red"
    ends: Annotated[tuple[float, float] | None, Several(("low", "high"), rises=True), Range(0, 1)] = None
    """Two ends."""
    files: Annotated[tuple[str | Path, str | Path] | None, Several(("a", "b"))] = None
    """Two files."""
    flag: bool | None = None
    """Yes or no."""
    note: Annotated[str, Outside(is_hidden=True)] = "x"
    """Not for everybody."""

    def __post_init__(self) -> None:
        check_options(self)


OPTIONS = {option.field: option for option in options_of(Example)}


def test_texts_come_from_the_docstrings() -> None:
    assert OPTIONS["count"].text == "Number of things."
    assert (OPTIONS["share"].text, OPTIONS["share"].absent) == ("A share of Box, and more.", "half of it, 0.5 in all")
    assert OPTIONS["colour"].text == ""


def test_names_and_placeholders() -> None:
    assert (OPTIONS["share"].name, OPTIONS["share"].placeholder) == ("part", "SHARE")
    assert (OPTIONS["count"].name, OPTIONS["count"].placeholder) == ("count", "N")
    assert OPTIONS["ends"].placeholder == "LOW,HIGH"
    assert [option.field for option in OPTIONS.values() if option.is_hidden] == ["note"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count is 0; expected an integer from 1 to 9"),
        ({"count": True}, "count is True; expected an integer from 1 to 9"),
        ({"count": 2.0}, "count is 2.0; expected an integer"),
        ({"count": None}, "count is None; expected an integer from 1 to 9"),
        ({"share": 0}, "share is 0; expected more than 0, or None"),
        ({"share": math.nan}, "share is nan"),
        ({"share": "1"}, "share is '1'"),
        ({"way": "left"}, "way is 'left'; expected one of up, down"),
        ({"colour": ["red"]}, "colour is ['red']; expected one of red, blue"),
        ({"ends": (1, 0)}, "ends is (1, 0); expected two numbers, 0 ≤ low < high ≤ 1, or None"),
        ({"ends": "01"}, "ends is '01'"),
        ({"files": ("a", 2)}, "files is ('a', 2); expected two names of files: a,b; or None"),
        ({"flag": 1}, "flag is 1; expected True, False or None"),
        ({"note": ""}, "note is ''; expected a text that is not empty"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Example(**wrong)
    assert message in str(error.value)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as error:
        Example(colour="red" * 1000)
    assert len(str(error.value)) < 300


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'sede' \(do you mean seed\?\); expected some of seed, steps"):
        refuse_unknown(["sede"], ["seed", "steps"], "field")
    with pytest.raises(ConfigError, match="unknown field 7; expected some of seed"):
        refuse_unknown([7], ["seed"], "field")


def outside_options() -> list[Option]:
    return [option for section in SECTIONS for option in options_of(section) if not option.is_hidden]


def measuring_options() -> list[Option]:
    return [option for cls in (Against, GateOptions, TuneOptions) for option in options_of(cls)]


@pytest.mark.parametrize("option", outside_options() + measuring_options(), ids=lambda option: option.name)
def test_every_option_says_what_it_does(option: Option) -> None:
    """A line for users, and what happens without it."""
    assert option.text.endswith((".", "…"))
    assert "None" not in option.text + option.absent
    assert "``" not in option.text + option.absent
    assert bool(option.absent) is (option.is_optional and option.default is None)


def test_outside_names_are_unlike_each_other() -> None:
    names = [option.name for option in outside_options()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "cls", [PrepareOptions, FaceInputs, AnimateOptions, Request, Against, GateOptions, TuneOptions]
)
def test_a_default_is_in_its_range(cls: type) -> None:
    for option in options_of(cls):
        if option.name not in ("portrait", "voice"):
            option.check(option.default)


KINDS: list[tuple[Kind, st.SearchStrategy[Any]]] = [
    (OPTIONS["count"].kind, st.integers(1, 9)),
    (OPTIONS["share"].kind, st.floats(0, exclude_min=True)),
    (Files(), st.lists(st.text(min_size=1)).map(tuple)),
    (OPTIONS["ends"].kind, st.tuples(st.floats(0, 0.4), st.floats(0.5, 1))),
    (OPTIONS["files"].kind, st.tuples(*[st.text("abc./", min_size=1)] * 2)),
    (OPTIONS["flag"].kind, st.booleans()),
    (OPTIONS["way"].kind, st.sampled_from(["up", "down"])),
]


@given(data=st.data())
@pytest.mark.parametrize(("kind", "values"), KINDS, ids=lambda one: type(one).__name__)
def test_a_value_comes_back_from_json(kind: Kind, values: st.SearchStrategy[Any], data: Any) -> None:
    value = data.draw(values)
    assert kind.has(value)
    assert kind.load(kind.dump(value)) == value


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (OPTIONS["count"].kind.read, "4", 4),
        (OPTIONS["share"].kind.read, "inf", math.inf),
        (OPTIONS["ends"].kind.read, "0,0.5", (0, 0.5)),
        (OPTIONS["files"].kind.read, "x,y", ("x", "y")),
        (OPTIONS["flag"].kind.read, "False", False),
    ],
)
def test_a_value_is_read_from_text(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("name", "text"), [("count", "four"), ("share", "x"), ("ends", "1"), ("files", "x"), ("flag", "yes")]
)
def test_a_text_that_is_no_value(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        OPTIONS[name].kind.read(text)


def test_values_of_a_class_of_their_own() -> None:
    kind = Coded("a path", lambda value: isinstance(value, Path), Path, str, {"type": "string"})
    assert kind.load("a/b") == Path("a/b")
    assert not kind.has("a/b")


def test_texts_are_there_in_a_zipped_wheel_without_docstrings(tmp_path: Path) -> None:
    """``-OO`` drops docstrings from what is compiled, and a zip has no files to open."""
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in PACKAGE.rglob("*.py"):
            file.write(path, Path("emo_rt") / path.relative_to(PACKAGE))
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r}); import emo_rt;"
        f"assert emo_rt.__file__.startswith({str(archive)!r});"
        "from emo_rt.cli import main; main(['animate', '--help'])"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "olver steps per clip" in done.stdout


def test_without_source_only_the_texts_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = types.ModuleType("compiled_only")
    monkeypatch.setitem(sys.modules, "compiled_only", compiled)
    cls = dataclasses.make_dataclass("Lonely", [("count", int, 3)])
    cls.__module__ = "compiled_only"
    assert field_docs.field_docs(cls) == {}
    assert options_of(cls)[0].default == 3
