"""A short run of ``emo-rt animate``."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from emo_rt import Bundle
from tests.cli.commands import PORTRAIT, Animate


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    """0.4 s of a tone: 10 frames at 25 fps."""
    path = tmp_path / "voice.wav"
    tone = np.sin(np.arange(6400) * 0.1) * 8000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    return path


@pytest.fixture
def animate(tiny_bundle: Bundle, voice: Path) -> Animate:
    """Arguments of a short run of ``emo-rt animate``."""

    def arguments(*more: str | Path, portrait: Path = PORTRAIT, audio: Path = voice, box: str = "full") -> list[str]:
        model = ["--bundle", str(tiny_bundle.path), "--threads", "1", "--steps", "2"]
        face = ["--face-box", box] if box else []
        return ["animate", str(portrait), str(audio), *model, *face, *map(str, more)]

    return arguments
