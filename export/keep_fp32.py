"""Nodes of a graph in float16 that compute in float32: those that a file names.

``python -m emo_rt.engines.accuracy`` writes such files: a line per node, ``GRAPH NODE``. Between two of them nothing is
rounded, so that a number too large for float16 gets as far as it must.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx_ir as ir

from emo_rt.errors import ConfigError, ExportError


def read_keep_fp32(path: Path) -> dict[str, tuple[str, ...]]:
    """Graph → names of nodes. Empty lines and those that begin with ``#`` say nothing. Raises :class:`ConfigError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.lstrip().startswith("#"):
            continue
        if len(words) != 2:
            raise ConfigError(f"line {number} of {path} is {line!r}; expected a graph and a node")
        found.setdefault(words[0], []).append(words[1])
    return {graph: tuple(names) for graph, names in found.items()}


def check_graphs(keep: Mapping[str, Collection[str]], graphs: Collection[str]) -> None:
    """Raise :class:`ConfigError` for a graph that the model does not have."""
    unknown = sorted(keep.keys() - set(graphs))
    if unknown:
        raise ConfigError(f"keep_fp32 names the graphs {', '.join(unknown)}; this model has {', '.join(graphs)}")


def keep_in_fp32(model: ir.Model, graph: str, names: Collection[str]) -> None:
    """Let the nodes of these names compute in float32. Raises :class:`ExportError` for a name that is not there."""
    nodes = [node for node in model.graph if node.name in set(names)]
    missing = sorted(set(names) - {node.name or "" for node in nodes})
    if missing:
        raise ExportError(f"graph {graph} has no node {', '.join(missing)}; list its nodes anew for this model")
    rounding = [node.name for node in nodes if node.op_type == "Cast" and node.outputs[0].dtype == ir.DataType.FLOAT16]
    if rounding:
        raise ExportError(f"graph {graph}: node {rounding[0]} makes float16 of something else; it cannot be kept")
    wide: dict[ir.Value, ir.Value] = {}
    for node in nodes:  # in the graph's order: what a node takes from another was widened before
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT16:
                node.replace_input_with(index, _widened(model.graph, node, value, wide))
        for output in list(node.outputs):
            if output.dtype == ir.DataType.FLOAT16:
                _narrow(model.graph, node, output, wide)


def _widened(graph: ir.Graph, node: ir.Node, value: ir.Value, wide: dict[ir.Value, ir.Value]) -> ir.Value:
    """The value in float32: as a kept node gave it, or cast."""
    if value not in wide:
        cast = _cast(f"{value.name}_wide", value, ir.DataType.FLOAT)
        graph.insert_before(node, cast)  # other kept nodes that take it come later
        wide[value] = cast.outputs[0]
    return wide[value]


def _narrow(graph: ir.Graph, node: ir.Node, output: ir.Value, wide: dict[ir.Value, ir.Value]) -> None:
    """Give a kept node's output to others as float16; other kept nodes take it as it is."""
    name = output.name
    output.name, output.dtype = f"{name}_kept", ir.DataType.FLOAT
    cast = _cast(name or "", output, ir.DataType.FLOAT16)
    narrow = cast.outputs[0]
    for user, index in list(output.uses()):
        if user is not cast:
            user.replace_input_with(index, narrow)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = narrow
    graph.insert_after(node, cast)
    wide[narrow] = output


def _cast(name: str, source: ir.Value, dtype: ir.DataType) -> ir.Node:
    node = ir.node("Cast", [source], attributes={"to": dtype}, name=f"{name}/cast")
    (result,) = node.outputs
    result.name, result.dtype, result.shape = name, dtype, source.shape
    return node
