"""What a backend is: it allocates buffers on its device, opens graphs and runs them on bound buffers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from emo_rt.device.buffers import Buffer
from emo_rt.device.graph_memory import GraphMemory
from emo_rt.device.stream import HostStream, Stream
from emo_rt.errors import BackendError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec, TensorSpec
from emo_rt.model.interface import FoundTensor, interface_problem


class BoundGraph(ABC):
    """A graph with a buffer bound to each of its inputs and outputs, ready to run again and again."""

    @abstractmethod
    def rebind(self, name: str, buffer: Buffer) -> None:
        """Put another buffer of the same shape and type in the place of one tensor, for runs from now on."""

    @abstractmethod
    def run(self) -> None:
        """Run once, or on a GPU enqueue one run in the graph's stream. Raises :class:`BackendError`."""

    def close(self) -> None:  # noqa: B027 - nothing to do on the CPU
        """Free what it holds. Safe twice."""


class Graph(ABC):
    """An opened graph."""

    spec: GraphSpec
    """What the graph takes and gives."""
    capture_obstacle: str | None = "the backend runs work when it is called"
    """Why runs cannot be captured as a CUDA graph by the caller; ``None`` if they can."""
    warm_runs: int = 1
    """Runs of a bound graph until it is as fast as it gets, and until it can be captured."""

    @abstractmethod
    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        """Bind by name; ``buffers`` may hold more than needed. Raises :class:`BackendError` for what does not fit."""

    @abstractmethod
    def close(self) -> None:
        """Free the graph's memory. Safe twice."""


class Backend(ABC):
    """One runtime on one device. A context manager."""

    name: str
    """``NAME`` of its :class:`emo_rt.device.entry.BackendEntry`."""
    device: str
    """``cpu``, ``cuda`` for the first GPU, or ``cuda:1`` and so on: a :class:`DeviceName` as text."""
    kept_workers: int = 0
    """Workers that are kept while nobody talks: worth their memory where making one takes time."""
    slice_s: float = 0.0
    """Longest time, in seconds, that the device should work on one launch of the solver loop; it takes at least one
    step."""

    @abstractmethod
    def allocate(self, spec: TensorSpec) -> Buffer:
        """A zeroed buffer on the device for a tensor of static shape."""

    @abstractmethod
    def open(self, bundle: Bundle, graph: str) -> Graph:
        """Load one graph of a checked bundle. Raises :class:`BackendError` when the runtime refuses it."""

    @abstractmethod
    def close(self) -> None:
        """Close all graphs. Safe twice."""

    def stream(self, name: str) -> Stream:
        """The stream of that name, one of :data:`emo_rt.device.stream.STREAMS`."""
        return HostStream(name)

    def memory_used(self) -> int | None:
        """Bytes that are taken on the device, by whatever process; ``None`` on the CPU."""
        return None

    def graph_memory(self, bundle: Bundle, graph: str) -> GraphMemory | None:
        """Device memory that a graph will take, reckoned before it is opened; ``None`` on the CPU."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def check_fit(graph: str, spec: TensorSpec, buffer: Buffer) -> None:
    """Raise :class:`BackendError` unless ``buffer`` has the type and the static sizes of ``spec``."""
    fits = len(spec.shape) == len(buffer.shape) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(spec.shape, buffer.shape, strict=True)
    )
    if not fits or spec.dtype != buffer.dtype:
        raise BackendError(
            f"graph {graph}: tensor {spec.name} is {buffer.dtype}{list(buffer.shape)}, "
            f"expected {spec.dtype}{list(spec.shape)}"
        )


class BoundTensors:
    """The buffers of one bound graph, checked by name, shape and type. Keeps them alive."""

    def __init__(self, spec: GraphSpec, buffers: Mapping[str, Buffer]) -> None:
        """Raises :class:`BackendError` for a tensor without a buffer, or with one that does not fit."""
        self._graph = spec.name
        self.inputs = {tensor.name: tensor for tensor in spec.inputs}
        self.outputs = {tensor.name: tensor for tensor in spec.outputs}
        self.buffers: dict[str, Buffer] = {}
        for name in (*self.inputs, *self.outputs):
            if name not in buffers:
                raise BackendError(f"graph {spec.name}: no buffer is bound to {name}")
            self.replace(name, buffers[name])

    def replace(self, name: str, buffer: Buffer) -> None:
        """Raises :class:`BackendError` for a buffer that does not fit."""
        spec = self.inputs[name] if name in self.inputs else self.outputs[name]
        check_fit(self._graph, spec, buffer)
        self.buffers[name] = buffer


def check_names(spec: GraphSpec, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise :class:`BackendError` unless the file has the tensors that the manifest says."""
    found = [FoundTensor(name, True) for name in inputs] + [FoundTensor(name, False) for name in outputs]
    problem = interface_problem(spec, found)
    if problem is not None:
        raise BackendError(f"graph {spec.name} has not the tensors that the manifest says: {problem}")
