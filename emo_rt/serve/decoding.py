"""The server's side of decoding: one short-lived child for each upload, with limits, and killed when it takes too long.

Children are forked by a helper process that has loaded the libraries and nothing else (``multiprocessing``'s
fork server), so they start in milliseconds and hold no secret of the server. All processes end with the server.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from dataclasses import asdict
from io import BufferedReader
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.picture import Picture, open_picture
from emo_rt.media.untrusted import DECODED, open_file
from emo_rt.serve.decoder import Decoded, Order, decode
from emo_rt.serve.errors import DISK_FULL, FULL, ApiError
from emo_rt.serve.settings import MEGABYTE, Limits
from emo_rt.serve.store import PICTURE, SENT_SIZE

AT_ONCE = 2
"""Uploads that are decoded at the same time; others wait."""
LONGEST_ANSWER = 1 << 16
"""Bytes of an answer."""
MOST_SIDE = 1 << 16
"""Pixels; a JPEG has less."""
PRELOADED = ["__main__", "emo_rt.serve.preloaded"]
PARAMS = {"picture": "input_reference", "sound": "audio"}
"""Names of the fields, for callers."""
STATUS = {"picture": "invalid_image", "sound": "invalid_audio"}


class Decoders:
    """Makes the children. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def warm(self) -> None:
        """Start the helper process, so that the first upload need not wait for it."""
        forkserver.ensure_running()

    def order(self, folder: Path, *, has_picture: bool, has_sound: bool, cut_seconds: float | None = None) -> Order:
        """An order within the limits. The uploads lie in ``folder``, by the names of :mod:`emo_rt.serve.decoder`."""
        limits = self._limits
        return Order(
            folder=str(folder),
            has_picture=has_picture,
            has_sound=has_sound,
            max_pixels=limits.max_pixels,
            max_seconds=limits.max_seconds,
            cut_seconds=cut_seconds,
            memory=limits.decode_memory_mb * MEGABYTE,
            seconds=limits.decode_seconds,
        )

    def run(self, order: Order) -> Decoded:
        """Decode; waits for it. Raises :class:`ApiError`: 400 for what cannot be used, 503 for a full disk."""
        with self._places:
            ours, theirs = self._context.Pipe(duplex=False)
            child = self._context.Process(target=decode, args=(order, theirs), daemon=True)
            child.start()
            theirs.close()
            try:
                reply = self._answer(ours, order.seconds)
            finally:
                ours.close()
                child.kill()
                child.join()
                code = child.exitcode
                child.close()
        if reply is None:
            raise _death(code, order)
        if "kind" in reply:
            raise _error(reply)
        return _decoded(reply)

    def _answer(self, ours: Connection, seconds: float) -> dict[str, Any] | None:
        """The child's answer; ``None`` if it ended without one. Twice the time: the processor may be busy."""
        if not ours.poll(2 * seconds):
            return None
        try:
            reply = json.loads(ours.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError, ValueError):
            return None
        return reply if isinstance(reply, dict) else None


def _decoded(reply: dict[str, Any]) -> Decoded:
    """A child that a stranger's file has taken over may answer anything. Raises :class:`ApiError`."""
    expected: dict[str, Any] = asdict(Decoded())
    for name, default in expected.items():
        value: Any = reply.get(name)
        if type(value) is not type(default) or not 0 <= value < 1 << 40:
            raise ApiError(500, "internal_error", "the decoder answers in an unexpected form")
    return Decoded(**{name: reply[name] for name in expected})


def load_sent(folder: Path) -> Picture:
    """The picture that a child decoded into a folder. Raises :class:`ApiError`."""
    picture = open_picture(load_array(folder / PICTURE, "uint8", 3))
    if not (folder / SENT_SIZE).exists():
        return picture
    sent = load_array(folder / SENT_SIZE, "int64", 1).tolist()
    if len(sent) != 2 or not (picture.width <= sent[0] < MOST_SIDE and picture.height <= sent[1] < MOST_SIDE):
        raise ApiError(500, "internal_error", "the size of the decoded picture is of an unexpected form")
    return Picture(picture.pixels, *sent)


def load_array(path: Path, dtype: str, dims: int) -> NDArray[Any]:
    """An array that a child wrote; never anything else than numbers of this type. Raises :class:`ApiError`."""
    try:
        with open_file(path, DECODED) as file:
            array = np.load(BufferedReader(file), allow_pickle=False)
    except Exception as exc:  # NumPy raises nearly anything for a damaged header
        raise ApiError(500, "internal_error", f"the decoded {path.stem} cannot be read again") from exc
    if not isinstance(array, np.ndarray) or array.dtype.name != dtype or array.ndim != dims:
        raise ApiError(500, "internal_error", f"the decoded {path.stem} is of an unexpected form")
    return array


def _death(code: int | None, order: Order) -> ApiError:
    what = "picture and sound" if order.has_picture and order.has_sound else "upload"
    slow = code in (-signal.SIGXCPU, -signal.SIGKILL)
    reason = f"took longer than {order.seconds:g} s" if slow else "failed in an unusual way"
    return ApiError(400, "undecodable", f"decoding the {what} {reason}; convert it to a simpler format first")


def _error(reply: dict[str, Any]) -> ApiError:
    kind, message = reply.get("kind"), str(reply.get("message"))
    if kind in STATUS:
        return ApiError(400, STATUS[kind], message, param=PARAMS[kind])
    if kind == "memory":
        return ApiError(413, "too_large", "decoding the upload takes more memory than the server allows")
    if reply.get("errno") in FULL:
        return ApiError(503, DISK_FULL, "the server's disk is full; nothing was kept", retry_after_s=60)
    number = reply.get("errno")
    told = os.strerror(number) if isinstance(number, int) else message
    return ApiError(400, "undecodable", f"the upload cannot be decoded: {told}")
