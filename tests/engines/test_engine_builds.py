"""Engines built for real with ``tensorrt_rtx``, on a CPU, for GPUs that are not here."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.device.tensorrt.gpus import Gpu, current_gpu
from emo_rt.device.tensorrt.package import load_package
from emo_rt.device.tensorrt.plan import find_plan
from emo_rt.engines.builder import Built, Hooks, build_engines
from emo_rt.engines.options import BuilderOptions, BuildRequest
from emo_rt.errors import BackendUnavailableError, EngineBuildError
from emo_rt.export.presets import preset
from tests.conftest import ExportTiny

pytest.importorskip("tensorrt_rtx")

TARGETS = ("sm86", "sm89", "sm120")
ALL = ",".join(TARGETS)


def build(bundle: Bundle, target: str, cache: Path, **more: object) -> list[Built]:
    request = BuildRequest(package="tensorrt_rtx", target=target, cache=cache, **more)  # type: ignore[arg-type]
    return build_engines(bundle, request)


def check_all(bundle: Bundle, built: list[Built], target: str) -> None:
    """Every graph is one engine whose tensors TensorRT itself says are those of the contract, and it is found."""
    assert [one.plan.record.key.graph for one in built] == list(bundle.graphs)
    package = load_package("tensorrt_rtx")
    for one in built:
        record = one.plan.record
        assert record.report["engines"] == 1
        assert record.report["interface_checked_on"] in ("build log", "engine")  # the engine where a GPU loads it
        assert record.report["layers"] > 0
        assert record.key.precision == bundle.dtype
        assert record.size_bytes == one.plan.path.stat().st_size
        for capability in target.split(","):
            cache = one.plan.folder.parent
            found = find_plan(bundle, record.key.graph, package, Gpu("a card", capability), cache)
            assert found == one.plan
        assert len(one.plan.read()) == record.size_bytes


@pytest.fixture(scope="module")
def bundles(export_tiny: ExportTiny, tiny_bundle: Bundle) -> dict[tuple[str, str], Bundle]:
    return {
        ("tiny", "float16"): export_tiny(preset("tiny"), dtype="float16", check=False),
        ("tiny", "float32"): tiny_bundle,
        ("demo", "float16"): export_tiny(preset("demo"), dtype="float16", check=False),
        ("demo", "float32"): export_tiny(preset("demo"), check=False),
    }


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_tiny_graph_for_all_targets_in_one_plan(
    bundles: dict[tuple[str, str], Bundle], tmp_path: Path, dtype: str
) -> None:
    bundle = bundles["tiny", dtype]
    check_all(bundle, build(bundle, ALL, tmp_path), ALL)


@pytest.mark.parametrize("target", TARGETS)
def test_step_for_one_target(bundles: dict[tuple[str, str], Bundle], tmp_path: Path, target: str) -> None:
    [built] = build(bundles["tiny", "float16"], target, tmp_path, graphs=("step",))
    assert built.plan.record.report["engines"] == 1
    assert built.plan.record.report["attention"]["in_graph"] > 5


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_demo_graph_for_all_targets_in_one_plan(
    bundles: dict[tuple[str, str], Bundle], tmp_path: Path, dtype: str
) -> None:
    bundle = bundles["demo", dtype]
    built = build(bundle, ALL, tmp_path)
    check_all(bundle, built, ALL)
    attention = {one.plan.record.key.graph: one.plan.record.report["attention"] for one in built}
    if dtype == "float16":  # heads of 12 and more have fused kernels in half precision
        assert attention["step"]["fused"] == attention["step"]["in_graph"] > 10
    else:
        assert attention["step"]["fused"] == 0
        assert attention["step"]["not_fused"]


def test_cached_steps(cached_bundle: Bundle, tmp_path: Path) -> None:
    built = build(cached_bundle, "sm89", tmp_path, graphs=("step_cached", "step_cached_unguided"))
    assert [one.plan.record.report["engines"] for one in built] == [1, 1]


def test_hallo_layout(hallo_bundle: Bundle, tmp_path: Path) -> None:
    """With ``clip``: both guidance halves of its motion features are one batch, because tensorrt_rtx 1.7.1 crashes
    where the ReferenceNet is in a graph twice with the same weights."""
    check_all(hallo_bundle, build(hallo_bundle, "sm89", tmp_path), "sm89")


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
        build(tiny_bundle, "sm89", tmp_path, graphs=("timestep",), options=BuilderOptions(strip_weights=True))


def test_refused_graph_says_why_and_leaves_nothing(bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    bundle.graph_path("timestep").write_bytes(b"\x08\x0a")  # after the check: TensorRT sees an empty model
    with pytest.raises(EngineBuildError, match=r"cannot build .*timestep\.onnx: .* at least one output"):
        build(bundle, "sm89", tmp_path / "cache", graphs=("timestep",))
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".lock"]


def test_engine_of_another_contract(tiny_bundle: Bundle, bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy)
    bundle.graph_path("timestep").write_bytes(tiny_bundle.graph_path("vae_encoder").read_bytes())
    with pytest.raises(EngineBuildError, match="no such tensor, expected input timestep float32"):
        build(bundle, "sm89", tmp_path / "cache", graphs=("timestep",))
    assert list((tmp_path / "cache").rglob("*.plan")) == []
