"""`python -m emo_rt.engines.accuracy BUNDLE GRAPH`: which layer of a graph loses precision, and what to do about it.

A bundle in float16 is held against the same graph in float32. For one in float32 only the range of each tensor is told:
what float16 would not hold. ``--keep FILE`` writes the nodes that must stay in float32, for
``emo-rt export --keep-fp32 FILE``. ``--against ENGINE`` holds the outputs of a TensorRT engine against float32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emo_rt.engines.against import against_engine, find_engine
from emo_rt.errors import ConfigError, EmoRtError, InputError, MissingDependencyError
from emo_rt.files import whole_file
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, GraphSpec
from emo_rt.model.examples import example_inputs

BOUND = 0.05
"""Relative error of a tensor that counts as lost; exports in float16 stay under 0.01 (:mod:`emo_rt.export.parity`)."""
SHOWN = 10
"""Tensors in a table."""


def example_feed(spec: GraphSpec, config: ModelConfig, seed: int = 0) -> dict[str, Array]:
    """Random inputs of a graph, in the ranges that the runtime hands it."""
    rng = np.random.default_rng(seed)
    found = example_inputs(spec, config, lambda shape: rng.standard_normal(shape, np.float32))
    return {tensor.name: found[tensor.name].astype(tensor.dtype) for tensor in spec.inputs}


def read_feed(path: Path, spec: GraphSpec) -> dict[str, Array]:
    """Inputs of a real run, an ``.npz`` file with an array per input. Raises :class:`InputError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            feed = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} is no .npz file with the inputs of a graph: {exc}") from exc
    wanted = {tensor.name: tensor.shape for tensor in spec.inputs}
    found = {name: array.shape for name, array in feed.items()}
    if wanted.keys() != found.keys():
        raise InputError(f"{path} has the inputs {sorted(found)}; expected {sorted(wanted)}")
    return {tensor.name: feed[tensor.name].astype(tensor.dtype) for tensor in spec.inputs}


@dataclass(frozen=True)
class Finding:
    """What the comparison of one graph came to."""

    text: str
    """A report for people."""
    keep: list[str]
    """Names of the nodes to keep in float32."""
    is_lost: bool
    """Whether a layer is past its bound."""


def accuracy(bundle: Bundle, graph: str, feed: dict[str, Array], bound: float) -> Finding:
    """Hold every layer of a graph against float32."""
    try:
        from emo_rt.engines.layers import compare_layers, first_lost, nodes_to_keep
    except ImportError as exc:
        raise MissingDependencyError(f"comparing layers needs {exc.name}; install emo_rt[engines,cpu]") from exc
    path = bundle.graph_path(graph)
    layers = compare_layers(path, feed)
    keep, lost = nodes_to_keep(path, layers), first_lost(layers, bound)
    lines = [f"{graph} of {bundle.path}: {len(layers)} tensors, bound {bound:g}"]
    lines.append("no layer is past its bound" if lost is None else f"first layer past its bound: {_line(lost)}")
    lines += ["", "nearest to the end of float16's range, or past it:"]
    lines += [f"  {_line(one)}" for one in sorted(layers, key=lambda one: -one.share)[:SHOWN]]
    lines += ["", "largest relative error:"]
    lines += [f"  {_line(one)}" for one in sorted(layers, key=lambda one: -one.error)[:SHOWN]]
    lines += ["", f"{len(keep)} nodes must stay in float32" if keep else "no node must stay in float32"]
    return Finding("\n".join(lines), keep, lost is not None)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.engines.accuracy", description=(__doc__ or "").strip())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder")
    parser.add_argument("graph", metavar="GRAPH", help="one of its graphs")
    parser.add_argument("--against", metavar="ENGINE", type=Path, help="plan of TensorRT whose outputs are compared")
    parser.add_argument("--inputs", metavar="FILE.npz", type=Path, help="inputs of a real run (default: random ones)")
    parser.add_argument("--bound", type=float, default=BOUND, help="relative error of a tensor (default: %(default)g)")
    parser.add_argument("--keep", metavar="FILE", type=Path, help="write the nodes that must stay in float32")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 where no layer is past its bound, 1 where one is, 2 for a wrong setting."""
    given = make_parser().parse_args(arguments)
    try:
        return _run(given)
    except EmoRtError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2 if isinstance(exc, ConfigError) else 1


def _run(given: argparse.Namespace) -> int:
    bundle = Bundle.open(given.bundle)
    if given.graph not in bundle.graphs:
        raise ConfigError(f"graph is {given.graph!r}; expected one of {', '.join(bundle.graphs)}")
    spec = bundle.graphs[given.graph]
    if given.against is not None:
        find_engine(bundle, given.graph, given.against)
    feed = example_feed(spec, bundle.config) if given.inputs is None else read_feed(given.inputs, spec)
    if given.against is not None:
        sys.stdout.write(against_engine(bundle, given.graph, feed, given.against) + "\n")
        return 0
    found = accuracy(bundle, given.graph, feed, given.bound)
    sys.stdout.write(found.text + "\n")
    if given.keep is not None:
        with whole_file(given.keep) as scratch:
            scratch.write_text("".join(f"{given.graph} {node}\n" for node in found.keep), encoding="utf-8")
    return int(found.is_lost)


def _line(layer: Any) -> str:
    return (
        f"{layer.tensor} of {layer.operator} {layer.node}: up to {layer.largest:.3g}, {layer.share:.1%} of float16's "
        f"range, error {layer.error:.1e}"
    )


if __name__ == "__main__":
    sys.exit(main())
