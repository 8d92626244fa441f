"""When an engine is built again, and what a build that fails leaves behind; built for real, on a CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.device.tensorrt.gpus import current_gpu
from emo_rt.engines.builder import Built, Hooks, build_engines
from emo_rt.engines.options import BuilderOptions, BuildRequest
from emo_rt.errors import BackendUnavailableError, EngineBuildError

pytest.importorskip("tensorrt_rtx")


def build(bundle: Bundle, cache: Path, options: BuilderOptions | None = None) -> list[Built]:
    request = BuildRequest("tensorrt_rtx", "sm89", ("timestep",), options or BuilderOptions(), cache)
    return build_engines(bundle, request)


def test_second_build_finds_everything(tiny_bundle: Bundle, tmp_path: Path) -> None:
    graphs = ("timestep", "vae_encoder")
    lines: list[str] = []
    request = BuildRequest("tensorrt_rtx", "sm89", graphs, cache=tmp_path)
    first = build_engines(tiny_bundle, request, Hooks(lines.append))
    second = build_engines(tiny_bundle, request, Hooks(lines.append))
    assert [one.is_new for one in (*first, *second)] == [True, True, False, False]
    assert [one.plan for one in first] == [one.plan for one in second]
    assert lines == [
        "timestep: building for sm89, because there is no engine yet",
        "vae_encoder: building for sm89, because there is no engine yet",
        "timestep: up to date",
        "vae_encoder: up to date",
    ]


def test_rebuilds_for_other_options_and_on_request(tiny_bundle: Bundle, tmp_path: Path) -> None:
    lines: list[str] = []
    graphs = ("timestep",)
    fast = BuilderOptions(optimization_level=0, workspace_mib=64)
    for options, force in ((BuilderOptions(), False), (fast, False), (fast, True)):
        request = BuildRequest("tensorrt_rtx", "sm89", graphs, options, tmp_path, force)
        (built,) = build_engines(tiny_bundle, request, Hooks(lines.append))
        assert built.is_new
        assert built.plan.record.key.options == options.to_key()
    assert '"optimization_level": 3' in lines[1]
    assert lines[2].endswith("because that was asked for")
    assert len(list(built.plan.folder.glob("*.plan"))) == len(list(built.plan.folder.glob("*.json"))) == 1


def test_rebuilds_a_damaged_plan(tiny_bundle: Bundle, tmp_path: Path) -> None:
    lines: list[str] = []
    request = BuildRequest("tensorrt_rtx", "sm89", ("timestep",), cache=tmp_path)
    (first,) = build_engines(tiny_bundle, request)
    first.plan.path.write_bytes(b"damaged")
    (second,) = build_engines(tiny_bundle, request, Hooks(lines.append))
    assert "it was changed or damaged" in lines[0]
    assert second.is_new
    assert second.plan.read()


def test_stripping_needs_a_gpu(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Refittable kernels are compiled on a GPU even for other GPUs: TensorRT's own words, not a guess."""
    with contextlib.suppress(BackendUnavailableError):
        pytest.skip(f"there is a GPU, {current_gpu().name}; what happens then is not known yet")
    with pytest.raises(EngineBuildError, match="CUDA_SUCCESS"):
        build(tiny_bundle, tmp_path, BuilderOptions(strip_weights=True))


def test_refused_graph_says_why_and_leaves_nothing(bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    bundle.graph_path("timestep").write_bytes(b"\x08\x0a")  # after the check: TensorRT sees an empty model
    with pytest.raises(EngineBuildError, match=r"cannot build .*timestep\.onnx: .* at least one output"):
        build(bundle, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".lock"]


def test_engine_of_another_contract(tiny_bundle: Bundle, bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    bundle.graph_path("timestep").write_bytes(tiny_bundle.graph_path("vae_encoder").read_bytes())
    with pytest.raises(EngineBuildError, match="no such tensor, expected input timestep float32"):
        build(bundle, tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.plan")) == []
