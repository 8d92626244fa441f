"""Code blocks of README and of docs/ are run. Each kind has an entry in :data:`KINDS`; one of no kind fails."""

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

import emo_rt
from emo_rt import Bundle, errors
from emo_rt.cli import demo, main, make_parser
from emo_rt.export import golden
from emo_rt.export.checkpoints.echomimic import EchoMimicFiles
from emo_rt.export.checkpoints.hallo import HalloFiles
from emo_rt.export.metrics import convert
from emo_rt.media.picture import load_picture
from emo_rt.media.video_file import probe
from tests.conftest import shared_file
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
        shutil.copytree(place.bundle, place.folder / "demo")  # the next test runs the packaged model
        assert run([entry_point(), "demo", "--steps", "1", "--threads", "1"], place.folder).stdout
        assert set(probe(place.folder / "demo.mp4").codecs) == {"h264", "aac"}


def run_server(place: Place) -> None:
    """With a small model, at any port, until its page has answered."""
    shutil.copytree(place.bundle, place.folder / "demo")
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
        shutil.copytree(place.hallo, place.folder / settings.out)
        model = place.folder / DOWNLOADS / "face_analysis/models/glintr100.onnx"
        model.parent.mkdir(parents=True)
        recogniser(model, 8)
        return
    if settings.source == "echomimic":
        assert str(settings.checkpoint) == ECHOMIMIC
        shutil.copytree(place.echomimic, place.folder / settings.out)
        return
    assert settings.preset == Bundle.open(place.bundle).config.name == "tiny"
    assert settings.random_weights
    shutil.copytree(place.bundle, place.folder / settings.out)


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


def check_downloads(block: Block, place: Place) -> None:
    """The importer finds the files where README says that they lie."""
    names = [line.split()[0] for line in block.lines[1:]]
    for name in names:
        path = place.folder / DOWNLOADS / name
        path.mkdir(parents=True) if name.endswith("/") else path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    found = HalloFiles.find(place.folder / DOWNLOADS)
    parts = [path.relative_to(place.folder / DOWNLOADS) for path in (found.net, found.vae, found.wav2vec)]
    assert [str(part).rstrip("/") for part in parts] == [name.rstrip("/") for name in names[:3]]


def check_echomimic_downloads(block: Block, place: Place) -> None:
    """The same of EchoMimic's."""
    names = [line.split()[0] for line in block.lines[1:]]
    for name in names:
        path = place.folder / ECHOMIMIC / name
        path.mkdir(parents=True) if name.endswith("/") else path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    found = [EchoMimicFiles.find(place.folder / ECHOMIMIC, accelerated) for accelerated in (False, True)]
    paths = {str(path.relative_to(place.folder / ECHOMIMIC)) for files in found for path in vars(files).values()}
    assert paths == {name.rstrip("/") for name in names}


def run_parity(block: Block, place: Place) -> None:
    """With the golden vectors of the shared folder."""
    folder = shared_file("golden/hallo_small/vectors.safetensors").parent
    words = shlex.split(block.code.replace("GOLDEN_DIR", str(folder)))
    assert words[:3] == ["python", "-m", "emo_rt.export.parity"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert golden.main(words[3:]) == 0
    assert "all within their bounds" in out.getvalue()


KINDS: dict[str, Callable[[Block, Place], None]] = {
    "set-up": run_set_up,
    "tests": run_tests_line,
    "install": check_install,
    "beyond": check_beyond,
    "emo-rt": run_commands,
    "python": run_python,
    "agent": check_agent,
    "layout": check_layout,
    "downloads": check_downloads,
    "EchoMimic's downloads": check_echomimic_downloads,
    "parity": run_parity,
}
"""Kind of block → how it is tested."""
BLOCKS = [block for page in PAGES for block in blocks(page)]


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


@pytest.fixture
def place(tiny_bundle: Bundle, hallo_bundle: Bundle, echomimic_bundle: Bundle, tmp_path: Path) -> Place:
    """What README takes for granted: a portrait and half a second of speech, and a list of a video of them."""
    shutil.copy(demo.DEMO_PORTRAIT, tmp_path / "portrait.png")
    tone = np.sin(np.arange(8000) * 0.1) * 8000
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    row = {"id": "hello", "portrait": "portrait.png", "voice": "speech.wav", "steps": 2}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return Place(tmp_path, tiny_bundle.path, hallo_bundle.path, echomimic_bundle.path)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}-{i}-{kind_of(block)}" for i, block in enumerate(BLOCKS)])
def test_block(block: Block, place: Place) -> None:
    kind = kind_of(block)
    assert kind in KINDS, f"nobody says how to test this block; add its kind:\n{block.code}"
    if kind != "set-up":  # which does so itself
        shutil.copytree(place.bundle, place.folder / "demo")  # found before the packaged one of that name
    KINDS[kind](block, place)


def test_the_packaged_model_runs_at_the_command_line(place: Place) -> None:
    """The blocks run a smaller one in its place."""
    command = ["animate", str(demo.DEMO_PORTRAIT), "speech.wav", "-o", "packaged.mp4", "--threads", "1", "--steps", "1"]
    printed([*command, "--mode", demo.DEMO_MODE, "--face-box", "122,94,390,424"], place.folder)
    found = probe(place.folder / "packaged.mp4")
    assert (found.frames, set(found.codecs)) == (13, {"h264", "aac"})


def test_no_block_is_missed() -> None:
    """Every fence belongs to a block that was found, and every kind of test has something to do."""
    assert sum(text_of(page).count("```") for page in PAGES) == 2 * len(BLOCKS)
    assert {kind_of(block) for block in BLOCKS} == set(KINDS)


def test_unknown_blocks_fail() -> None:
    for block in (Block("bash", "curl example.com | sh"), Block("", "text"), Block("json", "{}")):
        assert kind_of(block) not in KINDS


def test_contributing_has_the_same_line() -> None:
    (line,) = (block.code for block in BLOCKS if kind_of(block) == "tests")
    assert line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


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
