"""A folder with a portrait and voices, and manifests of them."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt.cli.demo import DEMO_PORTRAIT

Manifest = Callable[..., Path]


def row(name: str, **fields: Any) -> dict[str, Any]:
    """A row that is quickly made, unless ``fields`` say otherwise."""
    return {"id": name, "portrait": "a.png", "voice": "short.wav", "face_box": "full", "steps": 1, **fields}


def write_voice(path: Path, seconds: float, seed: int = 0) -> None:
    sound = np.random.default_rng(seed).uniform(-8000, 8000, round(16_000 * seconds))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """``a.png``, ``b.png`` (another file of the same picture), ``short.wav`` (0.2 s) and ``long.wav`` (3 s)."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    shutil.copy(DEMO_PORTRAIT, folder / "a.png")
    (folder / "b.png").write_bytes(DEMO_PORTRAIT.read_bytes() + b"\0")
    write_voice(folder / "short.wav", 0.2)
    write_voice(folder / "long.wav", 3)
    return folder


@pytest.fixture
def manifest(inputs: Path) -> Manifest:
    """``manifest(*rows)`` writes them as JSON lines; a text is a line as it is."""

    def write(*rows: dict[str, Any] | str, name: str = "rows.jsonl") -> Path:
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        (inputs / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return inputs / name

    return write


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Lines of ``results.jsonl`` by id; each id is there once."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {line["id"]: line for line in lines}
    assert len(found) == len(lines), "a row has two results"
    return found


def events(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the journal."""
    try:
        text = (folder / "journal.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
