"""What all backends on the CPU share: buffers in the host's memory, and graphs that run on them in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from emo_rt.device.base import Backend, BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer, host_buffer
from emo_rt.errors import BackendError, ClosedError, EmoRtError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec, TensorSpec


class CpuBackend(Backend):
    """Owns the opened graphs."""

    device = "cpu"

    def __init__(self) -> None:
        self._graphs: list[Graph] = []

    def allocate(self, spec: TensorSpec) -> Buffer:
        return host_buffer(spec)

    def open(self, bundle: Bundle, graph: str) -> Graph:
        opened = self._open(bundle, graph)
        self._graphs.append(opened)
        return opened

    @abstractmethod
    def _open(self, bundle: Bundle, graph: str) -> Graph:
        """Load a graph."""

    def close(self) -> None:
        for graph in self._graphs:
            graph.close()
        self._graphs.clear()


class CpuGraph(Graph):
    """One opened graph."""

    def __init__(self, spec: GraphSpec, inner: Any) -> None:
        self.spec = spec
        self.inner: Any = inner

    def opened(self) -> Any:
        """The runtime's own object. Raises :class:`ClosedError` after :meth:`close`."""
        inner = self.inner
        if inner is None:
            raise ClosedError(f"graph {self.spec.name} was closed")
        return inner

    def close(self) -> None:
        self.inner = None


class CpuBoundGraph(BoundGraph):
    """Bound tensors. Keeps their buffers alive: runtimes know only the addresses."""

    def __init__(self, graph: CpuGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph = graph
        self._bound = BoundTensors(graph.spec, buffers)
        for name in self._bound.buffers:
            self._bind_one(name)

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._bound.replace(name, buffer)
        self._bind_one(name)

    def run(self) -> None:
        inner = self._graph.opened()
        try:
            self._run(inner)
        except EmoRtError:  # it has said what it is
            raise
        except Exception as exc:  # the runtimes' errors share no base class
            raise BackendError(f"graph {self._graph.spec.name} failed: {exc}") from exc

    @abstractmethod
    def _bind_one(self, name: str) -> None:
        """Hand the address of one tensor to the runtime."""

    @abstractmethod
    def _run(self, inner: Any) -> None:
        """Run once, whatever errors that gives."""
