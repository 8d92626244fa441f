"""How much memory does each graph of a bundle take with the real onnxruntime-gpu? Counted on the simulated card.

    python -m tests.card.environment --memory BUNDLE

No byte is moved, so a full-size bundle needs no memory of this machine but that for its files. Not counted: what CUDA
and its libraries take for themselves, and cuDNN's workspaces. Graphs are opened and run one by one, as a run of the
library opens them; those of one run add up.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, replace

from emo_rt import Bundle
from emo_rt.device.buffers import Buffers
from emo_rt.device.cuda import open_device
from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
from emo_rt.model.contract import GraphSpec, TensorSpec
from tests.card.build import Control

RUNS = 3
"""The memory pool grows in the first two."""
SECONDS = 1
"""Sound that a graph of any length gets."""


@dataclass(frozen=True)
class Use:
    """Memory of one graph, in bytes."""

    weights: int
    """After opening."""
    tensors: int
    """Its inputs and outputs; graphs of one run share many of them."""
    running: int
    """What running it took besides, and keeps."""


def count(bundle: Bundle, graph: str, card: Control) -> Use:
    """Open a graph, run it, close it."""
    with OrtCudaBackend(open_device()) as backend:
        before = card.count("device_bytes")
        opened = backend.open(bundle, graph)
        weights = card.count("device_bytes") - before
        with Buffers(backend, static(bundle, opened.spec)) as buffers, closing(opened.bind(buffers)) as bound:
            tensors = card.count("device_bytes") - before - weights
            for _ in range(RUNS):
                bound.run()
            return Use(weights, tensors, card.count("device_bytes") - before - weights - tensors)


def static(bundle: Bundle, spec: GraphSpec) -> list[TensorSpec]:
    """Inputs and outputs of a graph with all their sizes."""
    frames = SECONDS * bundle.config.fps
    sizes = {"samples": SECONDS * 16_000, "video_frames": frames}
    tensors = (*spec.inputs, *spec.outputs)
    return [
        replace(tensor, shape=tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape))
        for tensor in tensors
    ]


def main() -> None:
    """Print one line per graph."""
    bundle, card = Bundle.open(sys.argv[1], verify=False), Control()
    sys.stdout.write(f"{'MB':24}{'weights':>10}{'tensors':>10}{'running':>10}\n")
    for graph in bundle.graphs:
        use = count(bundle, graph, card)
        row = "".join(f"{nbytes / 1e6:10.0f}" for nbytes in (use.weights, use.tensors, use.running))
        sys.stdout.write(f"{graph:24}{row}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
