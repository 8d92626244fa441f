"""How much device memory will a graph take in ONNX Runtime? Reckoned from its file, before anything is opened.

What a run takes besides its inputs and outputs: every intermediate result, from the node that gives it to the last that
reads it, in the pool that :mod:`emo_rt.device.cuda_form.arena` describes. Not in it: what CUDA takes for itself, and
workspaces of cuDNN. Held against the real library on the simulated card by ``make card``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto

from emo_rt.device.cuda_form import CudaForm, cuda_form
from emo_rt.device.cuda_form.arena import Arena, Piece
from emo_rt.device.cuda_form.editor import attribute
from emo_rt.device.cuda_form.patterns import NCHW_TO_NHWC, NHWC_TO_NCHW
from emo_rt.device.cuda_form.values import Values
from emo_rt.device.graph_memory import GraphMemory

SAME_MEMORY = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
"""Operators whose result is their first input under another name."""
IN_PLACE = {"Add", "Mul", "Sub", "Div", "Sigmoid", "Relu", "Tanh", "Neg", "Sqrt", "Exp"}
"""Operators that overwrite an input of the result's size which nobody else reads."""
RUNS = 2
"""The pool still grows in the second."""


@cache
def graph_memory(path: Path, dtype: str) -> GraphMemory:
    """Memory of the graph at ``path`` in the form in which it is opened. ``dtype``: the bundle's.

    Where a size is not known before a run, what depends on it counts as nothing: the audio encoder's intermediate
    results are a few megabytes.
    """
    form = cuda_form(path, dtype)
    model = onnx.ModelProto()
    model.ParseFromString(form.model if isinstance(form.model, bytes) else path.read_bytes())
    arena, values = Arena(), Values(model.graph)
    _open(model.graph, values, arena, form)
    weights = arena.nbytes
    for _ in range(RUNS):
        _Run(model.graph, values, arena, _channels_last(form)).all_nodes()
    return GraphMemory(weights, arena.nbytes - weights)


def _open(graph: onnx.GraphProto, values: Values, arena: Arena, form: CudaForm) -> None:
    """Take memory for the constants that a run reads; folded ones only as what they became."""
    read = {name for node in values.computed for name in node.input}
    for name in sorted(values.constants & read):
        arena.take(values[name].nbytes)
    filters = [values[node.input[1]].nbytes for node in values.computed if node.op_type == "Conv"]
    if _channels_last(form) and filters:  # they are turned: the largest leaves what it was turned in
        for piece in [arena.take(max(filters)) for _ in range(2)]:
            arena.give(piece)


def _channels_last(form: CudaForm) -> bool:
    return form.provider_options.get("prefer_nhwc") == "1"


class _Run:
    """Buffers of one run, node by node."""

    def __init__(self, graph: onnx.GraphProto, values: Values, arena: Arena, channels_last: bool) -> None:
        self._values, self._arena, self._channels_last = values, arena, channels_last
        self._last = {name: index for index, node in enumerate(values.computed) for name in node.input}
        self._given = {one.name for one in graph.output}
        self._buffer: dict[str, str] = {}
        """Value → the value whose memory it has; none for inputs, constants and outputs of the graph."""
        self._names: dict[str, list[str]] = {}
        self._pieces: dict[str, Piece] = {}

    def all_nodes(self) -> None:
        """From the first node to the last."""
        for index, node in enumerate(self._values.computed):
            for name in filter(None, node.output):
                if name not in self._given:
                    self._place(node, name, index)
            self._work(node)
            for name in {*node.input, *node.output}:
                buffer = self._buffer.get(name)
                if buffer in self._pieces and self._is_done(buffer, index):
                    self._arena.give(self._pieces.pop(buffer))

    def _place(self, node: NodeProto, name: str, index: int) -> None:
        """Find memory for a result."""
        values = self._values
        if self._is_renaming(node):
            self._share(name, self._buffer.get(node.input[0]))
            return
        if node.op_type in IN_PLACE:
            for source in node.input:
                buffer = self._buffer.get(source)
                if buffer is not None and values[source] == values[name] and self._is_done(buffer, index):
                    self._share(name, buffer)
                    return
        self._pieces[name] = self._arena.take(values[name].nbytes)
        self._share(name, name)

    def _share(self, name: str, buffer: str | None) -> None:
        if buffer is not None:
            self._buffer[name] = buffer
            self._names.setdefault(buffer, []).append(name)

    def _is_done(self, buffer: str, index: int) -> bool:
        """Whether nobody reads it after the node of that index."""
        return all(self._last.get(name, -1) <= index for name in self._names[buffer])

    def _is_renaming(self, node: NodeProto) -> bool:
        """Transposes to and from channels last vanish where everything is."""
        if node.op_type == "Transpose" and self._channels_last:
            return attribute(node, "perm") in (NCHW_TO_NHWC, NHWC_TO_NCHW)
        return node.op_type in SAME_MEMORY

    def _work(self, node: NodeProto) -> None:
        """Scratch memory of attention where no fused kernel takes it: logits, their softmax, and turned operands."""
        if node.op_type != "Attention" or len(self._values[node.input[0]].sizes) != 3:
            return
        queries, keys = (self._values[name] for name in node.input[:2])
        heads = attribute(node, "q_num_heads")
        if queries.kind == TensorProto.FLOAT16 and queries.sizes[2] // heads % 8 == 0:
            return
        item = 2 if queries.kind == TensorProto.FLOAT16 else 4
        logits = queries.sizes[0] * heads * queries.sizes[1] * keys.sizes[1] * item
        for piece in [self._arena.take(size) for size in (logits, logits, queries.nbytes, keys.nbytes, keys.nbytes)]:
            self._arena.give(piece)
