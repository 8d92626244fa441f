"""Typed text becomes speech, by espeak-ng where it is installed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import wave
from dataclasses import dataclass
from functools import lru_cache

from emo_rt.serve.errors import ApiError

PROGRAM = "espeak-ng"
LONGEST_TEXT = 2_000
"""Characters: about two minutes."""
WORDS_PER_MINUTE = 160
"""At speed 1."""
MOST_S = 30.0
"""Seconds that the program gets; it needs a few for the longest text."""
AT_ONCE = 2
"""Texts that are spoken at the same time; others wait."""
HEADER = 44
"""Bytes in front of the samples. Their number is wrong there: the program writes before it knows."""

_places = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Voice:
    """A language that can be spoken."""

    id: str
    """Like ``en-gb``."""
    name: str
    """In English."""


@lru_cache(maxsize=1)
def voices() -> tuple[Voice, ...]:
    """What is installed, by name; nothing where the program is missing or broken."""
    program = shutil.which(PROGRAM)
    if program is None:
        return ()
    try:
        listed = subprocess.run([program, "--voices"], capture_output=True, text=True, timeout=MOST_S, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    found: dict[str, Voice] = {}
    for line in listed.stdout.splitlines()[1:]:
        _, language, _, name, *_ = line.split()
        found.setdefault(language, Voice(language, name.replace("_", " ")))
    return tuple(sorted(found.values(), key=lambda voice: voice.name))


def speak(text: str, voice: str, speed: float) -> bytes:
    """A WAV file of ``text``. Raises :class:`ApiError`: 400 for what cannot be spoken, 503 without the program.

    ``speed``: 0.5 … 2. The text goes to the program's standard input: nothing in it is taken for an option. The program
    has the limits of a child that decodes uploads.
    """
    program = shutil.which(PROGRAM)
    if program is None or not voices():
        raise ApiError(503, "speech_unavailable", f"this server cannot speak: {PROGRAM} is not installed there")
    if voice not in {one.id for one in voices()}:
        raise ApiError(400, "voice_not_found", f"there is no voice {voice[:40]!r}", param="voice")
    if not text.strip():
        raise ApiError(400, "invalid_value", "input is empty; expected a text", param="input")
    confined = [sys.executable, "-P", "-m", "emo_rt.serve.confined", str(os.getpid())]
    command = [
        *confined,
        program,
        "-v",
        voice,
        "-s",
        str(round(WORDS_PER_MINUTE * speed)),
        "-b",
        "1",
        "--stdin",
        "--stdout",
    ]
    written = text.encode("utf-8", "replace")
    try:
        with _places:
            done = subprocess.run(command, input=written, capture_output=True, timeout=MOST_S, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        raise ApiError(503, "speech_failed", f"{PROGRAM} has failed") from exc
    if len(done.stdout) <= HEADER:
        raise ApiError(400, "invalid_value", "nothing in input can be spoken", param="input")
    return _wav(done.stdout)


def _wav(written: bytes) -> bytes:
    """The same with a header that says how long it is."""
    channels = int.from_bytes(written[22:24], "little")
    rate = int.from_bytes(written[24:28], "little")
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(written[HEADER:])
    return target.getvalue()
