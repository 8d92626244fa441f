"""`emo-rt bench --mode`: the preset's own way to step is what is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emo_rt import ConfigError
from emo_rt.benchmarks.against_torch import against_torch
from emo_rt.benchmarks.subject import Setting, Subject
from emo_rt.cli import main

QUIET = ["--only", "latency", "--rounds", "1", "--backend", "onnxruntime", "--threads", "1", "-q"]


def result_of(folder: Path, *arguments: str) -> dict[str, dict[str, object]]:
    path = folder / "result.json"
    assert main(["bench", *QUIET, *arguments, "--json", str(path)]) == 0
    found: dict[str, dict[str, object]] = json.loads(path.read_text())
    return found


def test_a_mode_brings_its_solver_steps_and_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "student").mkdir()
    student = result_of(tmp_path / "student", "--mode", "realtime")
    assert "seconds of work per second of video" in capsys.readouterr().out
    teacher = result_of(tmp_path, "--mode", "fast", "--steps", "1", "--guidance", "1")
    plain = result_of(tmp_path, "--steps", "1")
    assert (student["setting"]["mode"], student["setting"]["steps"]) == ("realtime", 1)
    assert (teacher["setting"]["solver"], teacher["setting"]["steps"]) == ("unipc", 1)
    assert (plain["setting"]["mode"], plain["setting"]["solver"], plain["setting"]["steps"]) == (None, "ddim", 1)
    assert student["model"]["step_graph_sha256"] != plain["model"]["step_graph_sha256"]


def test_torch_has_the_weights_of_the_base_alone() -> None:
    with (
        Subject(Setting(mode="realtime", backend="onnxruntime", threads=1)) as subject,
        pytest.raises(ConfigError, match=r"mode is 'realtime'; expected one that steps with the weights 'base'"),
    ):
        against_torch(subject, 1, 1)


def test_a_mode_that_the_model_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *QUIET, "--mode", "hasty"]) != 0
    assert "hasty" in capsys.readouterr().err
