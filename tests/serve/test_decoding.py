"""Strangers' files are decoded by a child with limits; whatever happens to it, the server goes on."""

from __future__ import annotations

import importlib
import io
import os
import platform
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import zlib
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emo_rt.serve import confine, seccomp
from emo_rt.serve.decoder import Decoded, Order
from emo_rt.serve.decoding import PRELOADED, Decoders, load_array, load_sent
from emo_rt.serve.errors import ApiError
from emo_rt.serve.settings import Limits
from tests.serve.inputs import PORTRAIT, voice

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the server runs on Linux and macOS")


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


@pytest.mark.parametrize("sent", [[512], [512, 1 << 16], [511, 512], [512.0, 512.0]])
def test_a_child_may_say_any_size(tmp_path: Path, sent: list[float]) -> None:
    np.save(tmp_path / "picture.npy", np.zeros((512, 512, 3), np.uint8))
    assert load_sent(tmp_path).width == 512
    np.save(tmp_path / "sent_size.npy", np.array(sent))
    with pytest.raises(ApiError, match="unexpected form"):
        load_sent(tmp_path)


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


def test_children_find_their_libraries_loaded() -> None:
    """In a process of its own, as the helper is one."""
    wanted = {"PIL.PngImagePlugin", "PIL.AvifImagePlugin", "av.audio", "emo_rt.serve.decoder"}
    code = f"import sys, {PRELOADED[-1]}; sys.exit(not {wanted} <= set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _confined(answer: Any, folder: str, port: int) -> None:
    """In a child: what still goes after confining."""
    own = Path(folder, "own")
    found = asdict(confine.confine(64 << 20, 5, 1000, own))
    for name, attempt in {
        "memory": lambda: bytearray(512 << 20),
        "large": lambda: (own / "large").write_bytes(bytes(2000)),
        "network": lambda: socket.create_connection(("127.0.0.1", port), 5),
        "processes": lambda: os.fork() or os._exit(0),
        "programs": lambda: os.execv("/bin/true", ["true"]),
        "signals": lambda: os.kill(os.getppid(), 0),
        "limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
        "links": lambda: (own / "link").symlink_to("/etc/passwd"),
        "others": lambda: Path(folder, "secret").read_bytes(),
        "outside": lambda: Path(folder, "new").write_bytes(b"x"),
        "own": lambda: ((own / "new").write_bytes(b"x"), (own / "new").read_bytes()),
        "threads": lambda: threading.Thread(target=int).start(),
        "libraries": lambda: importlib.import_module("PIL.ImageDraw2"),
        "descriptors": lambda: [os.dup(0) for _ in range(200)],
    }.items():
        try:
            attempt()
            found[name] = True
        except (OSError, MemoryError):
            found[name] = False
    answer.send(found)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems only have limits")
def test_what_a_child_may_not(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "secret").write_bytes(b"of another")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours, theirs = get_context("forkserver").Pipe(duplex=False)
        arguments = theirs, str(tmp_path), listener.getsockname()[1]
        child = get_context("forkserver").Process(target=_confined, args=arguments)
        child.start()
        theirs.close()
        found = ours.recv()
        child.join()
    assert (found["memory"], found["large"], found["descriptors"]) == (False, False, False)
    assert (found["own"], found["threads"], found["libraries"]) == (True, True, True)
    assert found["network"] is not found["is_offline"]
    assert (found["others"], found["outside"]) == (not found["is_apart"],) * 2
    if platform.machine() in seccomp.PROCESSORS:
        assert found["is_offline"]
        assert not any(found[name] for name in ("processes", "programs", "signals", "limits", "links"))


def test_linux_can_do_all_of_it(decoders: Decoders, order: Order) -> None:
    """Here, so that the test above is no empty one."""
    if not Path("/sys/kernel/security/lsm").exists() and platform.release().split(".")[0] < "6":
        pytest.skip("needs a Linux with Landlock")
    found = decoders.run(order)
    assert (found.is_offline, found.is_apart) == (True, True)


@pytest.mark.parametrize("name", seccomp.PROCESSORS)
def test_the_filter_is_well_formed(name: str) -> None:
    """Every jump ends inside, and every number is there once."""
    processor = seccomp.PROCESSORS[name]
    program = [struct.unpack("HBBI", chunk) for chunk in _chunks(seccomp.filter_for(processor, frozenset()), 8)]
    assert program[-1] == (seccomp.RETURN, 0, 0, seccomp.ALLOW)
    for place, (_, yes, no, _) in enumerate(program):
        assert place + 1 + max(yes, no) < len(program) or place == len(program) - 1
    compared = [value for kind, _, _, value in program if kind == seccomp.EQUAL][1:]
    assert sorted(value for value in compared if value) == sorted(processor.numbers.values())
    assert len(set(processor.numbers.values())) == len(processor.numbers)


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_numbers_of_system_calls_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"needs {path} (linux-libc-dev)")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text(encoding="utf-8"))
    known = {name: int(number) for name, number in found}
    numbers = seccomp.PROCESSORS[machine].numbers
    assert {name: known.get(name) for name in numbers} == dict(numbers)
