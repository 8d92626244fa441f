"""The benchmark of single graphs, rehearsed on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.benchmarks import gpu_graph
from emo_rt.benchmarks.harness import read_result


def test_another_file_of_a_graph_is_held_against_the_bundles_own(
    cached_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = cached_bundle.graph_path("step")
    out = tmp_path / "graph.json"
    few = ["--device", "cpu", "--rounds", "1", "--set", "use_tf32=0", "--json", str(out)]
    assert gpu_graph.main([str(cached_bundle.path), "--onnx", str(own), *few]) == 0
    result = read_result(out, "gpu_graph")
    (way,) = result["files"].values()
    assert way["median_s"] > 0
    assert way["relative_error"] == 0
    assert result["options"]["use_tf32"] == "0"
    assert "| `step` |" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--set", "use_tf32"]])
def test_wrong_options_are_refused(cached_bundle: Bundle, wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_graph.main([str(cached_bundle.path), "--device", "cpu", *wrong])


def test_a_graph_with_a_dynamic_axis_is_refused(cached_bundle: Bundle) -> None:
    with pytest.raises(SystemExit, match="dynamic axis"):
        gpu_graph.main([str(cached_bundle.path), "--device", "cpu", "--graph", "audio_encoder"])
