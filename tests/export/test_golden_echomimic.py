"""`python -m emo_rt.export.parity` on folders of EchoMimic's layout: our own, and the original's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.export import golden_echomimic
from emo_rt.export.golden import FAILED, PASSED, check_golden, format_rows, main
from tests.conftest import shared_file
from tests.export.golden_folders import copy_golden, keep_runs, make_golden


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    return copy_golden(golden, tmp_path)


def test_torch_passes_every_row(golden: Path) -> None:
    rows = check_golden(golden)
    assert all(row.passed for row in rows), format_rows(rows)
    names = {row.what for row in rows}
    assert {"log-mel", "long chunks", "any step 1 window 2 unconditional", "any frames"} <= names
    assert "other step 0 conditional" in names
    assert "other step 0 unconditional" not in names
    assert "led step 0 unconditional" in names  # accelerated weights may be guided
    assert len(rows) > 50


def test_the_exported_bundle_passes_in_the_runtimes_own_worker(
    folder: Path, echomimic_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle that the tests share has the base weights, so only their run."""
    monkeypatch.setattr(golden_echomimic, "export_bundle", lambda model, target, options, variants: echomimic_bundle)
    keep_runs(folder, "any")
    rows = check_golden(folder, "onnxruntime")
    assert all(row.passed for row in rows), format_rows(rows)
    assert any(row.what == "any frames" for row in rows)


def test_the_weights_of_a_run_are_those_that_it_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_runs(folder, "other")
    assert main([str(folder)]) == PASSED
    stated = json.loads((folder / "config.json").read_text())
    stated["runs"]["other"]["weights"] = "base"
    (folder / "config.json").write_text(json.dumps(stated))
    assert main([str(folder)]) == FAILED
    assert re.search(r"other step 0 window 0 conditional .*FAILED", capsys.readouterr().out)


def test_half_precision_keeps_its_bounds(folder: Path) -> None:
    """Weights, activations and sound's states in fp16, 11 bits, on torch; latents, sums and solver stay fp32.

    The bounds are those of ``BOUNDS["fp16"]``: 5e-2 for predictions and latents, 2e-2 and 16/255 for frames. fp32's are
    passed by none of the predictions, so that it is fp16 that was run.
    """
    keep_runs(folder, "any")
    rows = check_golden(folder, dtype="fp16")
    assert all(row.passed for row in rows), format_rows(rows)
    predictions = [row for row in rows if "conditional" in row.what and row.relative > 0]
    assert min(row.relative for row in predictions) > 1e-4
    assert max(row.relative for row in rows) < 1e-2  # measured: 4.3e-3


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_numbers_of_the_original(backend: str) -> None:
    rows = check_golden(shared_file("golden/echomimic_small"), backend)
    assert all(row.passed for row in rows), format_rows(rows)
    assert max(row.relative for row in rows if "frames" not in row.what) < 1e-4


@pytest.mark.slow
def test_numbers_of_the_original_in_half_precision() -> None:
    """Within ``BOUNDS["fp16"]``: 11 bits, and guidance weighs each half's error with up to 2.5. Torch's arithmetic in
    fp16 on a CPU is slow, so the exported graphs are not run in it, too."""
    rows = check_golden(shared_file("golden/echomimic_small"), "torch", "fp16")
    assert all(row.passed for row in rows), format_rows(rows)
    assert any(row.relative > 1e-3 for row in rows)
