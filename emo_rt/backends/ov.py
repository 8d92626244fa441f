"""OpenVINO on the CPU, bound to the arena's buffers: graphs read and write them in place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from emo_rt.arena import Buffer, host_buffer
from emo_rt.backends.base import Backend, BoundTensors, Launch, Session, check_names
from emo_rt.bundle import Bundle
from emo_rt.errors import BackendError, BackendUnavailableError, ClosedError
from emo_rt.graphs import GraphSpec, TensorSpec

BF16 = "BF16"
"""What OpenVINO calls the capability, and in small letters the precision."""
TELEMETRY = "openvino_telemetry"
"""A package that OpenVINO brings along."""


class OvBackend(Backend):
    """OpenVINO's CPU plugin."""

    device = "cpu"

    def __init__(self, threads: int | None = None, *, bf16: bool = False) -> None:
        """``threads``: per graph; ``None`` = one per physical core. ``bf16``: round what is multiplied to bfloat16.

        Raises :class:`BackendUnavailableError` without OpenVINO, and for ``bf16`` on a processor that has no
        instructions for it.
        """
        self._ov: Any = import_openvino()
        self._core: Any = self._ov.Core()
        if bf16 and BF16 not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailableError("this processor does not compute in bfloat16; use backend 'openvino'")
        self.name = "openvino-bf16" if bf16 else "openvino"
        self._properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # several graphs run at once, and would be tied to the same cores
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # by itself OpenVINO takes bf16 where there is one
        }
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        self._sessions: list[OvSession] = []

    def allocate(self, spec: TensorSpec) -> Buffer:
        return host_buffer(spec)

    def open(self, bundle: Bundle, graph: str) -> Session:
        try:
            inner = self._core.compile_model(str(bundle.graph_path(graph)), "CPU", self._properties)
        except Exception as exc:  # OpenVINO raises RuntimeError and others
            raise BackendError(f"OpenVINO cannot load graph {graph} of {bundle.path}: {exc}") from exc
        session = OvSession(inner, self._ov.Tensor, bundle.graphs[graph])
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._sessions.clear()


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


class OvSession(Session):
    """One compiled graph."""

    def __init__(self, inner: Any, tensor: Any, spec: GraphSpec) -> None:
        self.spec = spec
        self.tensor = tensor
        self._inner: Any = inner
        check_names(spec, *([_name(port, wanted) for port in ports] for ports, wanted in _sides(inner, spec)))

    def bind(self, buffers: Mapping[str, Buffer]) -> OvLaunch:
        return OvLaunch(self, buffers)

    def request(self) -> Any:
        """A new inference request. Raises :class:`ClosedError` after :meth:`close`."""
        self.check_open()
        return self._inner.create_infer_request()

    def check_open(self) -> None:
        """Raise :class:`ClosedError` after :meth:`close`."""
        if self._inner is None:
            raise ClosedError(f"graph {self.spec.name} was closed")

    def close(self) -> None:
        self._inner = None


class OvLaunch(Launch):
    """An inference request. Keeps the bound buffers alive: OpenVINO knows only their addresses."""

    def __init__(self, session: OvSession, buffers: Mapping[str, Buffer]) -> None:
        self._session = session
        self._request: Any = session.request()
        self._bound = BoundTensors(session.spec, buffers)
        for name in self._bound.buffers:
            self._bind_one(name)

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._bound.replace(name, buffer)
        self._bind_one(name)

    def run(self) -> None:
        self._session.check_open()
        try:
            self._request.start_async()  # infer() would copy all outputs
            self._request.wait()
        except Exception as exc:  # OpenVINO raises RuntimeError and others
            raise BackendError(f"graph {self._session.spec.name} failed: {exc}") from exc

    def _bind_one(self, name: str) -> None:
        array = self._bound.buffers[name].read()  # on the CPU the memory itself
        try:
            self._request.set_tensor(name, self._session.tensor(array, shared_memory=True))
        except Exception as exc:  # OpenVINO raises RuntimeError and others
            raise BackendError(f"graph {self._session.spec.name}: {name} cannot be bound: {exc}") from exc


def _sides(inner: Any, spec: GraphSpec) -> list[tuple[Any, set[str]]]:
    """Inputs and outputs of the graph, each with the names that the manifest gives them."""
    return [
        (ports, {tensor.name for tensor in tensors})
        for ports, tensors in ((inner.inputs, spec.inputs), (inner.outputs, spec.outputs))
    ]


def _name(port: Any, wanted: set[str]) -> str:
    """The manifest's name of a tensor that may have several."""
    names: set[str] = port.get_names()
    return min(names & wanted or names or {"?"})
