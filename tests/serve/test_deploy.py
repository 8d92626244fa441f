"""``deploy/`` and ``docs/serving.md``: every command that they show is one that we have."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emo_rt.cli import make_parser
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
    from emo_rt.serve.app import make_app

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


def test_a_lost_device_ends_the_server_where_that_is_wanted(make_service: MakeService) -> None:
    service = make_service()
    server = Server(_config(lambda *_: None), service)  # type: ignore[arg-type]
    object.__setattr__(service.options, "exit_when_lost", True)
    assert asyncio.run(server.on_tick(1)) is False
    service.runner.lost = "an illegal address"
    assert asyncio.run(server.on_tick(1)) is True
