"""`python -m emo_rt.export.parity` on falsified folders of EchoMimic's layout: each wrong number is found and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emo_rt.export.golden import FAILED, UNUSABLE, main
from tests.export.golden_folders import RUNS, copy_golden, falsify, keep_runs, make_golden


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    return copy_golden(golden, tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"cfg": 1.8}, {"steps": 1}, {"context_overlap": 2}, {"context_frames": 5}],
    ids=lambda one: next(iter(one)),
)
def test_a_runs_settings_come_from_the_folder(
    folder: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another number there is another video: it fails, or there are tensors that it does not compare."""
    keep_runs(folder, "any")
    stated = json.loads((folder / "config.json").read_text())
    stated["runs"]["any"].update(change)
    (folder / "config.json").write_text(json.dumps(stated))
    assert main([str(folder)]) in (FAILED, UNUSABLE)
    told = capsys.readouterr()
    assert "FAILED" in told.out or "not compared" in told.err or "does not fit" in told.err


FALSIFIED = {
    "any.step1.window2.pred": "any step 1 window 2 unconditional",
    "any.step1.pred": "any step 1 unconditional",
    "any.frames": "any frames",
    "other.latents": "other latents",
    "audio.mel": "log-mel",
    "long.hidden": "long hidden",
    "reference.mid_block.attentions.0": "other reference_key.mid",
    "face.feature": "any face feature",
    "scheduler.alphas_cumprod": "alphas_cumprod",
}
"""Tensors, and a row that each makes fail."""


def test_falsified_numbers_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_runs(folder, "any", "other")
    falsify(folder, lambda vectors: [vectors[name].view(-1)[3:9].add_(0.1) for name in FALSIFIED])
    assert main([str(folder)]) == FAILED
    lines = capsys.readouterr().out.splitlines()
    for what in FALSIFIED.values():
        (row,) = (line for line in lines if line.startswith(f"{what} "))
        assert row.endswith("FAILED")
    assert any(line.startswith("any step 1 window 1 ") and not line.endswith("FAILED") for line in lines)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(new=torch.zeros(1)), "not known, so not compared: new"),
        (lambda v: v.pop("any.step0.window1.pred"), "missing: any.step0.window1.pred"),
        (lambda v: v.update({"audio.hidden": torch.zeros(1, 2, 16)}), r"audio.hidden is \[1, 2, 16\]"),
        (lambda v: v["in.mask"].fill_(float("nan")), "NaN or infinite: in.mask"),
        (lambda v: v.pop("in.wave"), "no in.wave"),
    ],
    ids=["unknown", "missing", "shape", "NaN", "no sound"],
)
def test_vectors_that_do_not_fit_are_named(
    folder: Path, edit: Callable[[Any], Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    falsify(folder, edit)
    assert main([str(folder)]) == UNUSABLE
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "has no runs"),
        ({"runs": {"a": {"weights": "best"}}}, "has no weights"),
        ({"runs": {"a": {**RUNS["any"], "context_frames": 6, "context_overlap": 6, "frames": 7}}}, "context_overlap 6"),
        ({"runs": {"a": {**RUNS["any"], "context_frames": 6, "context_overlap": 3, "frames": 5}}}, "make 7"),
        ({"context_stride": 2}, "context_stride is 2"),
        ({"tokens_per_frame": 21}, "tokens_per_frame 21"),
    ],
    ids=["no runs", "weights", "overlap", "frames", "stride", "widths"],
)
def test_settings_that_do_not_fit_are_named(
    folder: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **change}))
    assert main([str(folder)]) == UNUSABLE
    assert message in capsys.readouterr().err


def test_a_falsified_setting_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_runs(folder, "any")
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, "window_shift_per_step": 1}))
    assert main([str(folder)]) == FAILED
    capsys.readouterr()
