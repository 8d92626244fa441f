"""What tests send to a server."""

from __future__ import annotations

import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np

import emo_rt

URL = "http://localhost"
PORTRAIT = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
QUICK = {"num_inference_steps": "1", "extra_params": '{"guidance": 1, "face_box": "full"}'}
"""Fields of a job that is over at once."""
ENDLESS = {"num_inference_steps": "900", "extra_params": '{"face_box": "full"}'}
"""Fields of a job that runs until it is stopped; with a sound of minutes."""


def voice(seconds: float = 0.4, rate: int = 16_000) -> bytes:
    """A WAV file."""
    samples = np.random.default_rng(0).uniform(-3000, 3000, round(seconds * rate)).astype("<i2")
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return target.getvalue()


def files(seconds: float = 0.4) -> dict[str, Any]:
    """Both files of a job, for a form."""
    return {"input_reference": ("face.png", PORTRAIT.read_bytes(), "image/png"), "audio": ("voice.wav", voice(seconds))}


def data_url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
