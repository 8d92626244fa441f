"""The form of a graph that ONNX Runtime's CUDA provider runs fastest: an exact rewrite, made when a graph is opened.

A bundle holds plain ONNX, which the CPU and TensorRT fuse by themselves. ONNX Runtime's CUDA provider has no kernel for
``GroupNormalization``, fuses no GEGLU, and adds each bias and residual by itself; it has operators of its own for all
(domain ``com.microsoft``). They exist on that provider alone, so they are put in here and nowhere else. Nothing is
written: weights stay in their files.

On an H100 a full-size guided step in fp16 took 203 ms as exported, and 152 ms when it was rewritten so by hand
(``benchmarks/README.md``); ``emo_rt.benchmarks.gpu_graph`` measures the two.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where ONNX Runtime looks for the weight files of a model that it gets as bytes."""


@dataclass(frozen=True)
class CudaForm:
    """What ONNX Runtime opens."""

    model: str | bytes
    """The graph's file, or the rewritten graph."""
    session_entries: dict[str, str] = field(default_factory=dict)
    """Configuration entries of the session."""
    provider_options: dict[str, str] = field(default_factory=dict)
    """Options of the CUDA provider."""
    replaced: dict[str, int] = field(default_factory=dict)
    """Operators that were put in, with their number, and group norms that stayed."""


def cuda_form(path: Path, dtype: str) -> CudaForm:
    """The form of the graph at ``path``; the file itself where there is nothing to rewrite. ``dtype``: the bundle's.

    Needs the package ``onnx``, which the extra ``gpu`` brings; without it the file is taken as it is, with a warning.
    """
    if importlib.util.find_spec("onnx") is None:
        logger.warning("the package onnx is not installed, so graphs run unfused and slower; install emo_rt[gpu]")
        return CudaForm(str(path))
    from emo_rt.device.cuda_form.passes import rewritten

    model, replaced = rewritten(path.read_bytes())
    if replaced.keys() <= {"GroupNormalization"}:
        return CudaForm(str(path))
    # Convolutions channels last pay where every norm is, and where tensor cores compute them: in float16.
    norms = replaced.keys() & {"GroupNorm", "SkipGroupNorm", "LayerNormalization", "GroupNormalization"}
    is_last = dtype == "float16" and bool(norms) and norms <= {"GroupNorm", "SkipGroupNorm"}
    channels_last = {"prefer_nhwc": "1"} if is_last else {}
    return CudaForm(model, {WEIGHTS_FOLDER: str(path.parent)}, channels_last, replaced)
