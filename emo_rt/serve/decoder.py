"""The child's side of decoding: a stranger's picture and sound become arrays in files that anybody can read safely."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av  # now: every child is a copy of a process that has loaded this module
import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import AudioError, EmoRtError
from emo_rt.media.audio import AudioSource, open_audio
from emo_rt.media.picture import open_picture
from emo_rt.serve.confine import confine

__all__ = ["Decoded", "Order", "decode"]

UPLOADED_PICTURE, UPLOADED_SOUND = "input_reference", "audio"
"""Names of the uploads in the folder, as messages show them."""
LEVELS = 32_767
"""Largest value of a sample of 16 bits."""
LEAST_FILE = 1 << 20
"""Bytes of a file that may always be written."""

_ = av.library_versions


@dataclass(frozen=True)
class Order:
    """What shall be decoded, and what that may cost."""

    folder: str
    """Where the uploads are, and where the arrays go: ``picture.npy``, ``sound.npy``; and ``sent_size.npy``, width and
    height of the picture as it was sent, where it was decoded at less."""
    has_picture: bool
    """Whether there is a picture."""
    has_sound: bool
    """Whether there is a sound."""
    max_pixels: int
    """Largest picture that is decoded."""
    max_seconds: float
    """Longest sound."""
    cut_seconds: float | None
    """Where the sound is cut off; ``None`` = it is an error if it is too long."""
    memory: int
    """Bytes."""
    seconds: float
    """Of processor time."""


@dataclass(frozen=True)
class Decoded:
    """What there was."""

    width: int = 0
    """Of the decoded picture, in pixels."""
    height: int = 0
    """Of the decoded picture, in pixels."""
    sample_rate: int = 0
    """Of the sound, in Hz."""
    samples: int = 0
    """Samples per channel."""
    is_offline: bool = False
    """Whether it was decoded without a network."""
    is_apart: bool = False
    """Whether it was decoded where no other files are seen."""


def decode(order: Order, answer: Connection) -> None:
    """Decode, in a process of its own. ``answer`` gets JSON: what there was, or what is wrong with it."""
    pixels = 3 * order.max_pixels
    sound = int(4 * 384_000 * order.max_seconds) if order.has_sound else 0
    confined = confine(order.memory, order.seconds, max(pixels, sound) + LEAST_FILE, Path(order.folder))
    try:
        found = {**_picture(order), **_sound(order)}
        reply = asdict(Decoded(**asdict(confined), **found))
    except EmoRtError as exc:
        is_sound = isinstance(exc, AudioError)
        reply = {"kind": "sound" if is_sound else "picture", "message": str(exc).replace(f"{order.folder}/", "")}
    except MemoryError:
        reply = {"kind": "memory"}
    except OSError as exc:
        reply = {"kind": "system", "errno": exc.errno, "message": exc.strerror or "unknown"}
    answer.send_bytes(json.dumps(reply).encode())
    answer.close()


def _picture(order: Order) -> dict[str, Any]:
    if not order.has_picture:
        return {}
    picture = open_picture(Path(order.folder, UPLOADED_PICTURE), order.max_pixels)
    height, width = picture.pixels.shape[:2]
    np.save(Path(order.folder, "picture.npy"), picture.pixels, allow_pickle=False)
    if (width, height) != (picture.width, picture.height):
        np.save(Path(order.folder, "sent_size.npy"), np.array([picture.width, picture.height]), allow_pickle=False)
    return {"width": width, "height": height}


def _sound(order: Order) -> dict[str, Any]:
    if not order.has_sound:
        return {}
    path = Path(order.folder, UPLOADED_SOUND)
    try:
        source = open_audio(path) if order.cut_seconds else open_audio(path, max_duration_s=order.max_seconds)
    except AudioError as exc:  # what to set in Python is nothing for callers of a server
        raise AudioError(str(exc).partition("; cut it")[0]) from exc
    samples = source.samples
    if order.cut_seconds:
        samples = min(samples, max(1, round(order.cut_seconds * source.sample_rate)))
    pcm = _read(source, samples)
    np.save(Path(order.folder, "sound.npy"), pcm, allow_pickle=False)
    return {"sample_rate": source.sample_rate, "samples": samples}


def _read(source: AudioSource, samples: int) -> NDArray[np.int16]:
    """(n, 1 or 2) of the first ``samples``; more than two channels are averaged."""
    channels = source.channels if source.channels <= 2 else 1
    pcm = np.zeros((samples, channels), np.int16)
    start = 0
    for block in source.blocks():
        part = block[: samples - start]
        part = part if channels == source.channels else part.mean(axis=1, keepdims=True)
        pcm[start : start + len(part)] = np.rint(np.clip(part, -1, 1) * LEVELS)
        start += len(part)
        if start == samples:
            break
    return pcm
