"""The rewrites, one function each. Each takes a pattern of plain ONNX whole, or leaves it as it is."""

from __future__ import annotations

import math

import onnx
from onnx import NodeProto, TensorProto, helper

from emo_rt.device.cuda_form.editor import MICROSOFT, Editor, attribute, reshape, transpose

NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)

LARGEST_GROUP = 512
"""Channels of a group that the kernel of ``GroupNorm`` can sum; it reads two at a time, so their number is even."""

GEGLU_WIDTHS = (2560, 5120, 10240)
"""Widths in front of the split for which ``BiasSplitGelu`` has kernels: eight times those of Stable Diffusion 1.5."""

BIAS_WIDTHS = (320, 640, 1280)
"""Widths for which ``BiasAdd`` is documented."""


def rewritten(source: bytes) -> tuple[bytes, dict[str, int]]:
    """An ONNX file → the rewritten model, and the operators with their number: those that were put in, and
    ``GroupNormalization`` where one stayed."""
    model = onnx.ModelProto()
    model.ParseFromString(source)
    editor = Editor(model)
    for rewrite in (fuse_group_norms, fuse_geglu, fuse_bias_and_residual, keep_frames_channels_last):
        rewrite(editor)
    left = len(editor.nodes("GroupNormalization"))
    found = dict(editor.put_in) | ({"GroupNormalization": left} if left else {})
    return editor.finish(), found


def fuse_group_norms(editor: Editor) -> None:
    """GroupNormalization (→ SiLU) → one ``GroupNorm`` on channels last.

    The transposes around it meet those of channels-last convolutions, and vanish with them. Groups that its kernel
    cannot sum are normed as layers: three kernels instead of eighteen.
    """
    for norm in editor.nodes("GroupNormalization"):
        shape, groups = editor.shape(norm.input[0]), attribute(norm, "num_groups")
        if shape is None or len(shape) not in (3, 4):
            continue
        width = shape[1] // groups
        if width % 2 or width > LARGEST_GROUP:
            editor.replace([norm], _layer_norm(editor, norm, shape))
            continue
        silu = _silu(editor, norm.output[0])
        target = silu[-1].output[0] if silu else norm.output[0]
        editor.replace([norm, *silu], _group_norm(editor, norm, shape, target, bool(silu)))


def fuse_geglu(editor: Editor) -> None:
    """Add bias → Split → left · Gelu(right) → ``BiasSplitGelu``."""
    for split in editor.nodes("Split"):
        add = editor.producer(split.input[0])
        if add is None or len(split.output) != 2 or editor.only_user(split.input[0], "Split") is None:
            continue
        left, right = split.output
        gelu, product = editor.only_user(right, "Gelu"), editor.only_user(left, "Mul")
        if gelu is None or product is None or attribute(gelu, "approximate", b"none") != b"none":
            continue
        bias, shape = _bias(editor, add), editor.shape(split.input[0])
        halves = [editor.shape(left), editor.shape(right)]
        if bias is None or shape is None or len(shape) != 3 or halves[0] != halves[1]:
            continue
        if shape[2] in GEGLU_WIDTHS and set(product.input) == {left, gelu.output[0]} and _alone(editor, gelu):
            fused = helper.make_node("BiasSplitGelu", list(bias), list(product.output), product.name, domain=MICROSOFT)
            editor.replace([add, split, gelu, product], [fused])


def fuse_bias_and_residual(editor: Editor) -> None:
    """MatMul → Add bias (→ Reshape of rows) → Add of as large a tensor → ``BiasAdd``."""
    for add in editor.nodes("Add"):
        bias = _bias(editor, add)
        if bias is None:
            continue
        value, moved = add.output[0], editor.only_user(add.output[0], "Reshape")
        if moved is not None:
            value = moved.output[0]
        total = editor.only_user(value, "Add")
        shape = editor.shape(value)
        if total is None or shape is None or len(shape) != 3 or shape[2] not in BIAS_WIDTHS:
            continue
        other = next((name for name in total.input if name != value), None)
        if other is None or editor.shape(other) != shape or editor.shape(bias[1]) != shape[2:]:
            continue
        before, source = [], bias[0]
        if moved is not None:
            source = f"{value}/without_bias"
            before = [reshape(bias[0], moved.input[1], source)]
        inputs = [source, bias[1], other]
        fused = helper.make_node("BiasAdd", inputs, list(total.output), total.name, domain=MICROSOFT)
        editor.replace([add, *([] if moved is None else [moved]), total], [*before, fused])


def keep_frames_channels_last(editor: Editor) -> None:
    """Maps of frames ↔ tokens of pixels by way of channels last: only rows of whole pixels move then.

    (B·F, C, h, w) → (B, F, C, h·w) → (B, h·w, F, C), and back.
    """
    for moved in editor.nodes("Transpose"):
        if attribute(moved, "perm") == NHWC_TO_NCHW:
            _enter_frames(editor, moved)
        elif attribute(moved, "perm") == NCHW_TO_NHWC:
            _leave_frames(editor, moved)


def _enter_frames(editor: Editor, moved: NodeProto) -> None:
    split = editor.producer(moved.input[0])
    if split is None or split.op_type != "Reshape" or editor.only_user(moved.input[0], "Transpose") is None:
        return
    maps, frames = editor.shape(split.input[0]), editor.shape(moved.input[0])
    if maps is None or frames is None or len(maps) != 4 or frames[1] * frames[0] != maps[0]:
        return
    if frames[2:] != (maps[1], math.prod(maps[2:])):
        return
    target, last, rows = moved.output[0], f"{moved.output[0]}/maps", f"{moved.output[0]}/rows"
    sizes = editor.sizes(f"{target}/sizes", (*frames[:2], frames[3], frames[2]))
    new = [transpose(split.input[0], last, NCHW_TO_NHWC), reshape(last, sizes, rows)]
    editor.replace([split, moved], [*new, transpose(rows, target, (0, 2, 1, 3))])


def _leave_frames(editor: Editor, moved: NodeProto) -> None:
    joined = editor.only_user(moved.output[0], "Reshape")
    if joined is None:
        return
    tokens, maps = editor.shape(moved.input[0]), editor.shape(joined.output[0])
    if tokens is None or maps is None or len(maps) != 4 or tokens[0] * tokens[2] != maps[0]:
        return
    if (tokens[3], tokens[1]) != (maps[1], math.prod(maps[2:])):
        return
    target, rows, last = joined.output[0], f"{joined.output[0]}/rows", f"{joined.output[0]}/maps"
    sizes = editor.sizes(f"{target}/sizes", (maps[0], *maps[2:], maps[1]))
    new = [transpose(moved.input[0], rows, (0, 2, 1, 3)), reshape(rows, sizes, last)]
    editor.replace([moved, joined], [*new, transpose(last, target, NHWC_TO_NCHW)])


def _silu(editor: Editor, name: str) -> list[NodeProto]:
    """Sigmoid and Mul behind a value that nothing else reads; empty where it is another pattern."""
    users = editor.users(name)
    sigmoid = next((node for node in users if node.op_type == "Sigmoid"), None)
    product = next((node for node in users if node.op_type == "Mul"), None)
    if len(users) != 2 or sigmoid is None or product is None or not _alone(editor, sigmoid):
        return []
    return [sigmoid, product] if set(product.input) == {name, sigmoid.output[0]} else []


def _group_norm(editor: Editor, norm: NodeProto, shape: tuple[int, ...], target: str, silu: bool) -> list[NodeProto]:
    """The nodes in place of a norm. Scale and bias are float32 to the kernel; the casts fold when the graph loads."""
    source, *parameters = norm.input
    nodes: list[NodeProto] = []
    wide: list[str] = []
    for name in parameters:
        wide.append(f"{target}/{len(wide)}" if editor.is_half(source) else name)
        if wide[-1] != name:
            nodes.append(helper.make_node("Cast", [name], [wide[-1]], wide[-1], to=TensorProto.FLOAT))
    before, after = f"{target}/channels_last", f"{target}/normed"
    fused = helper.make_node(
        "GroupNorm", [before, *wide], [after], f"{target}/norm", domain=MICROSOFT,
        activation=int(silu), channels_last=1,
        epsilon=attribute(norm, "epsilon", 1e-5), groups=attribute(norm, "num_groups"),
    )  # fmt: skip
    if len(shape) == 4:
        return [*nodes, transpose(source, before, NCHW_TO_NHWC), fused, transpose(after, target, NHWC_TO_NCHW)]
    batch, channels, length = shape
    grid = editor.sizes(f"{target}/grid", (batch, length, 1, channels))
    line = editor.sizes(f"{target}/line", (batch, length, channels))
    rows, normed = f"{target}/rows", f"{target}/normed_rows"
    into = [transpose(source, rows, (0, 2, 1)), reshape(rows, grid, before)]
    return [*nodes, *into, fused, reshape(after, line, normed), transpose(normed, target, (0, 2, 1))]


def _layer_norm(editor: Editor, norm: NodeProto, shape: tuple[int, ...]) -> list[NodeProto]:
    """The nodes in place of a norm: a group is a layer of its own, and the channels' scale and bias come after it."""
    source, scale, bias = norm.input
    target, groups = norm.output[0], attribute(norm, "num_groups")
    size = math.prod(shape[1:]) // groups
    names = {part: f"{target}/{part}" for part in ("rows", "layers", "normed", "scale", "bias", "scaled")}
    rows = editor.sizes(f"{target}/groups", (shape[0], groups, size))
    back = editor.sizes(f"{target}/shape", shape)
    column = editor.sizes(f"{target}/column", (shape[1], *[1] * (len(shape) - 2)))
    ones = editor.ones(f"{target}/ones", size, editor.is_half(source))
    layers = helper.make_node(
        "LayerNormalization", [names["rows"], ones], [names["layers"]], f"{target}/norm",
        axis=-1, epsilon=attribute(norm, "epsilon", 1e-5), stash_type=1,
    )  # fmt: skip
    return [
        reshape(source, rows, names["rows"]),
        layers,
        reshape(names["layers"], back, names["normed"]),
        reshape(scale, column, names["scale"]),
        reshape(bias, column, names["bias"]),
        helper.make_node("Mul", [names["normed"], names["scale"]], [names["scaled"]], names["scaled"]),
        helper.make_node("Add", [names["scaled"], names["bias"]], [target], f"{target}/add"),
    ]


def _bias(editor: Editor, add: NodeProto) -> tuple[str, str] | None:
    """A matrix product and the constant row that is added to it, if that is what a node adds."""
    if add.op_type != "Add":
        return None
    for product, row in (add.input, reversed(add.input)):
        made = editor.producer(product)
        shape = editor.shape(row)
        if made is not None and made.op_type == "MatMul" and _is_row(editor, row) and shape and len(shape) == 1:
            return product, row
    return None


def _is_row(editor: Editor, name: str) -> bool:
    """Whether a value is constant: stored, or stored in half precision and widened."""
    made = editor.producer(name)
    return editor.is_constant(name) or (
        made is not None and made.op_type == "Cast" and editor.is_constant(made.input[0])
    )


def _alone(editor: Editor, node: NodeProto) -> bool:
    """Whether one node reads what ``node`` gives."""
    return len(editor.users(node.output[0])) == 1
