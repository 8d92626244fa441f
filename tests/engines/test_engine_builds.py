"""Engines built for real with ``tensorrt_rtx``, on a CPU, for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from emo_rt import Bundle, EngineBuildError
from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.device.tensorrt.package import load_package
from emo_rt.device.tensorrt.plan import find_plan
from emo_rt.engines.builder import Built, build_engines
from emo_rt.engines.network import parse
from emo_rt.engines.options import BuildRequest
from emo_rt.export.presets import preset
from tests.conftest import ExportTiny
from tests.small_bundles import wide

pytest.importorskip("tensorrt_rtx")

TARGETS = ("sm86", "sm89", "sm120")
ALL = ",".join(TARGETS)


def build(bundle: Bundle, target: str, cache: Path, **more: object) -> list[Built]:
    request = BuildRequest(package="tensorrt_rtx", target=target, cache=cache, **more)  # type: ignore[arg-type]
    return build_engines(bundle, request)


def check_all(bundle: Bundle, built: list[Built], target: str, graphs: Sequence[str] = ()) -> None:
    """Every graph, or some, is one engine whose tensors TensorRT itself says are those of the contract, and it is
    found."""
    assert [one.plan.record.key.graph for one in built] == list(graphs or bundle.graphs)
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


def attention(built: list[Built], graph: str) -> dict[str, Any]:
    """What became of the attention operators of a graph."""
    (record,) = (one.plan.record for one in built if one.plan.record.key.graph == graph)
    found: dict[str, Any] = record.report["attention"]
    return found


@pytest.fixture(scope="module")
def half_bundle(export_tiny: ExportTiny) -> Bundle:
    """fp16 arithmetic, and heads for which there are fused kernels."""
    return export_tiny(wide(), dtype="float16")


def test_a_plan_for_all_targets(half_bundle: Bundle, tmp_path: Path) -> None:
    """One graph with a dynamic axis, one with fused attention."""
    graphs = ("audio_encoder", "step")
    built = build(half_bundle, ALL, tmp_path, graphs=graphs)
    check_all(half_bundle, built, ALL, graphs)
    step = attention(built, "step")
    assert step["fused"] == step["in_graph"] > 10


def test_single_precision_has_no_fused_attention(tiny_bundle: Bundle, tmp_path: Path) -> None:
    built = build(tiny_bundle, "sm120", tmp_path, graphs=("reference",))
    found = attention(built, "reference")
    assert found["fused"] == 0
    assert len(found["not_fused"]) == found["in_graph"] > 2


def test_cached_step(cached_bundle: Bundle, tmp_path: Path) -> None:
    (built,) = build(cached_bundle, "sm89", tmp_path, graphs=("step_cached_unguided",))
    assert built.plan.record.report["engines"] == 1


def test_hallo_layout(hallo_bundle: Bundle, tmp_path: Path) -> None:
    """Both guidance halves of the motion features are one batch, because tensorrt_rtx 1.7.1 crashes where the
    ReferenceNet is in a graph twice with the same weights."""
    (built,) = build(hallo_bundle, "sm89", tmp_path, graphs=("clip",))
    assert built.plan.record.report["engines"] == 1


def test_what_every_node_of_a_kind_is_refused_for_is_told_once(half_bundle: Bundle, tmp_path: Path) -> None:
    """Also why exports leave ``softmax_precision`` out: the parser refuses it."""
    model = onnx.load(half_bundle.graph_path("reference"))
    attentions = [node for node in model.graph.node if node.op_type == "Attention"]
    assert len(attentions) > 2
    for node in attentions:
        node.attribute.append(onnx.helper.make_attribute("softmax_precision", 1))
    onnx.save(model, tmp_path / "refused.onnx")
    package = load_package("tensorrt_rtx")
    with pytest.raises(EngineBuildError, match="softmax precision") as caught:
        parse(package, package.module.Builder(package.logger), tmp_path / "refused.onnx")
    assert str(caught.value).count("softmax precision") == 1


@pytest.mark.slow
class TestWhole:
    """Whole models."""

    def test_in_half_precision(self, half_bundle: Bundle, tmp_path: Path) -> None:
        check_all(half_bundle, build(half_bundle, ALL, tmp_path), ALL)

    @pytest.mark.parametrize("target", [*TARGETS, ALL])
    def test_tiny(self, tiny_bundle: Bundle, tmp_path: Path, target: str) -> None:
        check_all(tiny_bundle, build(tiny_bundle, target, tmp_path), target)

    def test_hallo(self, hallo_bundle: Bundle, tmp_path: Path) -> None:
        check_all(hallo_bundle, build(hallo_bundle, "sm89", tmp_path), "sm89")

    def test_packaged_demo(self, tmp_path: Path) -> None:
        demo = Bundle.open("demo")
        built = build(demo, ALL, tmp_path)
        check_all(demo, built, ALL)
        assert attention(built, "step")["fused"] == 0
        assert attention(built, "step")["not_fused"]

    def test_demo_in_half_precision(self, export_tiny: ExportTiny, tmp_path: Path) -> None:
        demo = export_tiny(preset("demo"), dtype="float16", check=False)
        built = build(demo, ALL, tmp_path)
        check_all(demo, built, ALL)
        step = attention(built, "step")
        assert step["fused"] == step["in_graph"] > 10  # heads of 12 channels and more
