"""Graphs as ONNX Runtime's CUDA provider gets them compute what the bundle's graphs compute.

Its own operators run on that provider alone. Here they are written out in numpy by their documentation
(``docs/ContribOperators.md`` of ONNX Runtime), and the reference evaluator of ``onnx`` computes the rest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from emo_rt import Bundle
from emo_rt.device import cuda_form as form_module
from emo_rt.device.cuda_form import WEIGHTS_FOLDER, CudaForm, cuda_form
from emo_rt.device.cuda_form.passes import rewritten
from emo_rt.model.contract import Array
from tests import small_bundles

BOUND = 1e-5
"""Largest relative error in float32: sums in another order."""


class GroupNorm(OpRun):  # type: ignore[misc]
    """(N, H, W, C), groups of neighbouring channels; activation 1 is SiLU."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, gamma: Array, beta: Array, activation: int, channels_last: int, epsilon: float, groups: int
    ) -> tuple[Array]:
        assert channels_last == 1
        assert gamma.dtype == beta.dtype == np.float32
        parts = x.astype(np.float64).reshape(x.shape[0], -1, groups, x.shape[3] // groups)
        mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
        y = ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * gamma + beta
        return ((y / (1 + np.exp(-y)) if activation else y).astype(x.dtype),)


class SkipGroupNorm(OpRun):  # type: ignore[misc]
    """The same of the sum of maps, other maps or one row per picture, and a bias; the sum is a second result."""

    op_domain = "com.microsoft"

    def _run(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        skip: Array,
        bias: Array | None = None,
        activation: int = 0,
        channels_last: int = 1,
        epsilon: float = 1e-5,
        groups: int = 1,
    ) -> tuple[Array, ...]:
        assert skip.shape in (x.shape, (x.shape[0], x.shape[3]))
        total = x + (skip if skip.ndim == 4 else skip[:, None, None])
        total = (total if bias is None else total + bias).astype(x.dtype)
        (y,) = GroupNorm._run(self, total, gamma, beta, activation, channels_last, epsilon, groups)
        return (y, total) if len(self.onnx_node.output) > 1 else (y,)


class SkipLayerNormalization(OpRun):  # type: ignore[misc]
    """The norm of a sum of two and a bias; the sum is a fourth result."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, skip: Array, gamma: Array, beta: Array, bias: Array | None = None, epsilon: float = 1e-5
    ) -> tuple[Array | None, ...]:
        assert x.ndim == 3
        assert skip.shape in (x.shape, (1, *x.shape[1:]))
        total = (x + skip if bias is None else x + skip + bias).astype(x.dtype)
        wide = total.astype(np.float64)
        y = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + epsilon)
        results = ((y * gamma + beta).astype(x.dtype), wide.mean(-1), wide.var(-1), total)
        return results[: len(self.onnx_node.output)]


class BiasSplitGelu(OpRun):  # type: ignore[misc]
    """Left half times the exact GELU of the right half, after the bias."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        left, right = np.split(x.astype(np.float64) + bias, 2, axis=2)
        error = np.vectorize(math.erf)(right / math.sqrt(2))
        return ((left * right * 0.5 * (1 + error)).astype(x.dtype),)


class BiasAdd(OpRun):  # type: ignore[misc]
    """Product, bias and residual in one."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, bias: Array, skip: Array) -> tuple[Array]:
        assert x.shape == skip.shape
        return (x + bias + skip,)


def evaluate(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    for index, node in enumerate(model.graph.node):  # the evaluator takes "" for a value like others
        node.output[:] = [name or f"unread_{index}_{place}" for place, name in enumerate(node.output)]
    operators = [GroupNorm, SkipGroupNorm, SkipLayerNormalization, BiasSplitGelu, BiasAdd]
    return ReferenceEvaluator(model, new_ops=operators).run(None, inputs)


def parsed(form: CudaForm) -> onnx.ModelProto:
    assert isinstance(form.model, bytes)
    return onnx.load_from_string(form.model)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def relative(ours: Array, theirs: Array) -> float:
    return float(np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs.astype(np.float64)))


def made(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    constants: dict[str, Array],
    outputs: Sequence[str],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph with the shapes of all its values, as the exporter writes them."""
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    plain = helper.make_graph(
        nodes, "g", given, [helper.make_tensor_value_info(name, kind, None) for name in outputs], stored
    )
    model = helper.make_model(plain, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    zeros = {name: np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind)) for name, shape in inputs.items()}
    values = ReferenceEvaluator(model).run(None, zeros, intermediate=True)
    inner = {name: helper.make_tensor_value_info(name, kind, values[name].shape) for n in nodes for name in n.output}
    wanted = [inner.pop(name) for name in outputs]
    full = helper.make_graph(nodes, "g", given, wanted, stored, value_info=list(inner.values()))
    model.graph.CopyFrom(full)
    onnx.checker.check_model(model)
    return model


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def same(model: onnx.ModelProto, bound: float = BOUND) -> tuple[Counter[str], dict[str, int]]:
    """Hold the rewritten model against ONNX Runtime on the plain one; gives its operators, and those put in."""
    content, replaced = rewritten(model.SerializeToString())
    changed = onnx.load_from_string(content)
    types = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
    inputs = {
        value.name: noise(
            *[size.dim_value for size in value.type.tensor_type.shape.dim],
            seed=seed,
            dtype=types[value.type.tensor_type.elem_type],
        )
        for seed, value in enumerate(model.graph.input)
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(evaluate(changed, inputs), session.run(None, inputs), strict=True):
        assert ours.shape == theirs.shape
        assert relative(ours, theirs) < bound
    return operators(changed), replaced


def norm(source: str, target: str, groups: int) -> onnx.NodeProto:
    return helper.make_node("GroupNormalization", [source, "scale", "bias"], [target], num_groups=groups, epsilon=1e-6)


def silu(source: str, target: str) -> list[onnx.NodeProto]:
    sigmoid = helper.make_node("Sigmoid", [source], [f"{target}_sigmoid"])
    return [sigmoid, helper.make_node("Mul", [source, f"{target}_sigmoid"], [target])]


def weights(channels: int, dtype: Any = np.float32) -> dict[str, Array]:
    return {"scale": noise(channels, seed=5, dtype=dtype), "bias": noise(channels, seed=6, dtype=dtype)}


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (2, 8, 7)])
@pytest.mark.parametrize("active", [True, False])
def test_a_group_norm_is_one_operator_with_its_silu(shape: tuple[int, ...], active: bool) -> None:
    nodes = [norm("x", "n", 4), *(silu("n", "y") if active else [helper.make_node("Neg", ["n"], ["y"])])]
    found, replaced = same(made(nodes, {"x": shape}, weights(8), ["y"]))
    assert replaced == {"GroupNorm": 1}
    assert not {"GroupNormalization", "Sigmoid"} & found.keys()


def test_statistics_and_scale_are_in_single_precision_in_a_network_of_half() -> None:
    half = weights(8, np.float16)
    model = made([norm("x", "n", 4), *silu("n", "y")], {"x": (2, 8, 3, 5)}, half, ["y"], TensorProto.FLOAT16)
    found, _ = same(model, bound=2e-3)  # both round to 11 bits, the plain form three times
    assert found["Cast"] == 2


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (1028, 2)])
def test_groups_that_the_kernel_cannot_sum_are_normed_as_layers(channels: int, groups: int) -> None:
    model = made([norm("x", "n", groups), *silu("n", "y")], {"x": (2, channels, 2, 3)}, weights(channels), ["y"])
    found, replaced = same(model)
    assert replaced == {"LayerNormalization": 1}
    assert not {"GroupNormalization", "GroupNorm"} & found.keys()


def test_a_norm_that_others_read_keeps_its_silu_apart() -> None:
    nodes = [norm("x", "n", 4), *silu("n", "y"), helper.make_node("Neg", ["n"], ["z"])]
    found, _ = same(made(nodes, {"x": (1, 8, 2, 2)}, weights(8), ["y", "z"]))
    assert (found["GroupNorm"], found["Sigmoid"]) == (1, 1)
    found, _ = same(made([norm("x", "n", 4), *silu("n", "y")], {"x": (1, 8, 2, 2)}, weights(8), ["y", "n"]))
    assert (found["GroupNorm"], found["Sigmoid"]) == (1, 1)


def geglu(approximate: str = "none") -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Split", ["s"], ["left", "right"], axis=2, num_outputs=2),
        helper.make_node("Gelu", ["right"], ["g"], approximate=approximate),
        helper.make_node("Mul", ["left", "g"], ["y"]),
    ]


def geglu_model(width: int, outputs: Sequence[str] = ("y",), approximate: str = "none") -> onnx.ModelProto:
    constants = {"w": noise(4, width, seed=1), "b": noise(width, seed=2)}
    return made(geglu(approximate), {"x": (2, 3, 4)}, constants, outputs)


def test_bias_split_and_gelu_are_one_operator() -> None:
    found, replaced = same(geglu_model(2560))
    assert replaced == {"BiasSplitGelu": 1}
    assert found == {"MatMul": 1, "BiasSplitGelu": 1}


@pytest.mark.parametrize(
    "model", [geglu_model(64), geglu_model(2560, ("y", "left")), geglu_model(2560, approximate="tanh")]
)
def test_another_geglu_stays(model: onnx.ModelProto) -> None:
    assert same(model)[1] == {}


def residual(reshaped: bool, swapped: bool = False) -> list[onnx.NodeProto]:
    value = "moved" if reshaped else "s"
    moved = [helper.make_node("Reshape", ["s", "rows"], ["moved"])] if reshaped else []
    total = ["skip", value] if swapped else [value, "skip"]
    product = helper.make_node("MatMul", ["x", "w"], ["p"])
    return [product, helper.make_node("Add", ["p", "b"], ["s"]), *moved, helper.make_node("Add", total, ["y"])]


@pytest.mark.parametrize("reshaped", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_bias_and_residual_are_one_operator(reshaped: bool, swapped: bool) -> None:
    constants = {"w": noise(4, 320, seed=1), "b": noise(320, seed=2), "rows": np.array([2, 3, 320])}
    shapes = {"x": (1, 6, 4) if reshaped else (2, 3, 4), "skip": (2, 3, 320)}
    found, replaced = same(made(residual(reshaped, swapped), shapes, constants, ["y"]))
    assert replaced == {"BiasAdd": 1}
    assert found["Add"] == 0


@pytest.mark.parametrize(("width", "skip"), [(32, (2, 3, 32)), (320, (1, 3, 320)), (320, (320,))])
def test_another_sum_stays(width: int, skip: tuple[int, ...]) -> None:
    constants = {"w": noise(4, width, seed=1), "b": noise(width, seed=2)}
    found, replaced = same(made(residual(False), {"x": (2, 3, 4), "skip": skip}, constants, ["y"]))
    assert (replaced, found["Add"]) == ({}, 2)


def test_frames_become_tokens_of_pixels_and_maps_again_by_way_of_channels_last() -> None:
    sizes = {"split": np.array([2, 3, 8, 20]), "join": np.array([6, 8, 4, 5])}
    nodes = [
        norm("x", "n", 4),
        helper.make_node("Reshape", ["n", "split"], ["frames"]),
        helper.make_node("Transpose", ["frames"], ["tokens"], perm=[0, 3, 1, 2]),
        helper.make_node("Neg", ["tokens"], ["other"]),
        helper.make_node("Transpose", ["other"], ["back"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["back", "join"], ["y"]),
    ]
    model = made(nodes, {"x": (6, 8, 4, 5)}, weights(8) | sizes, ["y"])
    same(model)
    orders = [
        tuple(node.attribute[0].ints)
        for node in onnx.load_from_string(rewritten(model.SerializeToString())[0]).graph.node
        if node.op_type == "Transpose"
    ]
    into, out = (0, 2, 3, 1), (0, 3, 1, 2)
    assert orders == [into, out, into, (0, 2, 1, 3), (0, 2, 1, 3), out]  # the second and the third cancel out


HALF = TensorProto.FLOAT16
HALF_BOUND = 4e-3
"""Largest relative error in float16: each form rounds at other places."""


def halves(**constants: Array) -> dict[str, Array]:
    return {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in constants.items()}


def convolution(source: str, target: str, size: int = 3) -> onnx.NodeProto:
    border = [size // 2] * 4
    return helper.make_node("Conv", [source, f"{target}_w", f"{target}_b"], [target], pads=border)


def filters(*targets: str, size: int = 3) -> dict[str, Array]:
    found = {f"{target}_w": 0.2 * noise(8, 8, size, size, seed=len(target) + size) for target in targets}
    return found | {f"{target}_b": noise(8, seed=7 * len(target)) for target in targets}


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_a_residual_and_both_biases_go_into_the_norm_behind_it(active: bool, read: bool) -> None:
    nodes = [
        convolution("x", "inner"),
        convolution("x", "shortcut", 1),
        helper.make_node("Add", ["shortcut", "inner"], ["sum"]),
        norm("sum", "n", 4),
        *(silu("n", "y") if active else [helper.make_node("Neg", ["n"], ["y"])]),
    ]
    constants = halves(**weights(8), **filters("inner"), **filters("shortcut", size=1))
    outputs = ["y", "sum"] if read else ["y"]
    found, replaced = same(made(nodes, {"x": (2, 8, 4, 5)}, constants, outputs, HALF), HALF_BOUND)
    assert replaced == {"SkipGroupNorm": 1}
    assert not {"GroupNormalization", "Sigmoid"} & found.keys()


def test_a_time_shift_goes_into_the_norm_behind_it() -> None:
    nodes = [
        helper.make_node("Split", ["time", "widths"], ["first", "second"], axis=1),
        convolution("x", "a"),
        helper.make_node("Unsqueeze", ["first", "axes"], ["column"]),
        helper.make_node("Add", ["a", "column"], ["shifted"]),
        norm("shifted", "n", 4),
        *silu("n", "m"),
        convolution("m", "bb"),
        helper.make_node("Unsqueeze", ["second", "axes"], ["other"]),
        helper.make_node("Add", ["bb", "other"], ["again"]),
        norm("again", "o", 4),
        *silu("o", "y"),
    ]
    sizes = {"widths": np.array([8, 8]), "axes": np.array([2, 3])}
    constants = halves(**weights(8), **filters("a", "bb"), **sizes)
    found, replaced = same(made(nodes, {"x": (3, 8, 4, 5), "time": (1, 16)}, constants, ["y"], HALF), HALF_BOUND)
    assert replaced == {"SkipGroupNorm": 2}
    assert (found["Add"], found["Unsqueeze"], found["Expand"]) == (0, 0, 1)  # for both norms at once


def test_norms_in_single_precision_take_no_residual() -> None:
    """Maps are channels first then, and would be turned for each."""
    nodes = [convolution("x", "c"), helper.make_node("Add", ["x", "c"], ["sum"]), norm("sum", "n", 4), *silu("n", "y")]
    _, replaced = same(made(nodes, {"x": (2, 8, 4, 5)}, weights(8) | filters("c"), ["y"]))
    assert replaced == {"GroupNorm": 1}


def layer(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("LayerNormalization", [source, "scale", "bias"], [target], axis=-1, epsilon=1e-5)


@pytest.mark.parametrize("reshaped", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_a_residual_goes_into_the_layer_norm_behind_it(reshaped: bool, read: bool) -> None:
    constants = {"w": noise(4, 8, seed=1), "b": noise(8, seed=2), "rows": np.array([2, 3, 8])} | weights(8)
    shapes = {"x": (1, 6, 4) if reshaped else (2, 3, 4), "skip": (2, 3, 8)}
    outputs = ["z", "y"] if read else ["z"]
    found, replaced = same(made([*residual(reshaped), layer("y", "z")], shapes, constants, outputs))
    assert replaced == {"SkipLayerNormalization": 1}
    assert (found["Add"], found["LayerNormalization"]) == (0, 0)


def test_a_bias_alone_goes_into_the_layer_norm_behind_it() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
        layer("y", "z"),
        helper.make_node("Neg", ["y"], ["other"]),
    ]
    constants = {"w": noise(4, 8, seed=1), "b": noise(8, seed=2)} | weights(8)
    found, replaced = same(made(nodes, {"x": (2, 3, 4)}, constants, ["z", "other"]))
    assert replaced == {"SkipLayerNormalization": 1}
    assert found["Add"] == 0


@pytest.mark.parametrize("same_bias", [True, False])
def test_what_both_guidance_halves_get_is_added_once_they_are_one(same_bias: bool) -> None:
    nodes = [
        helper.make_node("Add", ["alone", "b" if same_bias else "bias"], ["first"]),
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Add", ["told", "s"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["y"], axis=0),
        layer("y", "z"),
    ]
    constants = {"w": noise(4, 8, seed=1), "b": noise(8, seed=2)} | weights(8)
    shapes = {"alone": (2, 3, 8), "told": (2, 3, 8), "x": (2, 3, 4)}
    found, replaced = same(made(nodes, shapes, constants, ["z", "y"]))
    assert replaced == ({"SkipLayerNormalization": 1} if same_bias else {})
    assert found["Add"] == (1 if same_bias else 3)


def test_motion_rows_leave_the_bias_of_the_others_to_the_norm() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Concat", ["motion", "s"], ["y"], axis=1),
        layer("y", "z"),
    ]
    constants = {"w": noise(4, 8, seed=1), "b": noise(8, seed=2)} | weights(8)
    found, replaced = same(made(nodes, {"motion": (10, 2, 8), "x": (10, 3, 4)}, constants, ["z", "y"]))
    assert replaced == {"SkipLayerNormalization": 1}
    assert found["Add"] == 0


def spatial(read: Sequence[str] = ("z",)) -> onnx.ModelProto:
    """Maps → tokens → maps, by convolutions of single pixels, and the residual around them; then frames and back."""
    nodes = [
        norm("x", "n", 4),
        convolution("n", "into", 1),
        helper.make_node("Transpose", ["into"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "flat"], ["tokens"]),
        layer("tokens", "normed"),
        helper.make_node("Add", ["tokens", "normed"], ["told"]),
        helper.make_node("Reshape", ["told", "square"], ["back"]),
        helper.make_node("Transpose", ["back"], ["first"], perm=[0, 3, 1, 2]),
        convolution("first", "out", 1),
        helper.make_node("Add", ["out", "x"], ["y"]),
        norm("y", "m", 4),
        helper.make_node("Reshape", ["m", "frames"], ["f"]),
        helper.make_node("Transpose", ["f"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("MatMul", ["pixels", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Reshape", ["s", "grid"], ["g"]),
        helper.make_node("Transpose", ["g"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["turned", "maps"], ["again"]),
        helper.make_node("Add", ["y", "again"], ["z"]),
    ]
    sizes = {"flat": [4, 20, 8], "square": [4, 4, 5, 8], "frames": [2, 2, 8, 20], "grid": [2, 20, 2, 8]}
    constants = halves(
        **weights(8),
        **filters("into", "out", size=1),
        **{name: np.array(value) for name, value in {**sizes, "maps": [4, 8, 4, 5]}.items()},
        w=0.3 * noise(8, 8, seed=1),
        b=noise(8, seed=2),
    )
    return made(nodes, {"x": (4, 8, 4, 5)}, constants, read, HALF)


def test_convolutions_of_single_pixels_are_products_whose_biases_others_take() -> None:
    found, replaced = same(spatial(), HALF_BOUND)
    assert replaced == {"GroupNorm": 1, "SkipGroupNorm": 1, "SkipLayerNormalization": 1}
    assert (found["Conv"], found["MatMul"]) == (0, 3)


def test_a_residual_of_maps_takes_a_bias_where_no_norm_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo_rt.device.cuda_form.residuals.BIAS_WIDTHS", (8,))
    found, replaced = same(spatial(), HALF_BOUND)
    assert replaced["BiasAdd"] == 1
    assert found["Add"] == 1  # the one in between, which adds no bias


def test_pixels_are_repeated_channels_last() -> None:
    settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        norm("x", "n", 4),
        helper.make_node("Resize", ["n", "", "scales"], ["y"], **settings),
    ]
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    for kind, bound, operator in ((HALF, HALF_BOUND, "Expand"), (TensorProto.FLOAT, BOUND, "Resize")):
        stored = {**(halves(**weights(8)) if kind == HALF else weights(8)), **scales}
        found, _ = same(made(nodes, {"x": (2, 8, 3, 5)}, stored, ["y"], kind), bound)
        assert found["Expand"] + found["Resize"] == found[operator] == 1


@pytest.mark.parametrize("graph", ["reference", "clip", "step_unguided", "vae_decoder"])
def test_graphs_of_a_bundle_in_half_compute_the_same(bundle_cache: Path, graph: str) -> None:
    lean = Bundle.open(small_bundles.unpack("lean-fp16", bundle_cache))
    path = lean.graph_path(graph)
    form = cuda_form(path, lean.dtype)
    assert form.provider_options == {"prefer_nhwc": "1"}
    model = parsed(form)
    assert operators(model)["SkipGroupNorm"] > 5
    inputs = inputs_of(lean, graph)
    onnx.load_external_data_for_model(model, form.session_entries[WEIGHTS_FOLDER])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert_same(evaluate(model, inputs), session.run(None, inputs), 0.02, most=8)


def assert_same(found: Sequence[Array], expected: Sequence[Array], bound: float, most: int) -> None:
    """Relative error below ``bound``; pixels differ by at most ``most``."""
    for ours, theirs in zip(found, expected, strict=True):
        if theirs.dtype == np.uint8:
            assert np.abs(ours.astype(int) - theirs).max() <= most
        else:
            assert relative(ours, theirs) < bound


def inputs_of(bundle: Bundle, graph: str) -> dict[str, Array]:
    tensors = enumerate(bundle.graphs[graph].inputs)
    return {t.name: noise(*t.shape, seed=seed, dtype=t.dtype) for seed, t in tensors}  # type: ignore[arg-type]


@pytest.mark.parametrize("graph", ["step", "vae_decoder"])
def test_graphs_of_a_bundle_compute_the_same(tiny_bundle: Bundle, graph: str) -> None:
    path = tiny_bundle.graph_path(graph)
    form = cuda_form(path, tiny_bundle.dtype)
    model = parsed(form)
    assert operators(model)["GroupNormalization"] == 0
    inputs = inputs_of(tiny_bundle, graph)
    onnx.load_external_data_for_model(model, form.session_entries[WEIGHTS_FOLDER])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert_same(evaluate(model, inputs), session.run(None, inputs), BOUND, most=1)


@pytest.mark.parametrize("graph", ["step", "vae_decoder"])
def test_onnx_runtime_knows_the_operators_and_finds_the_weights(tiny_bundle: Bundle, graph: str) -> None:
    """Types and shapes are accepted; there is only no kernel on this provider."""
    form = cuda_form(tiny_bundle.graph_path(graph), tiny_bundle.dtype)
    options = onnxruntime.SessionOptions()
    for key, value in form.session_entries.items():
        options.add_session_config_entry(key, value)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented, match=r"GroupNorm"):
        onnxruntime.InferenceSession(form.model, options, providers=["CPUExecutionProvider"])


def test_convolutions_are_channels_last_in_half_where_every_norm_is(tmp_path: Path) -> None:
    norms = {"even.onnx": 8, "odd.onnx": 6}
    for name, channels in norms.items():
        nodes = [norm("x", "n", 2), *silu("n", "y")]
        onnx.save(made(nodes, {"x": (1, channels, 2, 2)}, weights(channels), ["y"]), tmp_path / name)
    assert cuda_form(tmp_path / "even.onnx", "float16").provider_options == {"prefer_nhwc": "1"}
    assert cuda_form(tmp_path / "even.onnx", "float32").provider_options == {}
    assert cuda_form(tmp_path / "odd.onnx", "float16").provider_options == {}


def test_a_graph_without_such_patterns_is_opened_from_its_file(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.graph_path("timestep")
    assert cuda_form(path, "float16") == CudaForm(str(path))


def test_without_onnx_graphs_run_as_they_are_and_the_log_says_so(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(form_module.importlib.util, "find_spec", lambda name: None)
    path = tiny_bundle.graph_path("step")
    assert cuda_form(path, "float32") == CudaForm(str(path))
    assert "emo_rt[gpu]" in caplog.text
