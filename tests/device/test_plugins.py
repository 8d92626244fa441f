"""Backends of other packages: really installed distributions in a folder of their own, good and broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emo_rt.device.registry import OWN_NAMES, backend_names, entries

GOOD = """
from emo_rt.device.onnxruntime_cpu import OrtBackend

NAME, DEVICE = "abacus", "cpu"


class Abacus(OrtBackend):
    name = NAME


def auto(bundle):
    return None if bundle is not None and bundle.config.size <= 32 else "it is for small pictures"


def open(threads):
    return Abacus(threads)
"""
BROKEN = {
    "absent": ("absent_module", None),
    "raises": ("raises_at_import", "raise RuntimeError('no licence')"),
    "renamed": ("renamed", "NAME, DEVICE = 'other', 'cpu'\ndef auto(bundle): ...\ndef open(threads): ..."),
    "elsewhere": ("elsewhere", "NAME, DEVICE = 'elsewhere', 'tpu'\ndef auto(bundle): ...\ndef open(threads): ..."),
    "lazy": ("lazy", "NAME, DEVICE = 'lazy', 'cpu'"),
    "onnxruntime": ("usurper", "NAME, DEVICE = 'onnxruntime', 'cpu'\ndef auto(bundle): ...\ndef open(threads): ..."),
    "stuck": ("stuck", "NAME, DEVICE = 'stuck', 'cpu'\ndef auto(bundle): 1 / 0\ndef open(threads): [][0]"),
}
"""Entry point → module and its source."""
PROBLEMS = {
    "absent": "absent_module cannot be loaded: ModuleNotFoundError: No module named 'absent_module'",
    "raises": "raises_at_import cannot be loaded: RuntimeError: no licence",
    "renamed": "its NAME is 'other', and its entry point is called 'renamed'",
    "elsewhere": "its DEVICE is 'tpu'; expected one of cpu, cuda",
    "lazy": "it has no function auto and no function open",
    "onnxruntime": "another backend has this name",
    "stuck": "stuck does not open: IndexError: list index out of range",
}


def install(site: Path, distribution: str, modules: dict[str, tuple[str, str | None]]) -> None:
    """What an installer leaves: modules, and metadata with their entry points."""
    about = site / f"{distribution}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    lines = [f"{name} = {module}" for name, (module, _) in modules.items()]
    (about / "entry_points.txt").write_text("\n".join(["[emo_rt.backends]", *lines, ""]))
    for module, source in modules.values():
        if source is not None:
            (site / f"{module}.py").write_text(source)


def run(site: Path, code: str) -> Any:
    """JSON that ``code`` prints last, in a process that has the folder among its packages."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "good", "abacus-backend", {"abacus": ("abacus_backend", GOOD)})
    install(tmp_path / "broken", "bad-backends", BROKEN)
    return tmp_path


def test_ours_are_there_without_others() -> None:
    assert backend_names() == ("auto", "fastest", "onnxruntime", "openvino", "openvino-bf16", "tensorrt")
    assert {entry.NAME for entry in entries()} == set(OWN_NAMES)
    assert [(entry.NAME, entry.DEVICE) for entry in entries()][:5] == [
        ("tensorrt", "cuda"), ("onnxruntime", "cuda"), ("openvino-bf16", "cpu"), ("openvino", "cpu"),
        ("onnxruntime", "cpu"),
    ]  # fmt: skip


def test_an_installed_backend_is_used_by_name_and_by_auto(site: Path, tiny_bundle: Any) -> None:
    code = (
        "import json; from emo_rt import Animator, Bundle; from emo_rt.device.registry import open_backend\n"
        f"with Animator.load({str(tiny_bundle.path)!r}, device='cpu', threads=1) as small: found = [small.backend]\n"
        "with Animator.load('demo', device='cpu', threads=1) as large: found += [large.backend]\n"
        "with open_backend('abacus', threads=1) as named: found += [named.name, type(named).__name__]\n"
        "print(json.dumps(found))"
    )
    assert run(site / "good", code) == ["abacus", "onnxruntime", "abacus", "Abacus"]


def test_broken_ones_do_not_disturb_auto(site: Path) -> None:
    code = (
        "import json; from emo_rt.device.registry import open_backend\n"
        "with open_backend(device='cpu') as opened: print(json.dumps([opened.name, type(opened).__name__]))"
    )
    assert run(site / "broken", code) == ["onnxruntime", "OrtBackend"]


def test_doctor_lists_them_and_warns(site: Path) -> None:
    broken = run(site / "broken", "from emo_rt.cli import main; main(['doctor', '--json'])")
    foreign = {one["name"]: one for one in broken["backends"] if one["from"] != "emo_rt"}
    assert {name: one["detail"] for name, one in foreign.items()} == PROBLEMS
    assert {one["from"] for one in foreign.values()} == {"bad-backends 1.2"}
    assert not any(one["works"] for one in foreign.values())
    assert "warning: the backend 'raises' of bad-backends 1.2 cannot be used: raises_at_import" in str(broken["advice"])
    assert broken["ready"] is True
    good = run(site / "good", "from emo_rt.cli import main; main(['doctor', '--json'])")
    (abacus,) = [one for one in good["backends"] if one["from"] != "emo_rt"]
    assert abacus == {**abacus, "name": "abacus", "device": "cpu", "works": True, "from": "abacus-backend 1.2"}
    assert not any("warning" in line for line in good["advice"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "backend 'raises' of bad-backends 1.2 cannot be used: raises_at_import cannot be loaded"),
        ("stuck", "stuck does not open: IndexError"),
        ("nobody", "expected one of auto, fastest, onnxruntime, openvino, openvino-bf16, tensorrt, absent, elsewhere"),
    ],
)
def test_a_broken_one_that_is_named_says_why(site: Path, name: str, message: str) -> None:
    code = (
        "import json; from emo_rt import EmoRtError; from emo_rt.device.registry import open_backend\n"
        f"try: open_backend({name!r})\n"
        "except EmoRtError as exc: print(json.dumps(str(exc)))"
    )
    assert message in run(site / "broken", code)
