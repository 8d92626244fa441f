"""ONNX Runtime on the CPU, bound to our buffers: graphs read and write them in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emo_rt.device.base import Graph, check_names
from emo_rt.device.buffers import Buffer
from emo_rt.device.cpu_backend import CpuBackend, CpuBoundGraph, CpuGraph
from emo_rt.errors import BackendError, BackendUnavailableError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec

PROVIDER = "CPUExecutionProvider"


class OrtBackend(CpuBackend):
    """ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"

    def __init__(self, threads: int | None = None) -> None:
        """``threads``: per graph; ``None`` = one per physical core. Raises :class:`BackendUnavailableError`."""
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as exc:
            raise BackendUnavailableError(
                "ONNX Runtime is not installed; install emo_rt[cpu] (or emo_rt[gpu] on a machine with an NVIDIA GPU)"
            ) from exc
        self._ort: Any = onnxruntime
        self._threads = threads
        super().__init__()

    def _open(self, bundle: Bundle, graph: str) -> Graph:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or 0
        # Every graph has a pool of its own; threads that spin while they wait take the cores from the other stages.
        # As long as this they bridge the gaps between a graph's nodes: a tenth of a step's time won on two cores of
        # one's own, and a tenth lost, not half, where others compute too.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            inner = self._ort.InferenceSession(str(bundle.graph_path(graph)), options, providers=[PROVIDER])
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise BackendError(f"ONNX Runtime cannot load graph {graph} of {bundle.path}: {exc}") from exc
        active = inner.get_providers()[0]
        if active != PROVIDER:
            raise BackendUnavailableError(f"ONNX Runtime opened graph {graph} on {active}, not on {PROVIDER}")
        check_nodes(bundle.graphs[graph], inner)
        return OrtGraph(bundle.graphs[graph], inner)


def check_nodes(spec: GraphSpec, inner: Any) -> None:
    """:func:`check_names` for a session of ONNX Runtime."""
    check_names(spec, [node.name for node in inner.get_inputs()], [node.name for node in inner.get_outputs()])


class OrtGraph(CpuGraph):
    """One graph in ONNX Runtime."""

    def bind(self, buffers: Mapping[str, Buffer]) -> OrtBoundGraph:
        return OrtBoundGraph(self, buffers)


class OrtBoundGraph(CpuBoundGraph):
    """An IO binding."""

    def __init__(self, graph: OrtGraph, buffers: Mapping[str, Buffer]) -> None:
        self._binding: Any = graph.opened().io_binding()
        super().__init__(graph, buffers)

    def _run(self, inner: Any) -> None:
        inner.run_with_iobinding(self._binding)

    def _bind_one(self, name: str) -> None:
        buffer = self._bound.buffers[name]
        bind = self._binding.bind_input if name in self._bound.inputs else self._binding.bind_output
        bind(name, "cpu", 0, np.dtype(buffer.dtype), buffer.shape, buffer.pointer)
