"""The package ``onnxruntime-gpu``: importing it, its options, and whether it really runs on the GPU."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from typing import Any

import numpy as np

from emo_rt.errors import BackendUnavailableError

PROVIDER = "CUDAExecutionProvider"

PROBE = (
    b'\x08\x08\x12\x00:z\n\x0f\n\x01x\n\x01w\x12\x01c"\x04Conv\n\x11\n\x01c\n\x01c\x12\x01y"\x06MatMul\x12\x05probe'
    b'*\x13\x08\x01\x08\x01\x08\x01\x08\x01\x10\x01"\x04\x00\x00\x00@B\x01wZ\x1b\n\x01x\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01'
    b"\n\x02\x08\x01\n\x02\x08\x02\n\x02\x08\x02b\x1b\n\x01y\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x02"
    b"\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
"""A small ONNX file with a convolution (cuDNN) and a product (cuBLAS): x (1, 1, 2, 2) → c = 2x → y = c·c."""

logger = logging.getLogger(__name__)


def import_onnxruntime() -> Any:
    """The module, if it can run on a GPU. Raises :class:`BackendUnavailableError`."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as exc:
        raise BackendUnavailableError("ONNX Runtime is not installed; install emo_rt[gpu]") from exc
    if PROVIDER not in onnxruntime.get_available_providers():
        raise BackendUnavailableError(
            f"the installed ONNX Runtime {onnxruntime.__version__} has no {PROVIDER}; uninstall onnxruntime and "
            "install emo_rt[gpu] (the two cannot be installed together)"
        )
    _preload(onnxruntime)
    return onnxruntime


@functools.cache
def _preload(onnxruntime: Any) -> None:
    """Load CUDA and cuDNN from their packages, where those are installed. What it prints goes to the log."""
    if not hasattr(onnxruntime, "preload_dlls"):
        return
    with contextlib.redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    for line in filter(None, said.getvalue().splitlines()):
        logger.info("ONNX Runtime: %s", line)


def open_session(ort: Any, source: Any, options: Any, provider: dict[str, str]) -> Any:
    """A session on a GPU. Left to itself ONNX Runtime prints an error and takes the CPU; here it raises its error."""
    return ort.InferenceSession(source, options, providers=[(PROVIDER, provider)], enable_fallback=0)


def require_gpu(ort: Any, index: int) -> None:
    """Run a convolution and a product once on GPU ``index``. Raises :class:`BackendUnavailableError`.

    A session opens without cuDNN, and without code for this card: only a run shows it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is in the error
    try:
        session = open_session(ort, PROBE, options, {"device_id": str(index)})
        check_provider("of a test", session.get_providers())
        session.run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})
    except BackendUnavailableError:
        raise
    except Exception as exc:  # ONNX Runtime's errors share no base class
        reason = " ".join(str(exc).split())
        raise BackendUnavailableError(
            f"ONNX Runtime cannot run a convolution and a matrix product on GPU {index}: {reason}; `emo-rt doctor` "
            "says which package fits this machine"
        ) from exc


def provider_options(dtype: str) -> dict[str, str]:
    """Options of the CUDA provider that depend on nothing but the bundle's float type."""
    return {
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and runs on a GPU with other tenants
        # Off, it takes the tensor cores from convolutions in float16, too (1.31 with cuDNN 9: 1.5 times the time of a
        # full-size step on an H100). A bundle in float32 is asked for exactness.
        "use_tf32": "0" if dtype == "float32" else "1",
    }


def check_provider(graph: str, providers: list[str]) -> None:
    """ONNX Runtime falls back to the CPU without an error. Raises :class:`BackendUnavailableError` if it did."""
    if providers[0] != PROVIDER:
        raise BackendUnavailableError(
            f"ONNX Runtime opened graph {graph} on {providers[0]}, not on {PROVIDER}: its CUDA or cuDNN libraries do "
            "not load; `emo-rt doctor` lists what is installed, and the log of ONNX Runtime names the library"
        )
