"""The GPU benchmark's rehearsal: the same script on the CPU, with the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.benchmarks import bench_gpu
from emo_rt.benchmarks.harness import read_result


@pytest.fixture(scope="module")
def result(cached_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "gpu.json"
    few = ["--steps", "2", "--rounds", "1", "--clips", "2", "--bundle", str(cached_bundle.path)]
    ways = ["--only", "eager,split,parity,onnxruntime,tensorrt"]
    assert bench_gpu.main(["--json", str(out), "--config", "tiny", "--device", "cpu", *few, *ways]) == 0
    return read_result(out, "gpu")


@pytest.mark.parametrize("way", ["eager", "split", "onnxruntime"])
def test_each_way_has_its_figures(result: dict[str, Any], way: str) -> None:
    figures = result["ways"][way]
    assert "error" not in figures
    for key in ("ms_per_step", "ms_per_step_p90", "s_per_clip", "decode_s", "encode_s", "first_clip_s", "tflops"):
        assert figures[key] > 0, key
    assert figures["times_eager"] > 0


def test_a_way_that_fails_leaves_its_error_and_the_others_go_on(result: dict[str, Any]) -> None:
    assert "does not run on device 'cpu'" in result["ways"]["tensorrt"]["error"]
    assert set(result["ways"]) == {"eager", "split", "onnxruntime", "tensorrt"}


def test_our_runtime_is_measured_in_all_its_forms(result: dict[str, Any]) -> None:
    ours = result["ways"]["onnxruntime"]
    assert set(ours["fewer"]) == {"20", "10", "8", "6"}
    assert all(row["fps"] > 0 for row in ours["fewer"].values())
    assert ours["no_guidance"]["fps"] > 0
    assert ours["guidance_interval"]["fps"] > 0
    assert set(ours["deep_cache"]) == {"2", "3"}
    assert "one launch per step" in ours["loop"]
    assert ours["without_capture"]["ms_per_step"] > 0
    assert ours["first_frame_s"] > 0
    assert len(ours["trace"]["traceEvents"]) > 6


def test_half_precision_stays_near(result: dict[str, Any]) -> None:
    assert result["parity"]["frames_psnr_db"] > 30


def test_the_table_shows_errors_too() -> None:
    figures = bench_gpu.RatedTorch(
        ms_per_step=2,
        ms_per_step_p90=3,
        s_per_clip=4,
        decode_s=1,
        encode_s=1,
        first_clip_s=9,
        peak_bytes=None,
        tflops=7,
        times_eager=1,
    )
    text = bench_gpu.table({"eager": figures, "tensorrt": bench_gpu.Failure("BackendUnavailableError: no", "a.py:1")})
    assert "| eager | 2 | 3 | 4 | 7 | – | 1 |" in text
    assert "| tensorrt | BackendUnavailableError: no | | | | | |" in text


def test_without_a_gpu_the_full_run_says_how_to_rehearse(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="rehearses the script"):
        bench_gpu.main(["--json", str(tmp_path / "out.json")])


@pytest.mark.parametrize("wrong", [["--only", "magic"], ["--steps", "0"]])
def test_wrong_options_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench_gpu.main(["--json", str(tmp_path / "out.json"), *wrong])


def test_a_result_file_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_gpu.main(["--config", "tiny", "--device", "cpu"])
    assert "written anew after each way" in capsys.readouterr().err
