"""ONNX Runtime on a GPU, bound to our buffers, on our own streams.

Capture. ONNX Runtime cannot be captured from outside: with its own graphs off, a run frees pinned memory, which a
capturing stream forbids, and the process ends (microsoft/onnxruntime pull request 32081, measured on an H200; error 800
from ``cudaFreeHost``). So the solver loop is launched step by step here. Each step graph is bound twice, for even and
odd steps, and each of the two is a CUDA graph that ONNX Runtime captures itself (``enable_cuda_graph``, with a
``gpu_graph_id`` of its own). Those belong to the thread that captured them, hence one thread for all runs of a graph.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from emo_rt.device.base import BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda import Device
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_form import cuda_form
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.nvtx import marked
from emo_rt.device.onnxruntime_cpu import check_nodes
from emo_rt.errors import BackendError, BackendUnavailableError, ClosedError, DeviceLostError, EmoRtError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec

PROVIDER = "CUDAExecutionProvider"
SELF_CAPTURED = ("step",)
"""Graphs that run often enough to be worth a capture."""
WARM_RUNS = 3
"""Runs until ONNX Runtime replays its own graph: two that fill its memory pool, one that captures."""

PROBE = (
    b'\x08\x08:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""The smallest ONNX file: y = −x for one number."""

logger = logging.getLogger(__name__)


def import_onnxruntime() -> Any:
    """The module, if it can run on a GPU. Raises :class:`BackendUnavailableError`."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as exc:
        raise BackendUnavailableError("ONNX Runtime is not installed; install emo_rt[gpu]") from exc
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their packages, where those are installed
    if PROVIDER not in onnxruntime.get_available_providers():
        raise BackendUnavailableError(
            f"the installed ONNX Runtime {onnxruntime.__version__} has no {PROVIDER}; uninstall onnxruntime and "
            "install emo_rt[gpu] (the two cannot be installed together)"
        )
    return onnxruntime


class OrtCudaBackend(CudaBackend):
    """ONNX Runtime's CUDA execution provider."""

    name = "onnxruntime"

    def __init__(self, cuda: Device, *, external_capture: bool = False, own_graphs: bool = True) -> None:
        """``external_capture``: let the whole loop be captured from outside, which ends the process with releases up
        to 1.31. ``own_graphs``: let ONNX Runtime capture the steps. Raises :class:`BackendUnavailableError`.
        """
        self._ort = import_onnxruntime()
        probe = self._ort.InferenceSession(PROBE, providers=[(PROVIDER, {"device_id": str(cuda.index)})])
        check_provider("of a test", probe.get_providers())
        self._external, self._own = external_capture, own_graphs and not external_capture
        super().__init__(cuda)

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        return OrtCudaGraph(
            self._ort, bundle, graph, stream, self._own and bundle.graphs[graph].role in SELF_CAPTURED, self._external
        )


class OrtCudaGraph(Graph):
    """One graph in ONNX Runtime on one stream."""

    def __init__(
        self, ort: Any, bundle: Bundle, graph: str, stream: CudaStream, own_graphs: bool, external_capture: bool
    ) -> None:
        self.spec: GraphSpec = bundle.graphs[graph]
        self.stream = stream
        self.warm_runs = WARM_RUNS
        self.own_graphs = own_graphs
        """Whether ONNX Runtime captures the runs itself."""
        if not external_capture:
            how = "it replays a CUDA graph of its own for each step" if own_graphs else "each run is launched by itself"
            self.capture_obstacle = f"ONNX Runtime cannot be captured from outside; {how}"
        else:
            self.capture_obstacle = None
        self._ort, self._bundle = ort, bundle
        self._ids = itertools.count(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"emo_rt-{graph}")
        self._inner: Any = None
        try:
            self.call(self._open)
        except BaseException:
            self.close()
            raise

    @property
    def inner(self) -> Any:
        """ONNX Runtime's session. Raises :class:`ClosedError` after :meth:`close`."""
        if self._inner is None:
            raise ClosedError(f"graph {self.spec.name} was closed")
        return self._inner

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        return OrtCudaBoundGraph(self, buffers)

    def call(self, work: Any) -> Any:
        """Do something in the thread that all runs of this graph share."""
        return self._thread.submit(work).result()

    def run_options(self) -> Any:
        """Options for the runs of a bound graph: the host does not wait, and its CUDA graph has a number of its own."""
        options = self._ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if self.own_graphs:
            options.add_run_config_entry("gpu_graph_id", str(next(self._ids)))
        return options

    def give_up_own_graphs(self, reason: str) -> None:
        """Open the graph again without: it is slower, and works."""
        logger.warning(
            "graph %s: ONNX Runtime cannot capture it, so it is launched uncaptured: %s", self.spec.name, reason
        )
        self.own_graphs = False
        self.capture_obstacle = "ONNX Runtime cannot be captured from outside, and could not capture it itself"
        self.call(self._open)

    def close(self) -> None:
        self._inner = None
        self._thread.shutdown()

    def _open(self) -> None:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        # Patterns make the arena grow again at the second run: 54 GB for a guided full-size run on an H100, 28 without.
        options.enable_mem_pattern = False
        form = cuda_form(self._bundle.graph_path(self.spec.name), self._bundle.dtype)
        for key, value in form.session_entries.items():
            options.add_session_config_entry(key, value)
        provider = (PROVIDER, self._provider_options() | form.provider_options)
        try:
            inner = self._ort.InferenceSession(form.model, options, providers=[provider])
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise self.stream.device.health.failed(
                f"load graph {self.spec.name} of {self._bundle.path}", str(exc)
            ) from exc
        check_provider(self.spec.name, inner.get_providers())
        check_nodes(self.spec, inner)
        self._inner = inner

    def _provider_options(self) -> dict[str, str]:
        return {
            **provider_options(self._bundle.dtype),
            "device_id": str(self.stream.device.index),
            "user_compute_stream": str(self.stream.inner.handle),
            "enable_cuda_graph": "1" if self.own_graphs else "0",
        }


class OrtCudaBoundGraph(BoundGraph):
    """An IO binding to device memory."""

    def __init__(self, graph: OrtCudaGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph = graph
        self._bound = BoundTensors(graph.spec, buffers)
        self._options = graph.run_options()
        self._runs = 0
        self._bind()

    def rebind(self, name: str, buffer: Buffer) -> None:
        if self._graph.own_graphs:
            raise BackendError(f"graph {self._graph.spec.name} is a CUDA graph: its addresses are fixed")
        self._bound.replace(name, buffer)
        self._bind_one(name)

    def run(self) -> None:
        stream = self._graph.stream
        with stream.inner.lock, marked(self._graph.spec.name):
            stream.device.health.require_alive()
            _ = stream.inner.handle  # refuses when the animator was closed
            try:
                self._graph.call(self._run)
            except EmoRtError:
                raise
            except Exception as exc:  # noqa: BLE001 - ONNX Runtime's errors share no base class
                self._recover(exc)

    def _run(self) -> None:
        inner = self._graph.inner
        if inner is not self._inner:  # it was opened again
            self._options = self._graph.run_options()
            self._bind()
        inner.run_with_iobinding(self._binding, self._options)
        self._runs += 1

    def _recover(self, exc: Exception) -> None:
        """A capture that fails shows in the first runs; the work can be launched uncaptured then."""
        graph, health = self._graph.spec.name, self._graph.stream.device.health
        error = health.failed(f"run graph {graph}", str(exc))
        if isinstance(error, DeviceLostError) or not self._graph.own_graphs or self._runs >= WARM_RUNS:
            raise error from exc
        self._graph.give_up_own_graphs(str(exc))
        with health.check(f"run graph {graph}"):
            self._graph.call(self._run)

    def _bind(self) -> None:
        self._inner = self._graph.inner
        self._binding = self._inner.io_binding()
        for name in self._bound.buffers:
            self._bind_one(name)

    def _bind_one(self, name: str) -> None:
        buffer, index = self._bound.buffers[name], self._graph.stream.device.index
        bind = self._binding.bind_input if name in self._bound.inputs else self._binding.bind_output
        bind(name, "cuda", index, np.dtype(buffer.dtype), buffer.shape, buffer.pointer)


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
