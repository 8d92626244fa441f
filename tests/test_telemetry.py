"""Loading and running a model writes nothing and calls nobody, whatever the runtime beneath does by default."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.telemetry import ONNXRUNTIME_SWITCH

ROOT = Path(__file__).resolve().parents[1]
SILENCED_IN_CI = re.compile(r"CI|ORT_|GITHUB_|TF_BUILD|JENKINS|GITLAB|BUILD_")
"""Variables by which ONNX Runtime tells a test machine, where it reports nothing, from a user's."""

ANIMATE = """
import sys, numpy as np
from emo_rt import Animator
from emo_rt import FaceInputs
with Animator.load(sys.argv[1], backend=sys.argv[2], threads=1) as animator:
    avatar = animator.prepare(np.full((64, 64, 3), 128, np.uint8), face_box="full")
    video = animator.animate(avatar, np.zeros(8_000, np.float32), sample_rate=16_000, steps=1)
    assert len(video.numpy()) == video.frame_count
"""
NO_SOCKETS = """
import sys
def no_socket(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"{event}{arguments}")
sys.addaudithook(no_socket)
"""
CHANGES = re.compile(r"\b(?:O_WRONLY|O_RDWR|O_CREAT)\b|\b(?:mkdir|rename|unlink|link|symlink)(?:at)?2?\(")
"""In a system call: it may change a file."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folders, all empty."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def user(home: Path) -> dict[str, str]:
    """The environment of somebody who has never heard of telemetry."""
    kept = {name: value for name, value in os.environ.items() if not SILENCED_IN_CI.match(name)}
    folders = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR"), str(home))
    return {**kept, **folders, "PYTHONDONTWRITEBYTECODE": "1"}


def run(home: Path, code: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
    command = [*before, sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, env=user(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_run_leaves_no_file_and_opens_no_socket(tiny_bundle: Bundle, home: Path, backend: str) -> None:
    """As Python sees it, and where strace is there (apt-get install strace) as the system sees it, too."""
    bundle, log = files(tiny_bundle.path), home.parent / "log"
    calls = "trace=%file,socket,connect"
    watch = ("strace", "-f", "-qq", "-e", calls, "-o", str(log)) if shutil.which("strace") else ()
    run(home, NO_SOCKETS + ANIMATE, str(tiny_bundle.path), backend, before=watch)
    assert files(home) == []
    assert files(tiny_bundle.path) == bundle
    if watch:
        lines = [line for line in log.read_text().splitlines() if "/dev/null" not in line]
        assert any(str(tiny_bundle.path) in line for line in lines)
        assert [line for line in lines if CHANGES.search(line)] == []
        assert [line for line in lines if re.search(r"\b(socket|connect)\(", line)] == []


def test_onnxruntime_by_itself_would_leave_files(home: Path) -> None:
    """What the test above would see."""
    run(home, "import onnxruntime; onnxruntime.disable_telemetry_events()")
    if not files(home):
        pytest.skip("the installed ONNX Runtime writes nothing by itself")
    assert any("deviceid" in name for name in files(home))


def test_the_switch_is_on_before_anybody_can_import_onnxruntime(home: Path) -> None:
    run(home, "import emo_rt, onnxruntime")
    run(home, "import emo_rt.benchmarks.report, onnxruntime")
    assert files(home) == []


def test_who_has_decided_is_not_overruled(home: Path) -> None:
    code = "import os, sys; os.environ[sys.argv[1]] = '0'; import emo_rt; print(os.environ[sys.argv[1]])"
    assert run(home, code, ONNXRUNTIME_SWITCH) == "0\n"
