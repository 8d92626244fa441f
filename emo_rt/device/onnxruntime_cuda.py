"""ONNX Runtime on a GPU, bound to our buffers, on our own streams.

Capture. ONNX Runtime cannot be captured from outside: with its own graphs off, a run frees pinned memory, which a
capturing stream forbids, and the process ends (microsoft/onnxruntime pull request 32081, measured on an H200; error 800
from ``cudaFreeHost``). So the solver loop is launched step by step here. Each step graph is bound twice, for even and
odd steps, and each of the two is a CUDA graph that ONNX Runtime captures itself (``enable_cuda_graph``, with a
``gpu_graph_id`` of its own). Those belong to the thread that captured them, hence one thread for all runs of a graph.
"""

from __future__ import annotations

from emo_rt.device.base import Graph
from emo_rt.device.cuda import Device
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.graph_memory import GraphMemory
from emo_rt.device.onnxruntime_cuda_graph import OrtCudaGraph
from emo_rt.device.onnxruntime_gpu import import_onnxruntime, require_gpu
from emo_rt.errors import MissingDependencyError
from emo_rt.model.bundle import Bundle

SELF_CAPTURED = ("step",)
"""Graphs that run often enough to be worth a capture."""


class OrtCudaBackend(CudaBackend):
    """ONNX Runtime's CUDA execution provider."""

    name = "onnxruntime"

    def __init__(self, cuda: Device, *, external_capture: bool = False, own_graphs: bool = True) -> None:
        """``external_capture``: let the whole loop be captured from outside, which ends the process with releases up
        to 1.31. ``own_graphs``: let ONNX Runtime capture the steps. Raises :class:`BackendUnavailableError`.
        """
        self._ort = import_onnxruntime()
        with cuda.capture_lock.shared():
            require_gpu(self._ort, cuda.index)
        self._external, self._own = external_capture, own_graphs and not external_capture
        super().__init__(cuda)

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        return OrtCudaGraph(
            self._ort, bundle, graph, stream, self._own and bundle.graphs[graph].role in SELF_CAPTURED, self._external
        )

    def graph_memory(self, bundle: Bundle, graph: str) -> GraphMemory | None:
        return onnxruntime_memory(bundle, graph)


def onnxruntime_memory(bundle: Bundle, graph: str) -> GraphMemory:
    """What a graph will take on a GPU. Needs no GPU. Raises :class:`MissingDependencyError` without ``onnx``."""
    try:
        from emo_rt.device.cuda_form.memory import graph_memory
    except ImportError as exc:
        raise MissingDependencyError(f"reckoning memory needs {exc.name}; install emo_rt[gpu]") from exc
    return graph_memory(bundle.graph_path(graph), bundle.dtype)
