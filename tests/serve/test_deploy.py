"""``deploy/`` and ``docs/serving.md``: every command that they show is one that we have."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from emo_rt.cli import make_parser
from emo_rt.serve.app import make_app
from emo_rt.serve.server import Server, _config
from emo_rt.serve.service import Service
from tests.serve.conftest import MakeService

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"


def check_command(line: str) -> None:
    """Everything behind ``emo-rt`` parses."""
    make_parser().parse_args(shlex.split(line))


def test_commands_of_the_guide() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    commands = [line.removeprefix("emo-rt ") for block in blocks for line in block.splitlines() if "emo-rt " in line]
    assert len(commands) == 3
    for command in commands:
        check_command(command)


def test_paths_of_the_guide(service: Service) -> None:
    guard = make_app(service)
    known = {route.split("{")[0] for route in guard._app.openapi()["paths"]}  # type: ignore[attr-defined]
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:GET|POST|DELETE) (/v1/[a-z/]+)", text))
    assert named <= {*known, *(path.rstrip("/") for path in known)}
    assert len(named) >= 5


def test_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "emo-rt.service").read_text()
    (start,) = re.findall(r"^ExecStart=\S+/emo-rt (.*)$", text, re.MULTILINE)
    check_command(start)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    unit = tmp_path / "emo-rt.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "emo-rt.service" in line] == []


def test_compose() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(found["services"]) == {"cpu", "cuda"}
    for one in found["services"].values():
        assert one["ports"] == ["127.0.0.1:8000:8000"]
        assert (DEPLOY / one["build"]["context"] / one["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert found["services"]["cuda"]["build"]["args"]["EXTRAS"] == "serve,gpu"


def test_dockerfile() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (command,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
    check_command(shlex.join(json.loads(command)))
    assert lines.index("USER emo_rt") < lines.index(f"CMD {command}")
    (image,) = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert re.fullmatch(r"python:3\.\d+-slim", image), "a version, and not whatever is newest"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image.split(":")[1].removesuffix("-slim") >= project["requires-python"].removeprefix(">=")
    chosen = [extras for line in lines for extras in re.findall(r"EXTRAS=([\w,-]+)", line)]
    assert sorted(set(chosen)) == ["serve,cpu", "serve,gpu"]
    assert {name for extras in chosen for name in extras.split(",")} <= set(project["optional-dependencies"])
    assert "pip install '.[serve,cpu]'" in (ROOT / "README.md").read_text(), "what README installs is in the image"


def test_what_is_copied_into_the_image_is_what_a_wheel_needs() -> None:
    ignored, *kept, caches = (
        line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")
    )
    assert (ignored, caches) == ("*", "**/__pycache__")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    mapped = re.findall(r'"(\w+)"', re.findall(r"^MAPPED = (.*)$", (ROOT / "setup.py").read_text(), re.MULTILINE)[0])
    modules = [f"{name}.py" for name in re.findall(r'py_modules=\["(\w+)"\]', (ROOT / "setup.py").read_text())]
    needed = ["emo_rt", *mapped, *modules, "setup.py", "pyproject.toml", project["readme"], *project["license-files"]]
    assert sorted(kept) == sorted(f"!{name}" for name in needed)
    assert all((ROOT / name).exists() for name in needed)


def check_health(url: str) -> int:
    """The exit code of the image's health check."""
    (found,) = re.findall(r"^    CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    _, *arguments = json.loads(found)
    assert "http://127.0.0.1:8000/" in arguments[-1]
    code = arguments[-1].replace("http://127.0.0.1:8000", url)
    return subprocess.run([sys.executable, *arguments[:-1], code], check=False, stderr=subprocess.DEVNULL).returncode


def test_health_check(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(_config(make_app(service)), service)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            assert check_health(url) == 0
            monkeypatch.setattr(service.runner, "lost", "an illegal address")
            assert check_health(url) == 1
        finally:
            server.should_exit = True
            thread.join()


def test_a_lost_device_ends_the_server_where_that_is_wanted(make_service: MakeService) -> None:
    service = make_service()
    server = Server(_config(lambda *_: None), service)  # type: ignore[arg-type]
    object.__setattr__(service.options, "exit_when_lost", True)
    assert asyncio.run(server.on_tick(1)) is False
    service.runner.lost = "an illegal address"
    assert asyncio.run(server.on_tick(1)) is True
