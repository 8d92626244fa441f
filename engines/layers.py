"""Which layer lost it? A graph beside its float32 twin, tensor by tensor, by Polygraphy.

Every intermediate tensor is an output of both; they are run in parts, so that no more than :data:`PART_BYTES` of them
are in memory at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from polygraphy.backend.onnx import modify_outputs, save_onnx  # type: ignore[import-untyped]
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx  # type: ignore[import-untyped]
from polygraphy.comparator import Comparator  # type: ignore[import-untyped]
from polygraphy.logger import G_LOGGER  # type: ignore[import-untyped]

from emo_rt.engines.wide import widened
from emo_rt.model.contract import Array

LARGEST = float(np.finfo(np.float16).max)
"""Largest number of float16."""
PART_BYTES = 2_000_000_000
"""Memory of the tensors that are looked at in one run, counted as float32."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Layer:
    """One tensor that a node gives."""

    tensor: str
    """Its name."""
    node: str
    """The node that gives it."""
    operator: str
    """That node's operator."""
    largest: float
    """Largest magnitude in float32."""
    error: float
    """‖float16 − float32‖ / ‖float32‖; infinite where float16 is not finite. 0 for a graph that has no float16."""

    @property
    def share(self) -> float:
        """Part of float16's range that it takes; above 1 it overflows."""
        return self.largest / LARGEST

    def is_lost(self, bound: float) -> bool:
        """Whether it is past its bound, or would overflow."""
        return not self.error <= bound or self.share > 1


def compare_layers(path: Path, feed: Mapping[str, Array]) -> list[Layer]:
    """Every float tensor of the graph at ``path``, in the order of its nodes. ``feed``: its inputs by name."""
    model = onnx.load(path)
    wide = widened(model)
    given = {name for node in model.graph.node for name in node.output}
    names = [
        value.name for value in _values(model) if value.type.tensor_type.elem_type in FLOATS and value.name in given
    ]
    found: dict[str, tuple[float, float]] = {}
    for part in _parts(model, names):
        exact = _run(wide, part, {name: _wide(value) for name, value in feed.items()})
        narrow = _run(model, part, feed) if _has_halves(model) else exact
        found |= {name: _measure(narrow[name], exact[name]) for name in part}
    return [
        Layer(name, node.name, node.op_type, *found[name])
        for node in model.graph.node
        for name in node.output
        if name in found
    ]


def output_errors(path: Path, feed: Mapping[str, Array], runner: Any) -> dict[str, float]:
    """Relative error of each output of the graph at ``path`` by another runner of Polygraphy, against float32."""
    model = onnx.load(path)
    names = [value.name for value in model.graph.output]
    exact = _run(widened(model), names, {name: _wide(value) for name, value in feed.items()})
    ((_, iterations),) = Comparator.run([runner], data_loader=[dict(feed)]).items()
    return {name: _measure(np.array(iterations[0][name]), exact[name])[1] for name in names}


def first_lost(layers: Sequence[Layer], bound: float) -> Layer | None:
    """The first that is past its bound."""
    return next((layer for layer in layers if layer.is_lost(bound)), None)


def nodes_to_keep(path: Path, layers: Sequence[Layer]) -> list[str]:
    """Nodes that must stay in float32: those that give numbers too large for float16, and those that take them."""
    large = {layer.tensor for layer in layers if layer.share > 1}
    graph = onnx.load(path, load_external_data=False).graph
    return [node.name for node in graph.node if large & {*node.input, *node.output} and not _is_rounding(node)]


def _is_rounding(node: onnx.NodeProto) -> bool:
    """Whether it makes float16 of something else."""
    return node.op_type == "Cast" and any(a.name == "to" and a.i == TensorProto.FLOAT16 for a in node.attribute)


def _values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.value_info, *model.graph.output]


def _parts(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[list[str]]:
    sizes = {
        value.name: 4 * int(np.prod([max(size.dim_value, 1) for size in value.type.tensor_type.shape.dim]))
        for value in _values(model)
    }
    part, nbytes = list[str](), 0
    for name in names:
        if part and nbytes + sizes[name] > PART_BYTES:
            yield part
            part, nbytes = [], 0
        part.append(name)
        nbytes += sizes[name]
    if part:
        yield part


def _run(model: onnx.ModelProto, names: Sequence[str], feed: Mapping[str, Array]) -> dict[str, Array]:
    """These tensors of a model in ONNX Runtime, whose own rewrites are off: they would hide what a node gives."""
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    marked = modify_outputs(marked, outputs=list(names))
    with tempfile.TemporaryDirectory(prefix="emo_rt-") as folder, G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        file = str(Path(folder) / "model.onnx")
        save_onnx(marked, file, external_data_path=f"{Path(file).stem}.bin")
        session = SessionFromOnnx(file, providers=["cpu"])
        results = Comparator.run([OnnxrtRunner(session)], data_loader=[dict(feed)])
        ((_, iterations),) = results.items()
        return {name: np.array(iterations[0][name]) for name in names}


def _measure(narrow: Array, exact: Array) -> tuple[float, float]:
    """Largest magnitude, and relative error."""
    exact = exact.astype(np.float64)
    largest = float(np.abs(exact).max(initial=0.0))
    if not np.isfinite(narrow).all():
        return largest, 0.0 if not np.isfinite(exact).all() else float("inf")
    distance = float(np.linalg.norm(narrow.astype(np.float64) - exact))
    return largest, distance / max(float(np.linalg.norm(exact)), 1e-12)


def _wide(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _has_halves(model: onnx.ModelProto) -> bool:
    return any(
        helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) == np.float16 for value in _values(model)
    )
