"""How attention stands in the graphs: one node on three dimensions, and no transpose around it."""

from __future__ import annotations

import onnx
import pytest

from emo_rt import Bundle
from emo_rt.model.config import ModelConfig


@pytest.fixture(params=["tiny_bundle", "hallo_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    made: Bundle = request.getfixturevalue(request.param)
    return made


def heads_of(config: ModelConfig) -> set[int]:
    return {config.unet.attention_heads, config.temporal.heads, config.audio.encoder.num_attention_heads}


def test_attention_takes_three_dimensions_and_no_transpose_stands_around_it(bundle: Bundle) -> None:
    found = 0
    for name in bundle.graphs:
        graph = onnx.load(bundle.graph_path(name), load_external_data=False).graph
        made_by = {output: node.op_type for node in graph.node for output in node.output}
        for node in (node for node in graph.node if node.op_type == "Attention"):
            heads = {entry.name: entry.i for entry in node.attribute if entry.name.endswith("_num_heads")}
            assert heads["q_num_heads"] == heads["kv_num_heads"]
            assert heads["q_num_heads"] in heads_of(bundle.config)
            assert "Transpose" not in {made_by.get(source) for source in node.input}
            users = {user.op_type for user in graph.node if node.output[0] in user.input}
            assert "Transpose" not in users
            found += 1
    assert found > 20


def test_keys_and_values_go_from_graph_to_graph_as_attention_takes_them(bundle: Bundle) -> None:
    graph = onnx.load(bundle.graph_path("step"), load_external_data=False).graph
    direct = {source for node in graph.node if node.op_type == "Attention" for source in node.input[1:3]}
    pairs = {t.name: t.shape for t in bundle.graphs["step"].inputs if "_key." in t.name or "_value." in t.name}
    assert {len(shape) for shape in pairs.values()} == {3}
    joined = {name for name in pairs if name.startswith("reference_") and bundle.config.reference.mode == "concat"}
    assert set(pairs) - joined <= direct  # Hallo's reference tokens first join those of the frame
