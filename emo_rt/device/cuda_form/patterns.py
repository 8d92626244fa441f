"""What several rewrites look for."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto, TensorProto, helper

from emo_rt.device.cuda_form.editor import Editor, attribute

NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)

MAKERS = {"Cast", "Concat", "Expand", "Reshape", "Slice"}
"""Operators that make constants of constants in our graphs."""

LARGEST_GROUP = 512
"""Channels of a group that the kernel of ``GroupNorm`` can sum; it reads two at a time, so their number is even."""


def can_sum(editor: Editor, norm: NodeProto) -> bool:
    """Whether the kernel of ``GroupNorm`` can take the groups of a ``GroupNormalization``."""
    shape = editor.shape(norm.input[0])
    width = shape[1] // attribute(norm, "num_groups") if shape is not None and len(shape) in (3, 4) else 1
    return width % 2 == 0 and width <= LARGEST_GROUP


def is_channels_last(editor: Editor) -> bool:
    """Whether the graph's feature maps can stay channels last: in half precision, with every norm in one kernel."""
    norms = editor.nodes("GroupNormalization")
    return bool(norms) and all(editor.is_half(norm.input[0]) and can_sum(editor, norm) for norm in norms)


def bias_of(editor: Editor, add: NodeProto | None) -> tuple[str, str] | None:
    """A matrix product and the constant row that is added to it, if that is what a node adds."""
    if add is None or add.op_type != "Add":
        return None
    for product, row in (add.input, reversed(add.input)):
        made, shape = editor.producer(product), editor.shape(row)
        if made is not None and made.op_type == "MatMul" and is_row(editor, row) and shape and len(shape) == 1:
            return product, row
    return None


def row_of(editor: Editor, add: NodeProto | None) -> tuple[str, str] | None:
    """Any value and what is added to it, if that is a constant: one row (C), or the rows (1, S, C) of each picture."""
    if add is None or add.op_type != "Add":
        return None
    for value, row in (add.input, reversed(add.input)):
        shape, rows = editor.shape(value), editor.shape(row)
        if shape is None or rows is None or not is_row(editor, row) or is_row(editor, value):
            continue
        if rows == shape[-1:] or (len(shape) == 3 and rows == (1, *shape[1:])):
            return value, row
    return None


def other_of(add: NodeProto, value: str) -> str | None:
    """What a node adds to a value; ``None`` where it adds the value to itself."""
    return next((name for name in add.input if name != value), None)


def is_row(editor: Editor, name: str) -> bool:
    """Whether a value is constant: stored, or made of what is stored alone, as it is when the graph loads."""
    if editor.is_constant(name):
        return True
    made = editor.producer(name)
    return made is not None and made.op_type in MAKERS and all(is_row(editor, source) for source in made.input)


def is_alone(editor: Editor, node: NodeProto) -> bool:
    """Whether one node reads what ``node`` gives, and the graph does not give it."""
    return len(editor.users(node.output[0])) == 1


def silu_of(editor: Editor, name: str) -> list[NodeProto]:
    """Sigmoid and Mul behind a value that nothing else reads; empty where it is another pattern."""
    users = editor.users(name)
    sigmoid = next((node for node in users if node.op_type == "Sigmoid"), None)
    product = next((node for node in users if node.op_type == "Mul"), None)
    if len(users) != 2 or sigmoid is None or product is None or not is_alone(editor, sigmoid):
        return []
    return [sigmoid, product] if set(product.input) == {name, sigmoid.output[0]} else []


def widened(editor: Editor, norm: NodeProto, target: str) -> tuple[list[NodeProto], list[str]]:
    """Scale and bias of a group norm as its kernel takes them, in float32; the casts fold when the graph loads."""
    source, *parameters = norm.input
    nodes: list[NodeProto] = []
    wide: list[str] = []
    for name in parameters:
        wide.append(f"{target}/{len(wide)}" if editor.is_half(source) else name)
        if wide[-1] != name:
            nodes.append(helper.make_node("Cast", [name], [wide[-1]], wide[-1], to=TensorProto.FLOAT))
    return nodes, wide


def computed(editor: Editor, operator: str, names: Sequence[str], target: str) -> list[NodeProto]:
    """An operator on constants of one size, which folds when the graph loads: in float32, for on the CPU, where folding
    is done, ONNX Runtime knows no arithmetic in float16."""
    shape = editor.shape(names[0]) or ()
    editor.note(target, names[0], shape)
    if not editor.is_half(names[0]):
        return [helper.make_node(operator, list(names), [target], target)]
    wide = [f"{target}/wide_{index}" for index in range(len(names))]
    casts = [
        helper.make_node("Cast", [name], [cast], cast, to=TensorProto.FLOAT)
        for name, cast in zip(names, wide, strict=True)
    ]
    single = f"{target}/single"
    rounded = helper.make_node("Cast", [single], [target], target, to=TensorProto.FLOAT16)
    return [*casts, helper.make_node(operator, wide, [single], single), rounded]
