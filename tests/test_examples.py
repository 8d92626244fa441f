"""Every program of examples/ runs, with a small model, and leaves what its first lines promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emo_rt import Bundle
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.media.video_file import probe

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments, "--bundle", "model"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


RUNS: dict[str, Callable[[Path], None]] = {
    "microphone_stream.py": microphone_stream,
    "many_portraits.py": many_portraits,
    "own_face_finder.py": own_face_finder,
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


def test_no_example_is_missed() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs == set(RUNS)
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name})" in text for name in programs)
