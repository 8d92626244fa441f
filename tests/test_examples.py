"""Every program of examples/ runs, with a small model, and leaves what its first lines promise."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from emo_rt import Bundle
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.media.video_file import probe

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    """In this process: what it prints."""
    arguments = (name, *arguments, "--bundle", "model", "--preset", "realtime")
    with (
        patch.object(sys, "argv", list(arguments)),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return out.getvalue()


def microphone_stream(folder: Path) -> None:
    out = run("microphone_stream.py", folder, "portrait.png", "speech.wav")
    frames = [int(line.split()[2]) for line in out.splitlines()]
    assert sum(frames) == 13  # 0.5 s at 25 fps, rounded up


def many_portraits(folder: Path) -> None:
    shutil.copy(folder / "portrait.png", folder / "other.png")
    made = run("many_portraits.py", folder, "speech.wav", "portrait.png", "other.png")
    again = run("many_portraits.py", folder, "speech.wav", "portrait.png", "other.png", "--folder", "videos")
    assert len(made.splitlines()) == len(again.splitlines()) == 2
    for name in ("portrait", "other"):
        assert (folder / "videos" / f"{name}.avatar").stat().st_size
        assert set(probe(folder / "videos" / f"{name}.mp4").codecs) == {"h264", "aac"}


def own_face_finder(folder: Path) -> None:
    out = run("own_face_finder.py", folder, "portrait.png", "speech.wav", "-o", "found.mp4")
    assert re.search(r"said to be at \d", out)
    assert set(probe(folder / "found.mp4").codecs) == {"h264", "aac"}


def live_to_file(folder: Path) -> None:
    out = run("live_to_file.py", folder, "portrait.png", "speech.wav", "-o", "live.mp4")
    assert out.startswith("interrupted after 0.24 s of speech\n")
    info = probe(folder / "live.mp4")
    assert set(info.codecs) == {"h264", "aac"}
    assert 25 + 6 + 25 + 13 + 12 <= info.frames < 25 + 6 + 25 + 13 + 12 + 60


def save_stream(folder: Path) -> None:
    out = run("save_stream.py", folder, "portrait.png", "speech.wav", "-o", "stream.mp4")
    assert out.splitlines()[-1] == "0.52 s are in the file"
    info = probe(folder / "stream.mp4")
    assert (info.frames, set(info.codecs)) == (13, {"h264", "aac"})


RUNS: dict[str, Callable[[Path], None]] = {
    "live_to_file.py": live_to_file,
    "microphone_stream.py": microphone_stream,
    "many_portraits.py": many_portraits,
    "own_face_finder.py": own_face_finder,
    "save_stream.py": save_stream,
}


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A model, a portrait and half a second of speech."""
    (tmp_path / "model").symlink_to(tiny_bundle.path)
    shutil.copy(DEMO_PORTRAIT, tmp_path / "portrait.png")
    tone = np.sin(np.arange(8000) * 0.1) * 8000
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    return tmp_path


@pytest.mark.parametrize("name", RUNS)
def test_example(name: str, folder: Path) -> None:
    RUNS[name](folder)


def test_own_backend(folder: Path) -> None:
    """Installed as a package of its own, it is found by its name and times what it runs."""
    source = shutil.copytree(EXAMPLES / "own_backend", folder / "own_backend")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", "site", str(source)]
    subprocess.run([sys.executable, *install], cwd=folder, check=True)
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
    command = [sys.executable, "-m", "emo_rt.cli", "animate", "portrait.png", "speech.wav", "-o", "timed.mp4"]
    done = subprocess.run(
        [*command, "--bundle", "model", "--steps", "2", "--backend", "timed"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^step: \d*[02468] runs, \d+\.\d\d s$", done.stderr, re.MULTILINE)


def test_no_example_is_missed() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs == set(RUNS)
    programs |= {"own_backend/timed_backend.py"}
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name})" in text for name in programs)
