"""What a backend is: it allocates buffers on its device, opens graphs and runs them on bound buffers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from emo_rt.arena import Buffer
from emo_rt.bundle import Bundle
from emo_rt.errors import BackendError
from emo_rt.graphs import GraphSpec, TensorSpec


class Launch(ABC):
    """A graph with a buffer bound to each of its inputs and outputs, ready to run again and again."""

    @abstractmethod
    def rebind(self, name: str, buffer: Buffer) -> None:
        """Put another buffer of the same shape and type in the place of one tensor."""

    @abstractmethod
    def run(self) -> None:
        """Run once. Raises :class:`BackendError` when the device fails."""


class Session(ABC):
    """An opened graph."""

    spec: GraphSpec
    """What the graph takes and gives."""

    @abstractmethod
    def bind(self, buffers: Mapping[str, Buffer]) -> Launch:
        """Bind by name; ``buffers`` may hold more than needed. Raises :class:`BackendError` for what does not fit."""

    @abstractmethod
    def close(self) -> None:
        """Free the graph's memory. Safe twice."""


class Backend(ABC):
    """One runtime on one device. A context manager."""

    name: str
    """``onnxruntime`` or ``tensorrt``."""
    device: str
    """``cpu`` or ``cuda``."""

    @abstractmethod
    def allocate(self, spec: TensorSpec) -> Buffer:
        """A zeroed buffer on the device for a tensor of static shape."""

    @abstractmethod
    def open(self, bundle: Bundle, graph: str) -> Session:
        """Load one graph of a checked bundle. Raises :class:`BackendError` when the runtime refuses it."""

    @abstractmethod
    def close(self) -> None:
        """Close all sessions. Safe twice."""

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
