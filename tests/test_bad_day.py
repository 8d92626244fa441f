"""What an audit found: two runs to one output, closed streams, wrong types, bundles and pictures of strangers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emo_rt import Animator, Bundle, VideoOptions, VideoWriter
from emo_rt.checks import within
from emo_rt.cli import main
from emo_rt.errors import BundleError, ConfigError, OutputError, PortraitError
from emo_rt.media.audio import open_audio
from emo_rt.media.box import Box
from emo_rt.media.picture import load_picture
from emo_rt.model.bundle import MANIFEST
from emo_rt.runtime.live.settings import read_live_settings
from emo_rt.runtime.request import Request
from tests.media.encoded import encode_sound

ROOT = Path(__file__).resolve().parent.parent
FRAMES = np.zeros((2, 64, 64, 3), np.uint8)
SIZE: dict[str, Any] = {"width": 64, "height": 64, "fps": 25}

# --- two runs to one output -------------------------------------------------------------------------------------------


def test_of_two_videos_to_one_file_the_first_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    late = VideoWriter(target, **SIZE, overwrite=False)
    late.write(FRAMES)
    with VideoWriter(target, **SIZE, overwrite=False) as early:
        early.write(FRAMES)
    first = target.read_bytes()
    with pytest.raises(OutputError, match="it exists, and is kept"):
        late.close()
    assert (target.read_bytes(), os.listdir(tmp_path)) == (first, ["a.mp4"])
    with pytest.raises(OutputError, match="it exists, and is kept"):
        VideoWriter(target, **SIZE, overwrite=False)
    with VideoWriter(target, **SIZE) as replacing:
        replacing.write(FRAMES[:1])
    assert target.read_bytes() != first


def test_a_video_is_not_written_over_its_own_sound(tiny_animator: Animator, tmp_path: Path) -> None:
    source, link = tmp_path / "v.mp4", tmp_path / "link.mp4"
    encode_sound(source, "mp4", "aac")
    link.symlink_to(source)
    before = source.read_bytes()
    with tiny_animator.prepare(np.zeros((64, 64, 3), np.uint8), face_box="full") as avatar:
        video = tiny_animator.animate(avatar, source, steps=1, guidance=1)
        for target in (source, link):
            with pytest.raises(OutputError, match="is the video's own input"):
                video.save(target)
    with pytest.raises(OutputError, match="is the video's own input"):
        VideoWriter(source, **SIZE, audio=open_audio(source))
    assert (source.read_bytes(), sorted(os.listdir(tmp_path))) == (before, ["link.mp4", "v.mp4"])


@pytest.mark.parametrize("answer", [0, None])
def test_a_target_that_takes_nothing_is_an_error(answer: int | None) -> None:
    class Full(io.RawIOBase):
        def write(self, _: object) -> int | None:  # type: ignore[override]
            return answer

    options = VideoOptions(fragmented=True)
    with pytest.raises(OutputError, match="takes no more for now"), VideoWriter(Full(), **SIZE, options=options) as one:
        one.write(FRAMES)


def test_names_that_are_too_long_are_typed_errors(tiny_animator: Animator, tmp_path: Path) -> None:
    name = tmp_path / ("n" * 300)
    with pytest.raises(OutputError, match="too long"):
        VideoWriter(name.with_suffix(".mp4"), **SIZE)
    with tiny_animator.prepare(np.zeros((64, 64, 3), np.uint8), face_box="full") as avatar:
        video = tiny_animator.animate(avatar, np.zeros(640, np.float32), sample_rate=16_000)
        with pytest.raises(OutputError, match="too long"):
            video.save_frames(name)
        with pytest.raises(OutputError, match="too long"):
            avatar.save(name)


# --- the command ------------------------------------------------------------------------------------------------------

needs_posix = pytest.mark.skipif(os.name != "posix", reason="a shell closes streams")


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'"$0" -m emo_rt.cli {line}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *arguments],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@needs_posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_end_no_work(tiny_bundle: Bundle, tmp_path: Path, closed: str) -> None:
    portrait, voice, out = ROOT / "emo_rt/assets/portrait.png", tmp_path / "a.wav", tmp_path / "out.mp4"
    encode_sound(voice, "wav", "pcm_s16le")
    line = f'animate "$1" "$2" --bundle "$3" -o "$4" --steps 1 --threads 1 --face-box full {closed}'
    done = shell(line, str(portrait), str(voice), str(tiny_bundle.path), str(out))
    assert (done.returncode, out.exists()) == (0, True), done.stderr
    assert "bug" not in done.stderr


@needs_posix
def test_a_video_cannot_go_to_a_closed_output(tmp_path: Path) -> None:
    encode_sound(tmp_path / "a.wav", "wav", "pcm_s16le")
    done = shell('animate emo_rt/assets/portrait.png "$1" -o - >&-', str(tmp_path / "a.wav"))
    assert (done.returncode, done.stderr) == (1, "error: standard output is closed; open it, or name a file\n")


@needs_posix
def test_a_closed_terminal_ends_a_command_in_order() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from emo_rt.cli import main, COMMANDS, demo\n"
        "def run(args):\n    os.kill(os.getpid(), signal.SIGHUP)\n    time.sleep(30)\n"
        "demo.run = run\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\nraise SystemExit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "stopped; no output was written\n")


def test_ctrl_c_while_a_command_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("emo_rt.cli._module", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "stopped; no output was written\n"


def test_ctrl_c_while_the_package_is_imported() -> None:
    code = (
        "import importlib.abc, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background\n"
        "class Interrupted(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'emo_rt.errors': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "import emo_rt_command\nassert 'emo_rt' not in sys.modules\nraise SystemExit(emo_rt_command.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "stopped; no output was written\n")


# --- wrong types and numbers ------------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "width": lambda: VideoWriter("a.mp4", width="x", height=64, fps=25),  # type: ignore[arg-type]
    "height": lambda: VideoWriter("a.mp4", width=64, height=np.ones(2), fps=25),  # type: ignore[arg-type]
    "fps": lambda: VideoWriter("a.mp4", width=64, height=64, fps=True),
    "audio": lambda: VideoWriter("a.mp4", **SIZE, audio="a.wav"),  # type: ignore[arg-type]
    "options": lambda: VideoWriter("a.mp4", **SIZE, options={}),  # type: ignore[arg-type]
    "verify": lambda: Animator.load(verify="no"),  # type: ignore[arg-type]
    "guidance": lambda: Request.from_dict({"portrait": "a", "voice": "b", "guidance": 10**400}),
    "head_room": lambda: Request.from_dict({"portrait": "a", "voice": "b", "head_room": 10**400}),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_of_wrong_types_are_typed_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=name):
        WRONG[name]()
    assert os.listdir(tmp_path) == []


def test_wrong_settings_of_a_live_session_are_called_so() -> None:
    with pytest.raises(ConfigError, match=r"^settings is 3; expected LiveSettings, or None"):
        read_live_settings(3, None, {})  # type: ignore[arg-type]


def test_integers_that_no_float_holds_are_out_of_range() -> None:
    assert not within(10**400, 0, float("inf"))
    with pytest.raises(PortraitError, match="not a finite number"):
        Box(0, 0, 10**400, 1)
    with pytest.raises(PortraitError, match="not a finite number"):
        Box("a", 0, 1, 1)  # type: ignore[arg-type]


def test_a_priority_that_is_none_does_not_end_the_thread_of_all(tiny_animator: Animator) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ConfigError, match="priority is 'high'; expected a number"):
        tiny_animator.prepare(picture, face_box="full", priority="high")  # type: ignore[arg-type]
    tiny_animator.prepare(picture, face_box="full").close()


# --- files of strangers -----------------------------------------------------------------------------------------------


@needs_posix
def test_a_manifest_is_a_regular_file_of_a_sane_size(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = bundle_copy / MANIFEST
    monkeypatch.setattr("emo_rt.model.bundle.LARGEST_MANIFEST", 100)
    with pytest.raises(BundleError, match="too large; expected 100 bytes at most"):
        Bundle.open(bundle_copy)
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(BundleError, match="it is a pipe"):
        Bundle.open(bundle_copy)
    manifest.unlink()
    manifest.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="it is a device"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize(
    ("graph", "side", "tensor", "column", "value"),
    [
        ("vae_encoder", "inputs", "pixels", 2, [1, 3, 48, 48]),
        ("clip", "inputs", "motion_latents", 2, [9, 4, 8, 8]),
        ("timestep", "inputs", "timestep", 2, [2]),
        ("timestep", "inputs", "timestep", 1, "float16"),
        ("timestep", "outputs", "time_embedding", 0, "another"),
        ("vae_decoder", "outputs", "pixels_rgb", 2, [1, 8, 8, 3]),
    ],
)
def test_a_manifest_that_contradicts_itself_is_blamed_itself(
    bundle_copy: Path, graph: str, side: str, tensor: str, column: int, value: Any
) -> None:
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    (row,) = (row for row in manifest["graphs"][graph][side] if row[0] == tensor)
    row[column] = value
    (bundle_copy / MANIFEST).write_text(json.dumps(manifest))
    verb = {"inputs": "takes", "outputs": "gives"}[side]
    with pytest.raises(BundleError, match=f"{MANIFEST} contradicts itself: graph {graph} {verb} (no )?{tensor}"):
        Animator.load(bundle_copy, device="cpu", threads=1)


def bomb(side: int) -> bytes:
    """A PNG of some bytes that says that it has ``side`` × ``side`` pixels."""

    def part(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 10_000, 30_000])
def test_a_picture_of_too_many_pixels_is_refused_without_a_warning(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(bomb(side))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(PortraitError, match="too large to decode"):
            load_picture(tmp_path / "a.png")
    assert told == []


def test_the_largest_picture_is_an_option(tiny_animator: Animator, tmp_path: Path) -> None:
    Image.new("1", (7_100, 7_100)).save(tmp_path / "large.png")  # 50.4 megapixels
    with pytest.raises(PortraitError, match=r"7100x7100 pixels\); expected 50,000,000 pixels at most"):
        tiny_animator.prepare(tmp_path / "large.png", face_box="full")
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    with pytest.raises(PortraitError, match=r"64x64 pixels\); expected 4,095 pixels at most"):
        tiny_animator.prepare(tmp_path / "small.png", face_box="full", max_pixels=4_095)
    tiny_animator.prepare(tmp_path / "small.png", face_box="full", max_pixels=4_096).close()
    with pytest.raises(ConfigError, match="max_pixels is 90000000"):
        tiny_animator.prepare(tmp_path / "small.png", face_box="full", max_pixels=90_000_000)
