"""The exporter of this checkout writes the graphs and weights that the archives of ``tests/bundles/`` have."""

from __future__ import annotations

from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.export import onnx_export
from emo_rt.export.graph_modules import graph_modules
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from tests.make_bundles import bundle_model, export
from tests.small_bundles import SMALL, STALE, unpack


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def bundle(name: str, bundle_cache: Path) -> Bundle:
    """An unpacked bundle; opening it holds every file, computed weights too, against its hash."""
    return Bundle.open(unpack(name, bundle_cache))


def test_one_graph_exported_anew_is_the_same(
    bundle_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick part of the next test: how graphs and weights are written."""
    committed = Bundle.open(unpack("lean-half", bundle_cache))
    monkeypatch.setattr(onnx_export, "graph_modules", lambda *options: graph_modules(*options)[1:2])
    small = SMALL["lean-half"]
    fresh = export_bundle(bundle_model(small.config), tmp_path / "bundle", ExportOptions(**small.options))
    assert list(fresh.graphs) == ["audio_encoder"]  # it has a dynamic axis
    assert_same_files(fresh, committed)


@pytest.mark.slow
def test_every_graph_exported_anew_is_the_same(name: str, bundle: Bundle, tmp_path: Path) -> None:
    fresh = export(name, tmp_path / "bundle")
    assert set(fresh.files) == set(bundle.files), STALE
    assert_same_files(fresh, bundle)


def assert_same_files(fresh: Bundle, committed: Bundle) -> None:
    ours, theirs = fresh.provenance["versions"], committed.provenance["versions"]
    others = {key: ours[key] for key in ("torch", "onnx_ir", "onnxscript") if ours[key] != theirs[key]}
    if others:
        pytest.skip(f"the small bundles were made with other versions than {others}; graphs may differ")
    assert [file for file in fresh.files if fresh.files[file] != committed.files[file]] == [], STALE
