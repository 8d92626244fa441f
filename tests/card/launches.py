"""What does a graph launch in one run with the real onnxruntime-gpu, and how often? Counted on the simulated card.

    python -m tests.card.environment --launches BUNDLE [--graph step]… [--names]

Kernels by kind, products and convolutions (calls of cuBLAS and cuDNN, without what these launch besides), copies and
memsets. Run once to warm up, then counted. No byte is moved, so a bundle of full size with holes for weights does
(``tests/card/hollow.py``).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from emo_rt import Bundle
from emo_rt.device.buffers import Buffers
from emo_rt.device.cuda import open_device
from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
from tests.card.build import Control
from tests.card.memory import static

KINDS = {
    "matrix product": r"^cublas.*[gG]emm",
    "convolution": r"^cudnn(BackendExecute|Convolution)",
    "bias of a convolution": r"^cudnnAddTensor",
    "attention": r"flash|fmha|AttentionKernel",
    "sums of a group norm": r"roupNorm\w*SumKernel",
    "rest of a group norm": r"roupNorm",
    "layer norm, with a residual": r"SkipLayerNorm",
    "layer norm": r"LayerNorm",
    "bias, split and GELU": r"[bB]iasSplitGelu",
    "bias and residual": r"[bB]iasAdd",
    "bias of a product": r"BroadcastBiasKernel",
    "transpose": r"ranspose|NCHW|NHWC",
    "sum or product of elements": r"BinaryElementWise",
    "function of elements": r"UnaryElementWise",
    "concatenation": r"Concat",
    "split or slice": r"Split|Slice",
    "expansion": r"Expand",
    "resize": r"Resize|Upsample",
    "gather": r"Gather",
    "copy": r"^copy$",
    "memset": r"^fill$",
}
"""Kind → what the names of its kernels contain; the first that fits counts."""


def count(bundle: Bundle, graph: str, card: Control) -> dict[str, int]:
    """Open a graph, run it twice; the second run's launches by name."""
    with OrtCudaBackend(open_device(), own_graphs=False) as backend:
        opened = backend.open(bundle, graph)
        with Buffers(backend, static(bundle, opened.spec)) as buffers, closing(opened.bind(buffers)) as bound:
            bound.run()
            card.reset()
            bound.run()
            return card.launches()


def kinds(launches: Mapping[str, int]) -> Counter[str]:
    """Launches by :data:`KINDS`; what fits none by its own name."""
    found: Counter[str] = Counter()
    for name, number in launches.items():
        found[next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), readable(name))] += number
    return found


def readable(name: str) -> str:
    """A mangled name as C++ has it, if this machine can tell."""
    try:
        done = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return name
    return done.stdout.strip()


def main() -> None:
    """Print one table per graph."""
    parser = argparse.ArgumentParser(description="Launches of one run of a graph.")
    parser.add_argument("bundle")
    parser.add_argument("--graph", action="append", help="default: step")
    parser.add_argument("--names", action="store_true", help="each kernel by itself")
    given = parser.parse_args()
    bundle, card = Bundle.open(given.bundle, verify=False), Control()
    for graph in given.graph or ["step"]:
        launches = count(bundle, graph, card)
        rows = Counter({readable(name): n for name, n in launches.items()}) if given.names else kinds(launches)
        sys.stdout.write(f"{graph:40}{sum(launches.values()):7}\n")
        sys.stdout.writelines(f"  {kind[:160]:38}{number:7}\n" for kind, number in rows.most_common())
        sys.stdout.flush()


if __name__ == "__main__":
    main()
