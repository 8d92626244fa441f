"""Strangers' files are decoded by a child with limits; whatever happens to it, the server goes on."""

from __future__ import annotations

import io
import os
import socket
import zlib
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emo_rt.serve import confine
from emo_rt.serve.decoder import Decoded, Order
from emo_rt.serve.decoding import Decoders, load_array
from emo_rt.serve.errors import ApiError
from emo_rt.serve.settings import Limits
from tests.serve.inputs import PORTRAIT, voice


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    return Decoders(Limits())


@pytest.fixture
def order(decoders: Decoders, tmp_path: Path) -> Order:
    (tmp_path / "input_reference").write_bytes(PORTRAIT.read_bytes())
    (tmp_path / "audio").write_bytes(voice(0.5))
    return decoders.order(tmp_path, has_picture=True, has_sound=True)


def test_arrays_come_out(decoders: Decoders, order: Order) -> None:
    found = decoders.run(order)
    assert (found.width, found.height, found.sample_rate, found.samples) == (512, 512, 16_000, 8_000)
    folder = Path(order.folder)
    with Image.open(PORTRAIT) as image:
        assert np.array_equal(load_array(folder / "picture.npy", "uint8", 3), np.asarray(image.convert("RGB")))
    pcm = load_array(folder / "sound.npy", "int16", 2)
    assert np.abs(pcm[:, 0] - np.frombuffer(voice(0.5)[44:], "<i2")).max() <= 1
    for wrong in (("picture.npy", "int16", 3), ("picture.npy", "uint8", 2), ("audio", "uint8", 3)):
        with pytest.raises(ApiError):
            load_array(folder / wrong[0], *wrong[1:])


@pytest.mark.parametrize(
    "changes", [{"width": -1}, {"width": "512"}, {"samples": 1 << 50}, {"height": None}, {"is_offline": 1}]
)
def test_a_child_that_was_taken_over_may_answer_anything(
    decoders: Decoders, order: Order, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(Decoders, "_answer", lambda *_: {**asdict(Decoded()), **changes})
    with pytest.raises(ApiError, match="unexpected form"):
        decoders.run(order)


def test_sound_is_cut(decoders: Decoders, order: Order) -> None:
    assert decoders.run(replace(order, cut_seconds=0.25)).samples == 4_000
    with pytest.raises(ApiError, match=r"audio is longer than 0.25 s \(it has 0.5 s or more\)$") as caught:
        decoders.run(replace(order, max_seconds=0.25))
    assert caught.value.param == "audio"


def test_a_picture_that_grows(decoders: Decoders, order: Order) -> None:
    """64 megapixels of zeros in a few kB; and little memory."""
    target = io.BytesIO()
    Image.new("1", (8000, 8000)).save(target, "PNG")
    Path(order.folder, "input_reference").write_bytes(target.getvalue())
    with pytest.raises(ApiError) as caught:
        decoders.run(order)
    assert caught.value.status in (400, 413)
    with pytest.raises(ApiError) as caught:
        decoders.run(replace(order, memory=1 << 20, max_pixels=80_000_000))
    assert caught.value.status in (400, 413)
    assert zlib.crc32(target.getvalue())


def test_too_much_time(decoders: Decoders, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child gets no time: the server does not wait for it."""
    monkeypatch.setattr(Decoders, "_answer", lambda *_: None)
    with pytest.raises(ApiError, match="took longer than 30 s"):
        decoders.run(order)


def _confined(answer: Any, folder: str) -> None:
    """In a child: what still goes after confining."""
    is_offline = confine.confine(64 << 20, 5, 1000)
    found = {"is_offline": is_offline}
    for name, attempt in {
        "memory": lambda: bytearray(512 << 20),
        "file": lambda: Path(folder, "large").write_bytes(bytes(2000)),
        "descriptors": lambda: [os.dup(0) for _ in range(200)],
        "network": lambda: socket.create_connection(("127.0.0.1", int(Path(folder, "port").read_text())), 5),
    }.items():
        try:
            attempt()
            found[name] = True
        except (OSError, MemoryError):
            found[name] = False
    answer.send(found)


def test_what_a_child_may_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "port").write_text(str(listener.getsockname()[1]))
        ours, theirs = get_context("forkserver").Pipe(duplex=False)
        child = get_context("forkserver").Process(target=_confined, args=(theirs, str(tmp_path)))
        child.start()
        theirs.close()
        found = ours.recv()
        child.join()
    assert (found["memory"], found["file"], found["descriptors"]) == (False, False, False)
    assert found["network"] is not found["is_offline"]
