"""OpenVINO on the CPU, bound to our buffers: graphs read and write them in place."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from emo_rt.device.base import Graph, check_names
from emo_rt.device.buffers import Buffer
from emo_rt.device.cpu_backend import CpuBackend, CpuBoundGraph, CpuGraph
from emo_rt.errors import BackendError, BackendUnavailableError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec, TensorSpec

TELEMETRY = "openvino_telemetry"
"""A package that OpenVINO brings along."""
OLDEST = (2026, 3)
"""Year and number of the first release that computes our graphs. 2026.2 reads them and gives wrong pictures (13 dB);
those before refuse them."""


class OvBackend(CpuBackend):
    """OpenVINO's CPU plugin."""

    def __init__(self, threads: int | None = None, *, bf16: bool = False) -> None:
        """``threads``: per graph; ``None`` = one per physical core. ``bf16``: round what is multiplied to bfloat16.

        Raises :class:`BackendUnavailableError` without OpenVINO or with one before :data:`OLDEST`, and for ``bf16`` on
        a processor that has no instructions for it.
        """
        self._ov: Any = import_openvino()
        _require_new_enough(str(self._ov.__version__))
        self._core: Any = self._ov.Core()
        if bf16 and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailableError("this processor does not compute in bfloat16; use backend 'openvino'")
        self.name = "openvino-bf16" if bf16 else "openvino"
        self._properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # several graphs run at once, and would be tied to the same cores
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # by itself OpenVINO takes bf16 where there is one
        }
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        super().__init__()

    def _open(self, bundle: Bundle, graph: str) -> Graph:
        try:
            inner = self._core.compile_model(str(bundle.graph_path(graph)), "CPU", self._properties)
        except Exception as exc:  # OpenVINO raises RuntimeError and others
            raise BackendError(f"OpenVINO cannot load graph {graph} of {bundle.path}: {exc}") from exc
        spec = bundle.graphs[graph]
        check_names(spec, _names(inner.inputs, spec.inputs), _names(inner.outputs, spec.outputs))
        return OvGraph(spec, inner, self._ov.Tensor)


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report the import over the network unless the user has forbidden it.

    Where the package of the telemetry cannot be imported, OpenVINO takes a stub of its own. Raises
    :class:`BackendUnavailableError`.
    """
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except ImportError as exc:
        raise BackendUnavailableError("OpenVINO is not installed; install emo_rt[openvino]") from exc
    finally:
        if hidden:
            sys.modules.pop(TELEMETRY, None)


def _require_new_enough(version: str) -> None:
    """``version``: ``2026.3.0-22451-8a17657b995``."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise BackendUnavailableError(f"OpenVINO {version} computes wrong pictures; install openvino>={wanted}")


class OvGraph(CpuGraph):
    """One compiled graph."""

    def __init__(self, spec: GraphSpec, inner: Any, tensor: Any) -> None:
        """``tensor``: OpenVINO's class for it."""
        super().__init__(spec, inner)
        self.tensor = tensor

    def bind(self, buffers: Mapping[str, Buffer]) -> OvBoundGraph:
        return OvBoundGraph(self, buffers)


class OvBoundGraph(CpuBoundGraph):
    """An inference request."""

    def __init__(self, graph: OvGraph, buffers: Mapping[str, Buffer]) -> None:
        self._request: Any = graph.opened().create_infer_request()
        self._tensor = graph.tensor
        super().__init__(graph, buffers)

    def _run(self, inner: Any) -> None:
        self._request.start_async()  # infer() would copy all outputs
        self._request.wait()

    def _bind_one(self, name: str) -> None:
        array = self._bound.buffers[name].read()  # on the CPU the memory itself
        try:
            self._request.set_tensor(name, self._tensor(array, shared_memory=True))
        except Exception as exc:  # OpenVINO raises RuntimeError and others
            raise BackendError(f"graph {self._graph.spec.name}: {name} cannot be bound: {exc}") from exc


def _names(ports: Sequence[Any], tensors: Sequence[TensorSpec]) -> list[str]:
    """One name of each: the manifest's, if it is among them."""
    wanted = {tensor.name for tensor in tensors}
    return [min(port.get_names() & wanted or port.get_names() or {"?"}) for port in ports]
