"""Backends, and the only place that compares their names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from emo_rt.checks import check
from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.errors import BackendUnavailableError, EmoRtError, EngineStaleError
from emo_rt.model.bundle import Bundle

__all__ = ["Backend", "BoundGraph", "Graph", "open_backend"]

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "onnxruntime", "openvino", "openvino-bf16", "tensorrt")

PREFERENCE = (("tensorrt", "cuda"), ("onnxruntime", "cuda"), ("onnxruntime", "cpu"))
"""(backend, device), in the order in which ``auto`` tries them: the fastest first."""
ON_DEMAND = (("openvino", "cpu"), ("openvino-bf16", "cpu"))
"""Those that only their name chooses: an installed package must not change what a seed gives."""

REMEDY = "use device 'cpu' or 'auto', with backend 'onnxruntime' or 'auto'; `emo-rt doctor` says what is here"

Choice = tuple[str, str]

logger = logging.getLogger(__name__)


def open_backend(
    backend: str = "auto", device: str = "auto", threads: int | None = None, bundle: Bundle | None = None
) -> Backend:
    """The requested backend on the requested device.

    ``bundle``: what will be opened; TensorRT is chosen by itself only if this has an engine for every graph. Only
    ``auto`` chooses by itself, and says so once in the log. Raises :class:`BackendUnavailableError` for a backend or
    device that cannot be had, with the reasons, :class:`ConfigError` for an unknown name.
    """
    check(backend in BACKENDS, "backend", backend, f"one of {', '.join(BACKENDS)}")
    check(device in DEVICES, "device", device, f"one of {', '.join(DEVICES)}")
    usable = threads is None or (type(threads) is int and 1 <= threads <= 1024)
    check(usable, "threads", threads, "an integer from 1 to 1024, or None")
    known = PREFERENCE if backend == "auto" else (*PREFERENCE, *ON_DEMAND)
    choices = [(b, d) for b, d in known if backend in ("auto", b) and device in ("auto", d)]
    if not choices:
        raise BackendUnavailableError(
            f"backend {backend!r} does not run on device {device!r}; use device 'cuda' or 'auto'"
        )
    named = [f"{kind} {name!r}" for kind, name in (("device", device), ("backend", backend)) if name != "auto"]
    chosen, reasons = _first(choices, threads, bundle)
    if chosen is None and choices[-1] == PREFERENCE[-1]:  # not even the CPU: its reason is the one to act on
        raise BackendUnavailableError("; ".join(reversed(reasons)))
    if chosen is None:
        raise BackendUnavailableError(f"{' and '.join(named)} cannot be had: {'; '.join(reasons)}; {REMEDY}")
    if "auto" in (backend, device):
        because = f", because {'; '.join(reasons)}" if reasons else ""
        logger.info("running on %s (%s)%s", chosen.device, chosen.name, because)
    return chosen


def _first(choices: list[Choice], threads: int | None, bundle: Bundle | None) -> tuple[Backend | None, list[str]]:
    """The first that opens, and why those before it did not."""
    reasons: list[str] = []
    if any(device == "cuda" for _, device in choices) and (problem := _gpu_problem()):
        reasons.append(problem)
        choices = [(name, device) for name, device in choices if device != "cuda"]
    for name, device in choices:
        try:
            if len(choices) > 1:
                _require_engines(name, bundle)
            return _OPENERS[name, device](threads), reasons
        except EmoRtError as exc:
            reasons.append(f"{name} on {device}: {exc}" if device == "cuda" and len(choices) > 1 else str(exc))
    return None, reasons


def _gpu_problem() -> str | None:
    """Why no GPU can be used, if none can: asked before anything large is imported."""
    from emo_rt.device.tensorrt.gpus import current_gpu

    try:
        current_gpu()
    except BackendUnavailableError as exc:
        return str(exc)
    return None


def _require_engines(name: str, bundle: Bundle | None) -> None:
    """``auto`` must not choose TensorRT and then stop for want of an engine. Raises :class:`EmoRtError`."""
    if name != "tensorrt":
        return
    if bundle is None:
        raise EngineStaleError("no bundle is known whose engines could be used")
    from emo_rt.device.tensorrt.gpus import current_gpu
    from emo_rt.device.tensorrt.package import load_package
    from emo_rt.device.tensorrt.plan import find_plan

    package, gpu = load_package(), current_gpu()
    for graph in bundle.graphs:
        find_plan(bundle, graph, package, gpu)


def _open_cpu(threads: int | None) -> Backend:
    from emo_rt.device.onnxruntime_cpu import OrtBackend

    return OrtBackend(threads)


def _open_openvino(threads: int | None, *, bf16: bool = False) -> Backend:
    from emo_rt.device.openvino import OvBackend

    return OvBackend(threads, bf16=bf16)


def _open_onnxruntime(_: int | None) -> Backend:
    from emo_rt.device.cuda import open_device
    from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
    from emo_rt.device.onnxruntime_gpu import import_onnxruntime

    import_onnxruntime()  # before a CUDA context takes memory
    return OrtCudaBackend(open_device())


def _open_tensorrt(_: int | None) -> Backend:
    from emo_rt.device.cuda import open_device
    from emo_rt.device.tensorrt.graph import TrtBackend

    return TrtBackend(open_device())


_OPENERS: dict[tuple[str, str], Callable[[int | None], Backend]] = {
    ("tensorrt", "cuda"): _open_tensorrt,
    ("onnxruntime", "cuda"): _open_onnxruntime,
    ("onnxruntime", "cpu"): _open_cpu,
    ("openvino", "cpu"): _open_openvino,
    ("openvino-bf16", "cpu"): partial(_open_openvino, bf16=True),
}
