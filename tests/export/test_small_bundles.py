"""The archives of ``tests/bundles/`` are what the exporter of this checkout writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emo_rt import Bundle
from emo_rt.errors import BundleIntegrityError, ExportError
from emo_rt.export.graph_modules import GraphModule, graph_modules
from emo_rt.export.onnx_export import ExportOptions
from emo_rt.export.parity import check_graph
from tests.make_bundles import bundle_model
from tests.small_bundles import SMALL, STALE, archive, name_of, unpack


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def bundle(name: str, bundle_cache: Path) -> Bundle:
    """An unpacked bundle; opening it holds every file, computed weights too, against its hash."""
    return Bundle.open(unpack(name, bundle_cache))


def modules(name: str) -> list[GraphModule]:
    """The graphs of a small bundle as torch has them today."""
    options = ExportOptions(**SMALL[name].options)
    model = bundle_model(SMALL[name].config)
    if options.deep_cache is not None:
        model.config = replace(model.config, deep_cache=options.deep_cache)
    if options.half_storage:
        model = model.half().float()
    return graph_modules(model.half() if options.dtype == "float16" else model, options.guidance)


def test_graphs_are_those_of_the_contract_and_compute_what_torch_computes(name: str, bundle: Bundle) -> None:
    found = modules(name)
    assert bundle.config == found[0].model.config, STALE
    assert dict(bundle.graphs) == {module.spec.name: module.spec for module in found}, STALE
    try:
        for module in found:
            check_graph(module, bundle.graph_path(module.spec.name))
    except ExportError as exc:
        pytest.fail(f"{STALE}:\n{exc}")


def test_every_archive_has_an_entry_and_is_small() -> None:
    found = {path.name: path.stat().st_size for path in archive("tiny").parent.iterdir()}
    assert set(found) == {archive(name).name for name in SMALL}
    assert max(found.values()) < 200_000


def test_other_options_are_no_small_bundle() -> None:
    tiny = SMALL["tiny"]
    assert name_of(tiny.config, tiny.options) == "tiny"
    assert name_of(tiny.config, {}) is None
    assert name_of(SMALL["hallo"].config, tiny.options) is None


def test_a_changed_weight_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ones = lambda _name, shape, _mean, _scale: np.ones(shape, np.float32)  # noqa: E731
    monkeypatch.setattr("tests.small_bundles.values", ones)
    with pytest.raises(BundleIntegrityError, match="hash in the manifest"):
        Bundle.open(unpack("lean-fp16", tmp_path))
