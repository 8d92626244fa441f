"""The runtime's own GPU code over the real cuda-core and the simulated card; ONNX Runtime computes on the CPU.

The card's memory is memory of the host, so a graph is a host function in the stream: captured and launched like a
kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from emo_rt.device.base import BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer, HostBuffer
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import DTYPES

HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class CardBackend(CudaBackend):
    """Captures the whole loop, as TensorRT's backend does."""

    name = "tensorrt"
    slice_s = float("inf")

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        return CardGraph(OrtBackend(threads=1).open(bundle, graph), stream)


class CardGraph(Graph):
    """Runs on the CPU, in place."""

    capture_obstacle = None

    def __init__(self, inner: Graph, stream: CudaStream) -> None:
        self.inner, self.stream, self.spec = inner, stream, inner.spec
        self.driver = ctypes.CDLL("libcuda.so.1")

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        return CardBoundGraph(self, buffers)

    def close(self) -> None:
        self.inner.close()


class CardBoundGraph(BoundGraph):
    """Keeps its functions alive: captured graphs know only their addresses."""

    def __init__(self, graph: CardGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph, self._bound = graph, BoundTensors(graph.spec, buffers)
        self._functions: list[Any] = []

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._bound.replace(name, buffer)

    def run(self) -> None:
        graph = self._graph
        bound = graph.inner.bind({name: on_host(buffer) for name, buffer in self._bound.buffers.items()})
        function = HostFunction(lambda _: bound.run())
        self._functions.append(function)
        with graph.stream.inner.lock, graph.stream.device.health.check(f"run graph {graph.spec.name}"):
            graph.stream.device.enter()
            handle = ctypes.c_void_p(graph.stream.inner.handle)
            status = graph.driver.cuLaunchHostFunc(handle, function, None)
            if status:
                raise RuntimeError(f"CUDA error: {status}")


def on_host(buffer: Buffer) -> HostBuffer:
    """The same memory as a buffer of the CPU."""
    nbytes = int(np.prod(buffer.shape)) * DTYPES[buffer.dtype]
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(buffer.pointer))
    return HostBuffer(memory.view(buffer.dtype).reshape(buffer.shape))
