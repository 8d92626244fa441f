"""Two sets of weights to step with in one bundle: graphs of their own, and all else shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from emo_rt import Bundle
from emo_rt.errors import ConfigError, ExportError
from emo_rt.export import onnx_export
from emo_rt.export.graph_modules import GraphModule, graph_modules
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.onnx_export import ExportOptions, VariantSource, export_bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import GraphSpec
from emo_rt.model.families.echomimic import offers
from tests.make_bundles import bundle_model
from tests.small_bundles import echomimic_tiny

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights() -> EmoModel:
    return bundle_model(echomimic_tiny())


def export_some(weights: EmoModel, target: Path, *roles: str) -> Bundle:
    """Graphs of these roles, of a bundle with two variants; the second has another Backbone. All take a minute."""

    def few(model: EmoModel, guidance: tuple[bool, ...]) -> list[GraphModule]:
        return [module for module in graph_modules(model, guidance) if module.spec.role in roles]

    def own(name: str, source: VariantSource, config: ModelConfig, dtype: str) -> list[GraphSpec]:
        return [spec for spec in specs_of(name, source, config, dtype) if spec.role in roles]

    specs_of = onnx_export._specs_of
    options = ExportOptions(offers=offers(is_accelerated=False, has_both=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "graph_modules", few)
        patch.setattr(onnx_export, "_specs_of", own)
        variants = {"accelerated": VariantSource(lambda: _changed(bundle_model(echomimic_tiny())))}
        return export_bundle(weights, target, options, variants=variants)


@pytest.fixture(scope="module")
def both(weights: EmoModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_some(weights, tmp_path_factory.mktemp("both") / "bundle", "timestep")


def _changed(model: EmoModel) -> EmoModel:
    with torch.no_grad():
        for tensor in model.backbone.parameters():
            tensor.mul_(1.25)
    return model


def _tensors(bundle: Bundle, graph: str) -> set[tuple[str, int]]:
    """Place of each large weight: file and offset."""
    model = onnx.load(bundle.graph_path(graph), load_external_data=False)
    found = set()
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            found.add((entries["location"], int(entries.get("offset", 0))))
    return found


def test_a_variant_has_the_graphs_that_step_and_no_others(both: Bundle) -> None:
    named = {name: (graph.role, graph.variant) for name, graph in both.graphs.items()}
    assert named == {
        "timestep": ("timestep", None),
        "timestep_accelerated": ("timestep", "accelerated"),
    }
    assert both.find("timestep", "accelerated") == "timestep_accelerated"
    assert {row["graph"] for row in both.parity} == {"timestep", "timestep_accelerated"}
    assert not _tensors(both, "timestep") & _tensors(both, "timestep_accelerated")


@pytest.mark.slow
def test_the_second_reference_shares_all_that_is_not_projected(tmp_path: Path) -> None:
    """ReferenceNet and face locator are there once; only the Backbone's projections of K and V differ. A graph without
    weights is there once."""
    both = export_some(bundle_model(echomimic_tiny()), tmp_path / "bundle", "reference", "update")
    assert both.find("update", "accelerated") == "update"
    own, other = _tensors(both, "reference"), _tensors(both, "reference_accelerated")
    assert len(own) == len(other)
    sites = sum(name.startswith("reference_key") for name in (t.name for t in both.graphs["reference"].outputs))
    assert 0 < len(other - own) <= 2 * sites < len(own & other)


def test_the_first_model_does_not_stay_in_memory(both: Bundle, weights: EmoModel) -> None:
    assert both.path.is_dir()
    assert {parameter.device.type for parameter in weights.parameters()} == {"meta"}


def test_weights_of_another_size_are_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(model: EmoModel, guidance: tuple[bool, ...]) -> list[GraphModule]:
        return []

    monkeypatch.setattr(onnx_export, "graph_modules", nothing)
    model, other = bundle_model(echomimic_tiny()), bundle_model(echomimic_tiny())
    object.__setattr__(other.config, "fps", 25)
    with pytest.raises(ExportError, match="variant accelerated are not of the same sizes"):
        export_bundle(model, tmp_path / "bundle", variants={"accelerated": VariantSource(lambda: other)})
    assert not any(tmp_path.iterdir())


def test_nodes_to_keep_in_fp32_may_be_of_a_variants_graphs(weights: EmoModel, tmp_path: Path) -> None:
    model = bundle_model(echomimic_tiny())
    options = ExportOptions("float16", keep_fp32={"reference_accelerated": ("x",), "nothing": ("y",)})
    with pytest.raises(ConfigError, match="nothing") as caught:
        export_bundle(model, tmp_path / "bundle", options, variants={"accelerated": VariantSource(lambda: weights)})
    assert "reference_accelerated has" not in str(caught.value)
    assert np.array_equal(list(tmp_path.iterdir()), [])
