"""Where a bias is added: plain ONNX before and after, so that the operators that come next take it in.

A bias of its own is a kernel that reads and writes everything to add a row. Here it moves behind whatever only copies
or turns values, up to the residual or the norm that reads them.
"""

from __future__ import annotations

from onnx import NodeProto, helper

from emo_rt.device.cuda_form.editor import Editor, attribute, reshape, transpose
from emo_rt.device.cuda_form.patterns import (
    NCHW_TO_NHWC,
    NHWC_TO_NCHW,
    bias_of,
    is_alone,
    is_channels_last,
    other_of,
    row_of,
)

POINTWISE = {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
"""Attributes of a convolution that is a matrix product; each may be absent."""


def bias_behind_halves(editor: Editor) -> None:
    """Concat of (a + b) and (product + b + residual) → Concat of a and (product + residual), + b.

    What the unconditional half gets for a voice is the bias of the attention that the conditional half hears with.
    """
    for joined in editor.nodes("Concat"):
        if attribute(joined, "axis") != 0 or len(joined.input) != 2:
            continue
        first, second = (editor.producer(name) for name in joined.input)
        plain = row_of(editor, first)
        if (
            first is None
            or second is None
            or plain is None
            or not (is_alone(editor, first) and is_alone(editor, second))
        ):
            continue
        found = _biased_residual(editor, second, plain[1])
        if found is None:
            continue
        add, product, residual = found
        target = joined.output[0]
        inner, both = f"{second.output[0]}/without_bias", f"{target}/without_bias"
        editor.note(inner, second.output[0], editor.shape(second.output[0]) or ())
        editor.note(both, target, editor.shape(target) or ())
        new = [
            helper.make_node("Add", [residual, product], [inner], inner),
            helper.make_node("Concat", [plain[0], inner], [both], both, axis=0),
            helper.make_node("Add", [both, plain[1]], [target], f"{target}/bias"),
        ]
        editor.replace([first, add, second, joined], new)


def _biased_residual(editor: Editor, total: NodeProto, bias: str) -> tuple[NodeProto, str, str] | None:
    """The node that adds ``bias``, the product and the residual, if ``total`` adds (product + bias) to a residual."""
    if total.op_type != "Add":
        return None
    for name in total.input:
        add, residual = editor.producer(name), other_of(total, name)
        found = bias_of(editor, add)
        if add is not None and found is not None and found[1] == bias and residual and is_alone(editor, add):
            return add, found[0], residual
    return None


def bias_behind_motion(editor: Editor) -> None:
    """Motion rows in front of (product + b) → in front of the product, + b for its rows and 0 for the others."""
    for joined in editor.nodes("Concat"):
        shape = editor.shape(joined.output[0])
        if attribute(joined, "axis") != 1 or len(joined.input) != 2 or shape is None or len(shape) != 3:
            continue
        motion, biased = joined.input
        add, rows = editor.producer(biased), editor.shape(motion)
        found = bias_of(editor, add)
        if add is None or found is None or rows is None or not is_alone(editor, add):
            continue
        product, bias = found
        target = joined.output[0]
        bare = editor.note(f"{target}/without_bias", target, shape)
        own = editor.note(f"{target}/own", bias, (1, shape[1] - rows[1], shape[2]))
        column = editor.note(f"{target}/column", bias, (1, *shape[1:]))
        zeros = editor.filled(f"{target}/zeros", 0, (1, rows[1], shape[2]), editor.is_half(target))
        sizes = editor.sizes(f"{target}/own_sizes", (1, shape[1] - rows[1], shape[2]))
        new = [
            helper.make_node("Expand", [bias, sizes], [own], own),
            helper.make_node("Concat", [zeros, own], [column], column, axis=1),
            helper.make_node("Concat", [motion, product], [bare], bare, axis=1),
            helper.make_node("Add", [bare, column], [target], f"{target}/bias"),
        ]
        editor.replace([add, joined], new)


def bias_behind_frames(editor: Editor) -> None:
    """Tokens (product + b), turned back into maps (B, C, h, w), and added to others → the product turned, + b."""
    if not is_channels_last(editor):
        return
    for total in editor.nodes("Add"):
        for name in total.input:
            chain = _turned(editor, name)
            residual = other_of(total, name)
            if chain is None or residual is None or editor.shape(residual) != editor.shape(name):
                continue
            add, first = chain
            product, bias = bias_of(editor, add) or ("", "")
            editor.replace([add, first], [reshape(product, first.input[1], first.output[0])])
            editor.replace([total], [*_biased(editor, name, bias), _sum(residual, f"{name}/biased", total)])
            break


def _turned(editor: Editor, name: str) -> tuple[NodeProto, NodeProto] | None:
    """The node that adds a bias to tokens, and the first of Reshape, Transpose, Reshape that turn them into maps."""
    nodes = [editor.producer(name)]
    for _ in range(3):
        nodes.append(None if nodes[-1] is None else editor.producer(nodes[-1].input[0]))
    last, moved, first, add = nodes
    if last is None or moved is None or first is None or add is None or bias_of(editor, add) is None:
        return None
    kinds = [node.op_type for node in (last, moved, first)] == ["Reshape", "Transpose", "Reshape"]
    shape, maps = editor.shape(first.output[0]), editor.shape(name)
    if not kinds or not all(is_alone(editor, node) for node in (last, moved, first, add)) or not shape or not maps:
        return None
    fits = len(shape) == len(maps) == 4 and shape[3] == maps[1] and attribute(moved, "perm") == NCHW_TO_NHWC
    return (add, first) if fits else None


def products_for_convolutions(editor: Editor) -> None:
    """Convolution of single pixels between tokens and maps → matrix product, channels last; its bias after it."""
    if not is_channels_last(editor):
        return
    for convolution in editor.nodes("Conv"):
        if len(convolution.input) == 3 and _is_pointwise(convolution):
            _enter_tokens(editor, convolution)
            _leave_tokens(editor, convolution)


def _enter_tokens(editor: Editor, convolution: NodeProto) -> None:
    moved = editor.only_user(convolution.output[0], "Transpose")
    if moved is None or attribute(moved, "perm") != NCHW_TO_NHWC:
        return
    flat = editor.only_user(moved.output[0], "Reshape")
    tokens = editor.shape(flat.output[0]) if flat is not None else None
    source = editor.shape(convolution.input[0])
    if flat is None or tokens is None or source is None or len(tokens) != 3:
        return
    if tokens[:2] != (source[0], source[2] * source[3]):
        return
    target = flat.output[0]
    rows, product = f"{target}/rows", f"{target}/without_bias"
    maps = editor.note(f"{target}/maps", convolution.input[0], (source[0], *source[2:], source[1]))
    editor.note(rows, target, (*tokens[:2], source[1]))
    editor.note(product, target, tokens)
    weights, weight = _weight(editor, convolution, target)
    new = [
        transpose(convolution.input[0], maps, NCHW_TO_NHWC),
        reshape(maps, editor.sizes(f"{target}/sizes", (*tokens[:2], source[1])), rows),
        *weights,
        helper.make_node("MatMul", [rows, weight], [product], product),
        helper.make_node("Add", [product, convolution.input[2]], [target], f"{target}/bias"),
    ]
    editor.replace([convolution, moved, flat], new)


def _leave_tokens(editor: Editor, convolution: NodeProto) -> None:
    moved = editor.producer(convolution.input[0])
    total = editor.only_user(convolution.output[0], "Add")
    if moved is None or total is None or moved.op_type != "Transpose" or attribute(moved, "perm") != NHWC_TO_NCHW:
        return
    source, maps, name = editor.shape(moved.input[0]), editor.shape(total.output[0]), convolution.output[0]
    residual = other_of(total, name)
    if (
        not is_alone(editor, moved)
        or source is None
        or maps is None
        or residual is None
        or editor.shape(residual) != maps
    ):
        return
    product = editor.note(f"{name}/channels_last", name, (maps[0], *maps[2:], maps[1]))
    weights, weight = _weight(editor, convolution, name)
    new = [
        *weights,
        helper.make_node("MatMul", [moved.input[0], weight], [product], product),
        transpose(product, name, NHWC_TO_NCHW),
        *_biased(editor, name, convolution.input[2]),
        _sum(residual, f"{name}/biased", total),
    ]
    editor.replace([moved, convolution, total], new)


def _weight(editor: Editor, convolution: NodeProto, target: str) -> tuple[list[NodeProto], str]:
    """A filter (out, in, 1, 1) as a matrix (in, out); folded when the graph loads."""
    out, into = (editor.shape(convolution.input[1]) or (0, 0))[:2]
    flat = editor.note(f"{target}/filter", convolution.input[1], (out, into))
    matrix = editor.note(f"{target}/matrix", convolution.input[1], (into, out))
    sizes = editor.sizes(f"{target}/filter_sizes", (out, into))
    return [reshape(convolution.input[1], sizes, flat), transpose(flat, matrix, (1, 0))], matrix


def _is_pointwise(convolution: NodeProto) -> bool:
    return all(attribute(convolution, name, value) == value for name, value in POINTWISE.items()) and (
        attribute(convolution, "auto_pad", b"NOTSET") == b"NOTSET"
    )


def _biased(editor: Editor, name: str, bias: str) -> list[NodeProto]:
    """Maps + a bias per channel → ``NAME/biased``."""
    shape = editor.shape(name) or ()
    column = editor.note(f"{name}/column", bias, (1, shape[1], 1, 1))
    biased = editor.note(f"{name}/biased", name, shape)
    sizes = editor.sizes(f"{name}/column_sizes", (1, shape[1], 1, 1))
    return [reshape(bias, sizes, column), helper.make_node("Add", [name, column], [biased], biased)]


def _sum(residual: str, name: str, total: NodeProto) -> NodeProto:
    return helper.make_node("Add", [residual, name], [total.output[0]], total.name)


def time_for_each_picture(editor: Editor) -> None:
    """The time shifts of all residual blocks (1, C), which lie in one value, → (B, C): once instead of per block."""
    if not is_channels_last(editor):
        return
    for split in editor.nodes("Split"):
        source = editor.shape(split.input[0])
        batches = {_batch(editor, name) for name in split.output}
        if source is None or len(source) != 2 or source[0] != 1 or len(batches) != 1 or not batches - {0, 1}:
            continue
        (batch,) = batches
        each = editor.note(f"{split.input[0]}/each", split.input[0], (batch, source[1]))
        sizes = editor.sizes(f"{each}/sizes", (batch, source[1]))
        expanded = helper.make_node("Expand", [split.input[0], sizes], [each], each)
        own = NodeProto()
        own.CopyFrom(split)
        own.input[0] = each
        for name in split.output:
            width = (editor.shape(name) or (0, 0))[1]
            editor.note(name, name, (batch, width))
            column = editor.users(name)[0].output[0]
            editor.note(column, column, (batch, width, 1, 1))
        editor.replace([split], [expanded, own])


def _batch(editor: Editor, name: str) -> int:
    """How many pictures get a shift that is added to maps; 0 where it is used in another way."""
    column = editor.only_user(name, "Unsqueeze")
    add = None if column is None else editor.only_user(column.output[0], "Add")
    maps = None if add is None else editor.shape(add.output[0])
    return maps[0] if maps is not None and len(maps) == 4 else 0
