"""A residual with what surrounds it: the bias in front of it, the norm behind it, one kernel for all."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, helper

from emo_rt.device.cuda_form.editor import MICROSOFT, Editor, attribute, reshape, transpose
from emo_rt.device.cuda_form.patterns import (
    NCHW_TO_NHWC,
    NHWC_TO_NCHW,
    bias_of,
    computed,
    is_alone,
    is_channels_last,
    is_row,
    other_of,
    row_of,
    silu_of,
    widened,
)

BIAS_WIDTHS = (320, 640, 1280)
"""Widths for which ``BiasAdd`` is documented."""


@dataclass(frozen=True)
class Addend:
    """What is added to maps (B, C, h, w), with its bias per channel apart."""

    maps: str
    """Without the bias."""
    bias: str | None
    old: list[NodeProto]
    """The nodes that had it in."""
    new: list[NodeProto]


def fuse_residual_group_norms(editor: Editor) -> None:
    """Sum of two maps, or of maps and a time shift, with the biases of their convolutions → GroupNormalization
    (→ SiLU): one ``SkipGroupNorm`` on channels last, which also gives the sum."""
    if not is_channels_last(editor):
        return
    for norm in editor.nodes("GroupNormalization"):
        total, shape = editor.producer(norm.input[0]), editor.shape(norm.input[0])
        if total is None or total.op_type != "Add" or shape is None or len(shape) != 4:
            continue
        if sum(user.op_type == "GroupNormalization" for user in editor.users(total.output[0])) > 1:
            continue
        shift = _shift(editor, total, shape)
        if shift is None and any(editor.shape(name) != shape for name in total.input):
            continue
        _fuse_norm(editor, norm, total, shift)


def _shift(editor: Editor, total: NodeProto, shape: tuple[int, ...]) -> tuple[str, NodeProto] | None:
    """A shift (B, C) that a sum adds to every pixel, and the node that gave it two more dimensions."""
    for name in total.input:
        column = editor.producer(name)
        if column is None or column.op_type != "Unsqueeze" or not is_alone(editor, column):
            continue
        if editor.shape(column.input[0]) == shape[:2]:
            return column.input[0], column
    return None


def _fuse_norm(editor: Editor, norm: NodeProto, total: NodeProto, shift: tuple[str, NodeProto] | None) -> None:
    shifted = None if shift is None else shift[1].output[0]
    addends = [addend(editor, name) for name in total.input if name != shifted]
    silu = silu_of(editor, norm.output[0])
    target = silu[-1].output[0] if silu else norm.output[0]
    biases, bias = _sum_of_biases(editor, [one.bias for one in addends if one.bias], target)
    casts, wide = widened(editor, norm, target)
    before, skip, after, whole = (f"{target}/{part}" for part in ("channels_last", "skip", "normed", "sum"))
    skips = [] if shift is not None else [transpose(addends[1].maps, skip, NCHW_TO_NHWC)]
    keeps = len(editor.users(total.output[0])) != 1  # somebody else reads the sum, or it is a result
    fused = helper.make_node(
        "SkipGroupNorm",
        [before, *wide, skip if shift is None else shift[0], *([bias] if bias else [])],
        [after, whole] if keeps else [after],
        f"{target}/norm",
        domain=MICROSOFT, activation=int(bool(silu)), channels_last=1,
        epsilon=attribute(norm, "epsilon", 1e-5), groups=attribute(norm, "num_groups"),
    )  # fmt: skip
    new = [
        *(node for one in addends for node in one.new),
        *biases,
        *casts,
        transpose(addends[0].maps, before, NCHW_TO_NHWC),
        *skips,
        fused,
        transpose(after, target, NHWC_TO_NCHW),
    ]
    if keeps:
        new.append(transpose(whole, total.output[0], NHWC_TO_NCHW))
    old = [node for one in addends for node in one.old]
    editor.replace([*old, *([] if shift is None else [shift[1]]), total, norm, *silu], new, at=total)


def addend(editor: Editor, name: str) -> Addend:
    """A value without the bias that a convolution, or a sum with a constant column, has put in for this one reader."""
    made = editor.producer(name)
    if made is None or not is_alone(editor, made):
        return Addend(name, None, [], [])
    if made.op_type == "Conv" and len(made.input) == 3:
        bare, maps = NodeProto(), editor.note(f"{name}/without_bias", name, editor.shape(name) or ())
        bare.CopyFrom(made)
        del bare.input[2]
        bare.output[0] = maps
        return Addend(maps, made.input[2], [made], [bare])
    if made.op_type == "Add":
        for maps, column in (made.input, reversed(made.input)):
            row = editor.producer(column)
            if row is not None and row.op_type == "Reshape" and is_row(editor, row.input[0]) and is_alone(editor, row):
                return Addend(maps, row.input[0], [row, made], [])
    return Addend(name, None, [], [])


def _sum_of_biases(editor: Editor, biases: list[str], target: str) -> tuple[list[NodeProto], str | None]:
    if len(biases) < 2:
        return [], biases[0] if biases else None
    return computed(editor, "Add", biases, f"{target}/bias"), f"{target}/bias"


def fuse_layer_norms(editor: Editor) -> None:
    """MatMul → Add bias (→ Reshape of rows) → Add of as large a tensor → LayerNormalization, or Add bias →
    LayerNormalization: ``SkipLayerNormalization``, which also gives the sum."""
    for norm in editor.nodes("LayerNormalization"):
        total, shape = editor.producer(norm.input[0]), editor.shape(norm.input[0])
        if total is None or total.op_type != "Add" or shape is None or len(shape) != 3 or len(norm.input) != 3:
            continue
        if attribute(norm, "axis", -1) not in (-1, 2) or any(
            editor.shape(name) != shape[2:] for name in norm.input[1:]
        ):
            continue
        first = [n for n in editor.users(total.output[0]) if n.op_type == "LayerNormalization"][:1]
        if total.output[0] != norm.input[0] or (first and first[0] is not norm):
            continue
        found = _biased_sum(editor, total, shape)
        if found is not None:
            _fuse_residual(editor, norm, total, *found)
        elif (row := row_of(editor, total)) is not None:
            _fuse_row(editor, norm, total, row, shape)


def _biased_sum(
    editor: Editor, total: NodeProto, shape: tuple[int, ...]
) -> tuple[list[NodeProto], list[NodeProto], list[str]] | None:
    """Nodes that go, nodes that come, and product, residual and bias, where a sum is of that kind."""
    for name in total.input:
        residual, made = other_of(total, name), editor.producer(name)
        moved = made if made is not None and made.op_type == "Reshape" and is_alone(editor, made) else None
        add = editor.producer(moved.input[0]) if moved is not None else made
        bias = bias_of(editor, add)
        if add is None or bias is None or residual is None or not is_alone(editor, add):
            continue
        if {editor.shape(residual), editor.shape(name)} != {shape} or editor.shape(bias[1]) != shape[2:]:
            continue
        if moved is None:
            return [add], [], [bias[0], residual, bias[1]]
        source = editor.note(f"{name}/without_bias", name, shape)
        return [add, moved], [reshape(bias[0], moved.input[1], source)], [source, residual, bias[1]]
    return None


def _fuse_residual(
    editor: Editor, norm: NodeProto, total: NodeProto, old: list[NodeProto], new: list[NodeProto], parts: list[str]
) -> None:
    product, residual, bias = parts
    outputs = [norm.output[0], *_sum_output(editor, total, total.output[0])]
    fused = _skip_norm(norm, [product, residual, *norm.input[1:], bias], outputs)
    editor.replace([*old, total, norm], [*new, fused], at=total)


def _fuse_row(editor: Editor, norm: NodeProto, total: NodeProto, row: tuple[str, str], shape: tuple[int, ...]) -> None:
    """A bias in front of a norm is a residual of one row for all rows, or of the same rows for each picture."""
    value, bias = row
    if editor.shape(bias) != shape[2:]:
        outputs = [norm.output[0], *_sum_output(editor, total, total.output[0])]
        editor.replace([total, norm], [_skip_norm(norm, [value, bias, *norm.input[1:]], outputs)], at=total)
        return
    target, count = norm.output[0], shape[0] * shape[1]
    names = {part: f"{target}/{part}" for part in ("rows", "skip", "normed", "sum")}
    rows = editor.sizes(f"{target}/row_sizes", (count, 1, shape[2]))
    single, back = editor.sizes(f"{target}/one_row", (1, 1, shape[2])), editor.sizes(f"{target}/all_rows", shape)
    summed = _sum_output(editor, total, names["sum"])
    fused = _skip_norm(norm, [names["rows"], names["skip"], *norm.input[1:]], [names["normed"], *summed])
    new = [
        reshape(value, rows, names["rows"]),
        reshape(bias, single, names["skip"]),
        fused,
        reshape(names["normed"], back, target),
    ]
    if summed:
        new.append(reshape(names["sum"], back, total.output[0]))
    editor.replace([total, norm], new, at=total)


def _sum_output(editor: Editor, total: NodeProto, name: str) -> list[str]:
    """The further outputs of a norm with a residual: none where it alone reads the sum."""
    return [] if is_alone(editor, total) else ["", "", name]


def _skip_norm(norm: NodeProto, inputs: list[str], outputs: list[str]) -> NodeProto:
    return helper.make_node(
        "SkipLayerNormalization", inputs, outputs, norm.name, domain=MICROSOFT,
        epsilon=attribute(norm, "epsilon", 1e-5),
    )  # fmt: skip


def fuse_bias_and_residual(editor: Editor) -> None:
    """What no norm has taken: MatMul → Add bias (→ Reshape of rows) → Add of as large a tensor → ``BiasAdd``; and the
    same of maps, channels last."""
    for total in editor.nodes("Add"):
        shape = editor.shape(total.output[0])
        if shape is None:
            continue
        if len(shape) == 3 and shape[2] in BIAS_WIDTHS:
            found = _biased_sum(editor, total, shape)
            if found is not None:
                old, new, (product, residual, bias) = found
                editor.replace([*old, total], [*new, _bias_add([product, bias, residual], total.output[0], total.name)])
        elif len(shape) == 4 and shape[1] in BIAS_WIDTHS and editor.is_half(total.output[0]):
            _fuse_maps(editor, total, shape)


def _fuse_maps(editor: Editor, total: NodeProto, shape: tuple[int, ...]) -> None:
    for name in total.input:
        part, residual = addend(editor, name), other_of(total, name)
        if part.bias is None or residual is None or {editor.shape(residual), editor.shape(name)} != {shape}:
            continue
        if "Conv" in {node.op_type for node in part.old}:
            continue  # with its bias it is a kernel as well, and cuDNN may join the two
        target, rows = total.output[0], (shape[0], shape[2] * shape[3], shape[1])
        sizes = editor.sizes(f"{target}/rows", rows)
        back = editor.sizes(f"{target}/maps", (shape[0], *shape[2:], shape[1]))
        new = list(part.new)
        for source, short in ((part.maps, "product"), (residual, "residual")):
            last = f"{target}/{short}"
            new += [transpose(source, f"{last}/last", NCHW_TO_NHWC), reshape(f"{last}/last", sizes, last)]
        summed, last = f"{target}/summed", f"{target}/channels_last"
        new += [
            _bias_add([f"{target}/product", part.bias, f"{target}/residual"], summed, total.name),
            reshape(summed, back, last),
            transpose(last, target, NHWC_TO_NCHW),
        ]
        editor.replace([*part.old, total], new)
        return


def _bias_add(inputs: list[str], output: str, name: str) -> NodeProto:
    return helper.make_node("BiasAdd", inputs, [output], name, domain=MICROSOFT)
