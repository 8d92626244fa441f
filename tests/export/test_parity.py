"""The comparison of exported graphs with torch finds what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_rt import Bundle
from emo_rt.errors import ExportError
from emo_rt.export import parity
from emo_rt.export.graph_modules import GraphModule, graph_modules
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.parity import BOUNDS, PIXEL_BOUND, ParityRow, check_graph, compare, format_table
from tests.make_bundles import bundle_model

NAN, INF = float("nan"), float("inf")


def module(bundle: Bundle, graph: str) -> GraphModule:
    """A graph of the tiny bundle as torch has it."""
    return module_of(bundle_model(bundle.config), graph)


def module_of(model: EmoModel, graph: str) -> GraphModule:
    return next(module for module in graph_modules(model) if module.spec.name == graph)


def test_relative_error_and_maximum() -> None:
    row = compare("g", "t", np.array([3.0, 4.5]), np.array([3.0, 4.0]), bound=0.2)
    assert (row.relative, row.maximum, row.bound) == (pytest.approx(0.1), 0.5, 0.2)


def test_equal_zeros_do_not_differ() -> None:
    assert compare("g", "t", np.zeros(3), np.zeros(3), 1e-4).relative == 0


def test_unsigned_bytes_do_not_wrap() -> None:
    row = compare("g", "t", np.array([0], np.uint8), np.array([255], np.uint8), 1e-4)
    assert (row.relative, row.maximum) == (1, 255)


@pytest.mark.parametrize(("ours", "theirs"), [(NAN, 1), (1, NAN), (NAN, NAN), (INF, 1), (1, INF), (INF, INF)])
def test_what_is_not_finite_is_infinitely_far(ours: float, theirs: float) -> None:
    assert compare("g", "t", np.array([1.0, ours]), np.array([1.0, theirs]), 1e-4).relative == INF


def test_graph_of_the_same_weights_passes(tiny_bundle: Bundle) -> None:
    rows = check_graph(module(tiny_bundle, "clip"), tiny_bundle.graph_path("clip"))
    kinds = ["audio_tokens", "audio_key", "audio_value", "motion", "speed_key", "speed_value"]
    assert [row.tensor.split(".")[0] for row in rows] == kinds
    assert all(row.relative < row.bound for row in rows)


def test_graph_of_other_weights_fails_with_the_table(tiny_bundle: Bundle) -> None:
    with pytest.raises(ExportError) as caught:
        check_graph(module_of(build_model(tiny_bundle.config), "timestep"), tiny_bundle.graph_path("timestep"))
    heading, columns, row = str(caught.value).splitlines()
    assert heading == "graph timestep differs from torch:"
    assert columns.split() == ["graph", "output", "relative", "maximum", "bound"]
    assert row.split()[:2] == ["timestep", "time_embedding"]


def test_bound_decides(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parity.BOUNDS, "float32", 1e-12)
    with pytest.raises(ExportError, match="reference_key"):
        check_graph(module(tiny_bundle, "reference"), tiny_bundle.graph_path("reference"))


def test_nan_in_one_tensor_of_many_fails(tiny_bundle: Bundle) -> None:
    """The first of its kind is fine, so the worst row must become the one with the NaN."""
    clip = module(tiny_bundle, "clip")
    last = clip.model.temporal(clip.model.sites[-1])
    torch.nn.init.constant_(last.proj_in.weight, NAN)
    with pytest.raises(ExportError, match=r"motion\.up_1_1"):
        check_graph(clip, tiny_bundle.graph_path("clip"))


@pytest.mark.parametrize("fixture", ["tiny_bundle", "hallo_bundle"])
def test_every_row_of_a_bundle_is_far_within_its_bound(fixture: str, request: pytest.FixtureRequest) -> None:
    """A bound that holds by luck on one machine does not hold on the next."""
    bundle: Bundle = request.getfixturevalue(fixture)
    assert [row for row in bundle.parity if row["relative"] > row["bound"] / 3] == []


def test_bounds_are_those_of_the_issue() -> None:
    assert BOUNDS["float32"] == 1e-4
    assert BOUNDS["float16"] == 1e-2


def test_bytes_may_round_to_either_side(tiny_bundle: Bundle) -> None:
    (row,) = check_graph(module(tiny_bundle, "vae_decoder"), tiny_bundle.graph_path("vae_decoder"))
    assert row.bound == PIXEL_BOUND


def test_table_is_aligned() -> None:
    rows = [ParityRow("step", "prediction", 1.23e-6, 4e-5, 1e-4), ParityRow("clip", "motion.up_3_2", 1e-6, 2.0, 1e-4)]
    lines = format_table(rows).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert "1.2e-06" in lines[1]
