"""The benchmark of engine builds, with one small graph."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.benchmarks import build_engines

pytest.importorskip("tensorrt_rtx")


def test_a_row_per_graph_and_json_at_the_end(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_bundle.path)
    words = ["--preset", "tiny", "--package", "tensorrt_rtx", "--graphs", "timestep", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["build_engines", *words])
    build_engines.main()
    *table, line = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert (result["benchmark"], result["preset"], result["export_seconds"]) == ("build_engines", "tiny", None)
    (row,) = result["graphs"]
    assert (row["graph"], row["report"]["engines"]) == ("timestep", 1)
    assert row["plan_bytes"] > 0
    assert table[2].startswith("| `timestep` |")
    assert table[3].startswith("| all |")
