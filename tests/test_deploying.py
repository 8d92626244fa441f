"""docs/deploying.md: every block is checked, down to each option of each command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emo_rt.device.tensorrt import plan as plans
from emo_rt.device.tensorrt.package import EXTRAS, OLDEST
from emo_rt.engines.accuracy import make_parser
from tests import test_readme
from tests.documents import ROOT, Block, blocks, known_extras, parsed

DOCUMENT = ROOT / "docs" / "deploying.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = blocks(DOCUMENT)
ACCURACY = "python -m emo_rt.engines.accuracy "
INSTRUCTIONS = {"FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "CMD"}
"""Of a Dockerfile, as far as ours use them."""


def emo_rt_commands(line: str) -> list[list[str]]:
    """Arguments of every `emo-rt` of a shell line, behind assignments and between `&&`."""
    parts = [shlex.split(part) for part in line.split("&&")]
    bare = [[word for word in part if not re.match(r"[A-Z_]+=", word)] for part in parts]
    return [words[1:] for words in bare if words[0] == "emo-rt"]


def check_extras(text: str) -> None:
    for extras in re.findall(r"\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= known_extras()


def check_docker(words: list[str]) -> None:
    """A container that gets the GPUs, and the `emo-rt` that it runs."""
    assert words[:5] == ["docker", "run", "--rm", "--gpus", "all"]
    parsed(words[words.index("emo-rt") + 1 :])


def check_bash(block: Block) -> None:
    for line in block.lines:
        if line.startswith("docker "):
            check_docker(shlex.split(line))
            continue
        if line.startswith(ACCURACY):
            make_parser().parse_args(shlex.split(line.removeprefix(ACCURACY)))
            continue
        commands = emo_rt_commands(line)
        assert commands or line.startswith("python3 -m venv "), line
        for arguments in commands:
            parsed(arguments)


def check_dockerfile(block: Block) -> None:
    for line in block.lines:
        name, rest = line.split(" ", 1)
        assert name in INSTRUCTIONS, line
        if name == "RUN":
            check_extras(rest)
            for arguments in emo_rt_commands(rest):
                parsed(arguments)
        if name == "CMD":
            program, *arguments = json.loads(rest)
            assert program == "emo-rt"
            parsed(arguments)
        if name == "ENV" and rest.startswith("EMO_RT"):
            assert rest.split("=")[0] == plans.CACHE_VARIABLE


def check_python(block: Block, folder: Path) -> None:
    """Runs as a script of its own; it builds a small engine."""
    pytest.importorskip("tensorrt_rtx")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    environment.pop(plans.CACHE_VARIABLE, None)
    command = [sys.executable, "-W", "error", "-c", block.code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(folder))


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{i}-{block.language}" for i, block in enumerate(BLOCKS)])
def test_block(block: Block, tmp_path: Path) -> None:
    if block.language == "bash":
        check_bash(block)
    elif block.language == "dockerfile":
        check_dockerfile(block)
    else:
        assert block.language == "python", f"nobody says how to test this block:\n{block.code}"
        check_python(block, tmp_path)


def test_no_block_is_missed() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} == {"bash", "dockerfile", "python"}


def test_wrong_options_fail() -> None:
    with pytest.raises(SystemExit):
        check_bash(Block("bash", "emo-rt build my_bundle --no-such-option"))
    with pytest.raises(SystemExit):
        check_dockerfile(Block("dockerfile", 'CMD ["emo-rt", "build", "--no-such-option"]'))
    with pytest.raises(SystemExit):
        check_bash(Block("bash", f"{ACCURACY}my_bundle step --no-such-option"))
    with pytest.raises(AssertionError):
        check_bash(Block("bash", "curl example.com"))


def test_text() -> None:
    test_readme.test_commands_in_the_text(DOCUMENT)
    assert plans.CACHE_VARIABLE in TEXT
    assert f"up to {plans.LONGEST_FILE_S} seconds" in TEXT
    for package, extra in EXTRAS.items():
        oldest = ".".join(map(str, OLDEST[package]))
        assert re.search(rf"`{package}` {re.escape(oldest)} or newer.*`{extra}`", TEXT)
