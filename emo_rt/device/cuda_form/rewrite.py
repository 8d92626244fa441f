"""The rewrites, one function each. Each takes a pattern of plain ONNX whole, or leaves it as it is."""

from __future__ import annotations

import math

from onnx import NodeProto, helper

from emo_rt.device.cuda_form.editor import MICROSOFT, Editor, attribute, reshape, transpose
from emo_rt.device.cuda_form.patterns import (
    NCHW_TO_NHWC,
    NHWC_TO_NCHW,
    bias_of,
    can_sum,
    is_alone,
    silu_of,
    widened,
)

GEGLU_WIDTHS = (2560, 5120, 10240)
"""Widths in front of the split for which ``BiasSplitGelu`` has kernels: eight times those of Stable Diffusion 1.5."""


def fuse_group_norms(editor: Editor) -> None:
    """GroupNormalization (→ SiLU) → one ``GroupNorm`` on channels last.

    The transposes around it meet those of channels-last convolutions, and vanish with them. Groups that its kernel
    cannot sum are normed as layers: three kernels instead of eighteen.
    """
    for norm in editor.nodes("GroupNormalization"):
        shape = editor.shape(norm.input[0])
        if shape is None or len(shape) not in (3, 4):
            continue
        if not can_sum(editor, norm):
            editor.replace([norm], _layer_norm(editor, norm, shape))
            continue
        silu = silu_of(editor, norm.output[0])
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
        bias, shape = bias_of(editor, add), editor.shape(split.input[0])
        halves = [editor.shape(left), editor.shape(right)]
        if bias is None or shape is None or len(shape) != 3 or halves[0] != halves[1]:
            continue
        if shape[2] in GEGLU_WIDTHS and set(product.input) == {left, gelu.output[0]} and is_alone(editor, gelu):
            fused = helper.make_node("BiasSplitGelu", list(bias), list(product.output), product.name, domain=MICROSOFT)
            editor.replace([add, split, gelu, product], [fused])


def grow_channels_last(editor: Editor) -> None:
    """Resize of maps to twice their size by repeating pixels → ``Expand`` on channels last: one kernel, not four."""
    for resize in editor.nodes("Resize"):
        small, large = editor.shape(resize.input[0]), editor.shape(resize.output[0])
        if small is None or large is None or len(small) != 4 or not editor.is_half(resize.input[0]):
            continue
        if large != (*small[:2], 2 * small[2], 2 * small[3]) or not _repeats(resize):
            continue
        batch, channels, height, width = small
        target = resize.output[0]
        names = {part: f"{target}/{part}" for part in ("last", "apart", "repeated", "grown")}
        apart = editor.sizes(f"{target}/apart_sizes", (batch, height, 1, width, 1, channels))
        twice = editor.sizes(f"{target}/twice", (batch, height, 2, width, 2, channels))
        grown = editor.sizes(f"{target}/grown_sizes", (batch, 2 * height, 2 * width, channels))
        editor.note(names["repeated"], target, (batch, height, 2, width, 2, channels))
        new = [
            transpose(resize.input[0], names["last"], NCHW_TO_NHWC),
            reshape(names["last"], apart, names["apart"]),
            helper.make_node("Expand", [names["apart"], twice], [names["repeated"]], names["repeated"]),
            reshape(names["repeated"], grown, names["grown"]),
            transpose(names["grown"], target, NHWC_TO_NCHW),
        ]
        editor.replace([resize], new)


def _repeats(resize: NodeProto) -> bool:
    wanted = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    return all(attribute(resize, name) == value for name, value in wanted.items())


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


def _group_norm(editor: Editor, norm: NodeProto, shape: tuple[int, ...], target: str, silu: bool) -> list[NodeProto]:
    """The nodes in place of a norm."""
    source = norm.input[0]
    nodes, wide = widened(editor, norm, target)
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
    ones = editor.filled(f"{target}/ones", 1, (size,), editor.is_half(source))
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
