"""The core imports without what is not everywhere: modules of POSIX, and FFmpeg until a sound or a video is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = (
    *("emo_rt.export", "emo_rt.engines", "emo_rt.benchmarks", "emo_rt.cli.__main__"),
    *("emo_rt.evaluate", "emo_rt.integrations", "emo_rt.serve"),
    "emo_rt.device.cuda_form.",  # the modules in it
)
"""Not the core: they need extras."""
ROOT = Path(__file__).resolve().parent.parent
POSIX = ("fcntl", "resource", "pwd", "grp", "termios")
"""Modules that Windows has not."""
WALK = """
import importlib, pkgutil, sys
{block}
import emo_rt
skipped = {skipped}
names = [m.name for m in pkgutil.walk_packages(emo_rt.__path__, "emo_rt.") if not m.name.startswith(skipped)]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_module_needs_posix() -> None:
    """What the standard library itself imports of them was imported before."""
    block = f"import subprocess, tempfile, pathlib, shutil\nfor name in {POSIX}: sys.modules[name] = None"
    assert int(run(WALK.format(block=block, skipped=SKIPPED))) > 60


def test_the_package_imports_without_ffmpeg() -> None:
    code = "import sys; sys.modules['av'] = None; import emo_rt; print(emo_rt.Animator.__name__)"
    assert run(code).strip() == "Animator"


@pytest.mark.parametrize("module", ["emo_rt", "emo_rt.media.video_file", "emo_rt.media.audio", "emo_rt.runtime.result"])
def test_ffmpeg_comes_late(module: str) -> None:
    assert run(f"import sys, {module}; print('av' in sys.modules)").strip() == "False"
