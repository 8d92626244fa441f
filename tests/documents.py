"""Code blocks of README and of docs/, and how each is run: by its kind, a key of :data:`KINDS`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from emo_rt import Bundle
from emo_rt.cli import demo, main, make_parser
from emo_rt.export.metrics import convert
from emo_rt.media.picture import load_picture
from emo_rt.media.video_file import probe
from emo_rt.model.bundle import MANIFEST
from tests.doc_agents import talking_agents
from tests.model.test_identity import recogniser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
ELSEWHERE = ("deploying.md", "serving.md")
"""Documents with tests of their own: tests/test_deploying.py, tests/serve/test_deploy.py."""
PAGES = [ROOT / "README.md", *(page for page in DOCS if page.name not in ELSEWHERE)]
"""Documents whose blocks are run."""
DOCUMENTS = [
    ROOT / "README.md",
    *DOCS,
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "examples" / "README.md",
]
"""Documents whose commands and links are checked."""
FAST = {"--steps": "2", "--threads": "1"}
"""Added to commands that make a video and don't set these themselves."""
QUICKEST = "realtime"
"""Default preset of the bundles that blocks run: 4 steps, where the small models' own is 40."""
BENCH = ["--only", "latency", "--threads", "1"]
"""Added to `emo-rt bench`; tests/benchmarks/test_bench.py runs every scenario."""
DOWNLOADS, ECHOMIMIC = "pretrained_models", "pretrained_weights"
"""Folders of published files of Hallo and of EchoMimic."""
CONVERT = "python -m emo_rt.export.metrics.convert "
BEYOND = (" --ray", " s3://", CONVERT)
"""In commands that need a cluster, a store or published weights: tests/cluster, tests/batch and tests/evaluate have
smaller ones of each; here the command lines are checked."""
SET_UP = re.compile(
    r"python3 -m venv \.venv && \.venv/bin/pip install (?P<editable>-e )?'\.\[(?P<extras>[\w,-]+)\]' && (?P<rest>.+)"
)
"""One line from nothing to something that runs."""


@dataclass(frozen=True)
class Block:
    """A fenced block of README."""

    language: str
    """The word after the fence."""
    code: str
    """What is inside, without the last line's end."""
    page: str = "README"
    """Name of the document."""

    @property
    def lines(self) -> list[str]:
        return self.code.splitlines()


@dataclass(frozen=True)
class Place:
    """Where a block runs: a folder with ``portrait.png``, ``speech.wav`` and ``rows.jsonl``."""

    folder: Path
    """Working folder."""
    bundle: Path
    """A bundle of the preset ``tiny``."""
    hallo: Path
    """A bundle in the manner of Hallo."""
    echomimic: Path
    """A bundle in the manner of EchoMimic."""


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a Markdown document, but for directives of Sphinx."""
    found = re.findall(r"^```(\w*)\n(.*?)\n```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [Block(language, code, page.stem) for language, code in found]


def text_of(page: Path) -> str:
    """A document without directives of Sphinx."""
    return re.sub(r"^```\{.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def kind_of(block: Block) -> str:
    """Name of the block's kind, a key of :data:`KINDS`."""
    if block.language == "bash":
        return kind_of_commands(block)
    folders = {f"{DOWNLOADS}/": "downloads", f"{ECHOMIMIC}/": "EchoMimic's downloads"}
    if block.language == "text" and block.lines[0] in folders:
        return folders[block.lines[0]]
    python = "agent" if "emo_rt.integrations" in block.code else "python"
    return {"python": python, "text": "layout"}.get(block.language, f"unknown {block.language}")


def kind_of_commands(block: Block) -> str:
    if len(block.lines) == 1 and block.code.startswith("python3 -m venv"):
        return "tests" if "pytest" in block.code else "set-up"
    kinds = {
        "parity": block.code.startswith("python -m emo_rt.export.parity "),
        "beyond": any(word in block.code for word in BEYOND),
        "install": "pip install" in block.lines[0],
        "emo-rt": all(line.startswith("emo-rt ") for line in block.lines),
    }
    return next((kind for kind, fits in kinds.items() if fits), "unknown bash")


def run_set_up(block: Block, place: Place) -> None:
    """The line's form and extras are checked, and its command runs; a new environment is .ci/run's business."""
    found = SET_UP.fullmatch(block.code)
    assert found, block.code
    assert set(found["extras"].split(",")) <= known_extras()
    assert found["rest"].startswith(".venv/bin/emo-rt ")
    command = found["rest"].removeprefix(".venv/bin/")
    if command == "emo-rt serve":
        run_server(place)
    else:
        assert command == "emo-rt demo"
        assert run([entry_point(), "demo", "--steps", "1", "--threads", "1"], place.folder).stdout
        assert set(probe(place.folder / "demo.mp4").codecs) == {"h264", "aac"}


def run_server(place: Place) -> None:
    """With a small model, at any port, until its page has answered."""
    log = place.folder / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([entry_point(), "serve", "--port", "0"], cwd=place.folder, stderr=file)
    try:
        while (found := re.search(r'"url": "(http[^"]+)"', log.read_text(encoding="utf-8"))) is None:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        with urllib.request.urlopen(found[1]) as answer:
            assert b"A portrait that speaks" in answer.read()
    finally:
        process.terminate()
    assert process.wait() == 0


def run_tests_line(block: Block, place: Place) -> None:
    """`.ci/run` contains the line letter by letter and runs it in a fresh copy; so does CONTRIBUTING."""
    found = SET_UP.fullmatch(block.code)
    assert found, block.code
    assert found["extras"] in known_extras()
    assert found["rest"] == ".venv/bin/python -m pytest"
    script = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    assert block.code in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def check_install(block: Block, place: Place) -> None:
    """Its extras are there; the commands behind it run."""
    found = re.fullmatch(r"pip install 'emo_rt\[([\w,-]+)\]'", block.lines[0])
    assert found, block.code
    assert set(found[1].split(",")) <= known_extras()
    for line in block.lines[1:]:
        run_command(line, place)


def check_beyond(block: Block, place: Place) -> None:
    """The commands are ones that there are, and the extras too."""
    for line in block.lines:
        if line.startswith("pip install"):
            check_install(Block(block.language, line, block.page), place)
        elif line.startswith(CONVERT):
            convert.make_parser().parse_args(shlex.split(line.removeprefix(CONVERT)))
        else:
            assert line.startswith("emo-rt ")
            parsed(shlex.split(line)[1:])


def run_commands(block: Block, place: Place) -> None:
    """Line by line, with the installed entry point."""
    for line in block.lines:
        run_command(line, place)


def run_command(line: str, place: Place) -> None:
    """One `emo-rt` command with few steps. A video that it names must be there, and sound, afterwards."""
    program, *arguments = shlex.split(line)
    assert program == "emo-rt"
    settings = parsed(arguments)
    if arguments[0] == "export":
        stand_in_for_export(settings, place)
        return
    if arguments[0] in ("demo", "animate"):
        arguments += ["--overwrite", *(word for pair in FAST.items() if pair[0] not in arguments for word in pair)]
    if arguments[0] == "bench":
        arguments += BENCH
    assert printed(arguments, place.folder), line
    if arguments[0] == "batch":
        lines = (place.folder / settings.out / "results.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(one)["status"] for one in lines] == ["ok"], line
        return
    if out := getattr(settings, "out", None):
        if Path(out).suffix == ".png":
            assert load_picture(place.folder / out).size
        else:
            assert set(probe(place.folder / out).codecs) == {"h264", "aac"}, line
    if folder := getattr(settings, "frames_dir", None):
        assert list((place.folder / folder).glob("*.png"))


def printed(arguments: list[str], folder: Path) -> str:
    """What a command prints that is run in this process, in ``folder``; other tests start `emo-rt` itself."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(arguments) == 0, arguments
    return out.getvalue()


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line is right, down to each option."""
    return make_parser().parse_args(arguments)


def stand_in_for_export(settings: argparse.Namespace, place: Place) -> None:
    """Exporting takes a minute: the line was parsed, and what it makes is the bundle that the fixture exported.

    The import of Hallo files is run for real in tests/export/test_golden.py.
    """
    if settings.source == "hallo":
        assert str(settings.checkpoint) == DOWNLOADS
        put(place.hallo, place.folder / settings.out)
        model = place.folder / DOWNLOADS / "face_analysis/models/glintr100.onnx"
        model.parent.mkdir(parents=True)
        recogniser(model, 8)
        return
    if settings.source == "echomimic":
        assert str(settings.checkpoint) == ECHOMIMIC
        put(place.echomimic, place.folder / settings.out)
        return
    assert settings.preset == Bundle.open(place.bundle).config.name == "tiny"
    assert settings.random_weights
    put(place.bundle, place.folder / settings.out)


def run_python(block: Block, place: Place) -> None:
    """As a script: in this process, unless it starts processes that import it."""
    script = place.folder / "example.py"
    script.write_text(block.code, encoding="utf-8")
    if "__main__" in block.code:
        assert run([sys.executable, "-W", "error", str(script)], place.folder).stdout
        return
    with contextlib.chdir(place.folder), contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(str(script), run_name="__main__")
    assert out.getvalue()


def check_agent(block: Block, place: Place) -> None:
    """It needs a framework; tests/integrations lets it talk where that is installed."""
    compile(block.code, block.page, "exec")
    assert block.code in tuple(talking_agents().values())


def check_layout(block: Block, place: Place) -> None:
    """Each folder is there, and has its line."""
    assert all(re.fullmatch(r"\w+/ +\S.*", line) for line in block.lines)
    assert all((ROOT / line.split("/")[0]).is_dir() for line in block.lines)


def check_elsewhere(block: Block, place: Place) -> None:
    """With torch, beside the importers: tests/export, test_hallo.py, test_echomimic.py and test_golden.py."""
    asked = f'of_kind("{kind_of(block)}")'
    assert any(asked in path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "export").glob("test_*.py"))


KINDS: dict[str, Callable[[Block, Place], None]] = {
    "set-up": run_set_up,
    "tests": run_tests_line,
    "install": check_install,
    "beyond": check_beyond,
    "emo-rt": run_commands,
    "python": run_python,
    "agent": check_agent,
    "layout": check_layout,
    "downloads": check_elsewhere,
    "EchoMimic's downloads": check_elsewhere,
    "parity": check_elsewhere,
}
"""Kind of block → how it is tested."""
BLOCKS = [block for page in PAGES for block in blocks(page)]


def owner_of(block: Block) -> str:
    """Which test runs it: the one that calls :func:`blocks_of` with this word."""
    if kind_of(block) == "set-up":
        return "first run"
    if block.code in README:
        return "README"
    return block.page if block.page in ("batch", "evaluate") else "guides"


def blocks_of(owner: str) -> list[ParameterSet]:
    """Parameters of the test that runs the blocks of an owner: each code once."""
    by_code = {block.code: block for block in BLOCKS if owner_of(block) == owner}
    return [pytest.param(block, id=f"{block.page}-{i}-{kind_of(block)}") for i, block in enumerate(by_code.values())]


def run_block(block: Block, place: Place) -> None:
    """As its kind says."""
    KINDS[kind_of(block)](block, place)


def of_kind(kind: str) -> list[Block]:
    """Every block of a kind."""
    return [block for block in BLOCKS if kind_of(block) == kind]


def names_in(block: Block) -> list[str]:
    """What a tree of files names under its first line, folders with a slash."""
    return [line.split()[0] for line in block.lines[1:]]


def lay_out(names: list[str], folder: Path) -> None:
    """Empty files and folders of these names."""
    for name in names:
        path = folder / name
        path.mkdir(parents=True) if name.endswith("/") else path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()


def known_extras() -> set[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def entry_point() -> str:
    """`emo-rt` beside this Python."""
    program = Path(sys.executable).parent / "emo-rt"
    assert program.exists(), "install emo_rt first: pip install -e '.[dev]'"
    return str(program)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def make_place(folder: Path, tiny: Bundle, hallo: Bundle, echomimic: Bundle) -> Place:
    """What README takes for granted: a portrait and half a second of speech, and a list of a video of them; and a
    folder `demo`, which is found before the packaged bundle of that name."""
    shutil.copy(demo.DEMO_PORTRAIT, folder / "portrait.png")
    tone = np.sin(np.arange(8000) * 0.1) * 8000
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    row = {"id": "hello", "portrait": "portrait.png", "voice": "speech.wav", "steps": 2}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    put(tiny.path, folder / "demo")
    return Place(folder, tiny.path, hallo.path, echomimic.path)


def put(bundle: Path, folder: Path) -> None:
    """A copy of a bundle whose default preset is :data:`QUICKEST`, where it has that."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if QUICKEST in manifest["presets"]:
        (folder / MANIFEST).write_text(json.dumps({**manifest, "default_preset": QUICKEST}), encoding="utf-8")
