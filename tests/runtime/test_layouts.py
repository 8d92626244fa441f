"""A bundle that an earlier exporter wrote, with K/V split into heads, opens and gives the same frames.

Graphs of one bundle agree about their tensors; the runtime takes the shapes from the manifest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, helper, numpy_helper

from emo_rt import Animator
from emo_rt.model.bundle import GRAPHS_FOLDER, MANIFEST, write_manifest


def is_pair(name: str) -> bool:
    return "_key." in name or "_value." in name


def split_into_heads(folder: Path, heads: int) -> None:
    """(batch, tokens, channels) → (batch, heads, tokens, channels / heads) in all graphs of a bundle."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, spec in manifest["graphs"].items():
        path = folder / GRAPHS_FOLDER / f"{name}.onnx"
        model = onnx.load(path, load_external_data=False)
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            for row in (row for row in spec[side] if is_pair(row[0])):
                batch, tokens, channels = row[2]
                row[2] = [batch, heads, tokens, channels // heads]
                value = next(value for value in values if value.name == row[0])
                convert(model.graph, row[0], (batch, tokens, channels), heads, side == "inputs")
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(row[0], kind, row[2]))
        onnx.save(model, path)
    write_manifest(folder, {key: value for key, value in manifest.items() if key not in ("schema", "files")})


def convert(graph: GraphProto, name: str, flat: tuple[int, int, int], heads: int, is_input: bool) -> None:
    """Put the change of layout behind an input or in front of an output."""
    batch, tokens, channels = flat
    inner, between = f"{name}/flat", f"{name}/between"
    sizes = flat if is_input else (batch, tokens, heads, channels // heads)
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), f"{name}/sizes"))
    for node in graph.node:
        names = node.input if is_input else node.output
        names[:] = [inner if one == name else one for one in names]
        if not is_input:
            node.input[:] = [inner if one == name else one for one in node.input]
    order = [0, 2, 1, 3]
    if is_input:
        moved = helper.make_node("Transpose", [name], [between], perm=order)
        graph.node.insert(0, helper.make_node("Reshape", [between, f"{name}/sizes"], [inner]))
        graph.node.insert(0, moved)
    else:
        graph.node.append(helper.make_node("Reshape", [inner, f"{name}/sizes"], [between]))
        graph.node.append(helper.make_node("Transpose", [between], [name], perm=order))


def frames(animator: Animator, **options: Any) -> np.ndarray:
    picture = np.random.default_rng(4).integers(0, 255, (48, 48, 3), np.uint8)
    sound = 0.1 * np.random.default_rng(5).standard_normal(16_000 // 5, np.float32)
    avatar = animator.prepare(picture, face_box="full")
    return animator.animate(avatar, sound, sample_rate=16_000, steps=2, **options).numpy()


def test_a_bundle_with_split_heads_opens_and_gives_the_same_frames(bundle_copy: Path, tiny_animator: Animator) -> None:
    split_into_heads(bundle_copy, tiny_animator.config.unet.attention_heads)
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(np.zeros((48, 48, 3), np.uint8), face_box="full")
        assert len(avatar.features["reference_key.mid"].shape) == 4
        np.testing.assert_array_equal(frames(animator), frames(tiny_animator))
