"""How close an exported graph is to the torch module that it was traced from.

As a command, `python -m emo_rt.export.parity GOLDEN_DIR`, it holds the whole model against the original code's numbers;
that is :mod:`emo_rt.export.golden`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from emo_rt.errors import ExportError
from emo_rt.export.graph_modules import GraphModule, example_inputs

BOUNDS = {"float32": 1e-4, "float16": 1e-2}
"""Largest relative error ‖ours − torch‖ / ‖torch‖ of an output, by the network's float type.

fp32: another order of summation; measured up to 4e-6. fp16: both sides round to 11 bits, at different places; measured
up to 2.2e-3."""

PIXEL_BOUND = 1e-3
"""The same of bytes, whatever the float type allows less: a value on the edge between two bytes may fall to either
side. In fp32 that is 1 byte in 10,000, which alone makes 9e-5 (full-size VAE)."""


@dataclass(frozen=True)
class ParityRow:
    """One output of one graph, ONNX Runtime against torch."""

    graph: str
    """Name of the graph."""
    tensor: str
    """The output with the largest relative error of its kind (the part of the name before the dot)."""
    relative: float
    """‖ours − torch‖ / ‖torch‖."""
    maximum: float
    """Largest absolute difference."""
    bound: float
    """Allowed relative error."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)


def check_graph(module: GraphModule, path: Path) -> list[ParityRow]:
    """Run the graph at ``path`` and ``module`` on the same random inputs; the worst output of each kind is a row.

    Raises :class:`ExportError` when one is past :data:`BOUNDS`.
    """
    examples = example_inputs(module.spec, module.model.config, seed=1)
    with torch.no_grad():
        expected = module(*(examples[tensor.name] for tensor in module.spec.inputs))
    session = onnxruntime.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in examples.items()})
    network_bound = BOUNDS[str(module.model.dtype).removeprefix("torch.")]
    worst: dict[str, ParityRow] = {}
    for tensor, ours, theirs in zip(module.spec.outputs, found, expected, strict=True):
        bound = max(network_bound, PIXEL_BOUND) if tensor.dtype == "uint8" else network_bound
        row = compare(module.spec.name, tensor.name, ours, theirs.numpy(), bound)
        kind = tensor.name.split(".")[0]
        if kind not in worst or row.relative > worst[kind].relative:
            worst[kind] = row
    rows = list(worst.values())
    failed = [row for row in rows if not row.relative <= row.bound]
    if failed:
        raise ExportError(f"graph {module.spec.name} differs from torch:\n{format_table(failed)}")
    return rows


def compare(graph: str, tensor: str, ours: np.ndarray, theirs: np.ndarray, bound: float) -> ParityRow:
    """A row from two arrays of any type. What is not finite, on either side, fails every bound."""
    with np.errstate(invalid="ignore"):
        difference = ours.astype(np.float64) - theirs.astype(np.float64)
    norm = float(np.linalg.norm(theirs.astype(np.float64)))
    relative = float(np.linalg.norm(difference)) / max(norm, 1e-12)
    relative = relative if math.isfinite(relative) else math.inf  # NaN compares as no worse than any number
    return ParityRow(graph, tensor, relative, float(np.abs(difference).max(initial=0.0)), bound)


def format_table(rows: list[ParityRow]) -> str:
    """Rows as aligned text."""
    lines = [f"{'graph':<16} {'output':<32} {'relative':>10} {'maximum':>10} {'bound':>8}"]
    lines += [f"{r.graph:<16} {r.tensor:<32} {r.relative:>10.1e} {r.maximum:>10.1e} {r.bound:>8.0e}" for r in rows]
    return "\n".join(lines)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


if __name__ == "__main__":
    from emo_rt.export.golden import main

    raise SystemExit(main())
