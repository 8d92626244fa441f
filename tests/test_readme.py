"""README's blocks run, and what documents name is there: commands, files, errors, public names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import emo_rt
from emo_rt import errors
from emo_rt.cli import demo
from tests.documents import (
    BLOCKS,
    DOCUMENTS,
    KINDS,
    PAGES,
    README,
    ROOT,
    Block,
    Place,
    blocks_of,
    kind_of,
    of_kind,
    owner_of,
    parsed,
    printed,
    run_block,
    text_of,
)

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.mark.parametrize("block", blocks_of("README"))
def test_block(block: Block, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DEMO_VOICE", place.folder / "speech.wav")  # the whole voice: tests/test_first_run.py
    run_block(block, place)


def test_no_block_is_missed() -> None:
    """Every fence belongs to a block that was found and has a kind, and every kind of test has something to do."""
    assert sum(text_of(page).count("```") for page in PAGES) == 2 * len(BLOCKS)
    assert {kind_of(block) for block in BLOCKS} == set(KINDS)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert all(f'blocks_of("{owner}")' in tests for owner in map(owner_of, BLOCKS))


def test_unknown_blocks_fail() -> None:
    for block in (Block("bash", "curl example.com | sh"), Block("", "text"), Block("json", "{}")):
        assert kind_of(block) not in KINDS


def test_contributing_has_the_same_line() -> None:
    (block,) = of_kind("tests")
    assert block.code in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text(document: Path) -> None:
    """Commands between backquotes are right, and files that links and backquotes name are there."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"`emo-rt (\w+ [^`]+)`", text):
        parsed(shlex.split(line))
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for name in re.findall(r"`((?:tests|emo_rt|export|training|benchmarks|engines)/[\w./]*)`", text):
        assert (ROOT / name).exists(), name


def test_links_to_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", README, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= headings


def test_every_error_has_a_remedy() -> None:
    """In docs/troubleshooting.md, and nothing else is named there as an error."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    known = {
        name for name, error in vars(errors).items() if isinstance(error, type) and error.__module__ == errors.__name__
    }
    assert named == known - {"EmoRtError"}


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: emo_rt\.(\w+)$", text, re.MULTILINE))
    assert named == set(emo_rt.__all__) - {"__version__"} | {"errors"}


def test_untrained_model_is_called_untrained() -> None:
    """As long as the bundled weights are random, README says so; afterwards it must not."""
    assert json.loads(printed(["info", "demo", "--json"], ROOT))["untrained"] == ("**untrained" in README)
