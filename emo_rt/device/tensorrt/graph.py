"""TensorRT on a GPU: plans from the engine cache, bound by name to our buffers, on our own streams.

All device memory that an execution needs is ours: the buffers of tensors, scratch memory one piece a stream, because
engines of one stream never run at the same time and those of two streams may.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from emo_rt.device.base import BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda import Device, DeviceMemory
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.graph_memory import GraphMemory
from emo_rt.device.nvtx import marked
from emo_rt.device.tensorrt.gpus import Gpu
from emo_rt.device.tensorrt.kernels import KernelCache
from emo_rt.device.tensorrt.package import TensorRT, load_package, problem
from emo_rt.device.tensorrt.plan import Plan, find_plan
from emo_rt.errors import BackendError, BackendUnavailableError, CaptureError, ClosedError, MissingDependencyError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec
from emo_rt.model.interface import FoundTensor, interface_problem

logger = logging.getLogger(__name__)


class TrtBackend(CudaBackend):
    """One of the packages ``tensorrt`` and ``tensorrt_rtx``."""

    name = "tensorrt"

    def __init__(self, cuda: Device, package: TensorRT | None = None, *, capture: bool = True) -> None:
        """``package``: the first that is installed by default; ``capture``: whether the solver loop may become one
        launch. Raises :class:`BackendUnavailableError` if no package is installed.
        """
        self.capture = capture
        try:
            self.package = package or load_package()
        except MissingDependencyError as exc:
            raise BackendUnavailableError(str(exc)) from exc
        super().__init__(cuda)
        self._runtime = self.package.runtime()
        self._scratch: dict[str, DeviceMemory] = {}

    @property
    def gpu(self) -> Gpu:
        """What a plan must have been built for."""
        return gpu_of(self.cuda)

    def scratch(self, stream: CudaStream, nbytes: int) -> DeviceMemory:
        """Memory of at least that size, for engines of one stream. An older, smaller piece lives on with its users."""
        memory = self._scratch.get(stream.name)
        if memory is None or memory.nbytes < nbytes:
            memory = self._scratch[stream.name] = self.cuda.memory(nbytes)
        return memory

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        plan = find_plan(bundle, graph, self.package, self.gpu)
        engine = load_engine(self.package, self._runtime, plan, bundle)
        return TrtGraph(self, engine, bundle.graphs[graph], stream, KernelCache(plan))

    def graph_memory(self, bundle: Bundle, graph: str) -> GraphMemory | None:
        """What the builder said; engines of one stream share their scratch memory, so together they take less."""
        record = find_plan(bundle, graph, self.package, self.gpu).record
        return GraphMemory(record.size_bytes, int(record.report.get("scratch_bytes") or 0))

    def close(self) -> None:
        super().close()
        self._scratch.clear()


class TrtGraph(Graph):
    """One engine on one stream."""

    def __init__(
        self, backend: TrtBackend, engine: Any, spec: GraphSpec, stream: CudaStream, kernels: KernelCache
    ) -> None:
        self.spec, self.stream, self.backend = spec, stream, backend
        self._engine: Any = engine
        self._kernels = kernels
        self.capture_obstacle = None if backend.capture else "capture is turned off"
        check_engine(engine, spec, backend.package)
        self._config = self._runtime_config()

    @property
    def engine(self) -> Any:
        """The ``ICudaEngine``. Raises :class:`ClosedError` after :meth:`close`."""
        if self._engine is None:
            raise ClosedError(f"graph {self.spec.name} was closed")
        return self._engine

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        return TrtBoundGraph(self, buffers)

    def make_context(self) -> Any:
        """A new ``IExecutionContext`` without memory of its own."""
        strategy = self.backend.package.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self.stream.device.enter()
        with self.backend.package.listen() as lines:
            context = self.engine.create_execution_context(strategy if self._config is None else self._config)
        if context is None:
            raise self.stream.device.health.failed(f"make a context for graph {self.spec.name}", problem(lines))
        return context

    def close(self) -> None:
        if self._engine is not None:
            self._kernels.save()
        self._engine = self._config = None

    def _runtime_config(self) -> Any:
        """RTX compiles kernels when a context first needs them; its runtime cache keeps them for the next process."""
        if not hasattr(self.engine, "create_runtime_config"):
            return None
        config = self.engine.create_runtime_config()
        strategy = self.backend.package.module.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        if hasattr(config, "create_runtime_cache"):
            self._kernels.attach(config)
        return config


class TrtBoundGraph(BoundGraph):
    """An execution context of its own: one that was captured must not be used for anything else."""

    def __init__(self, graph: TrtGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph = graph
        self._bound = BoundTensors(graph.spec, buffers)
        self._context: Any = graph.make_context()
        self._is_capturable: bool | None = None
        """What TensorRT said before the first run."""
        for name in self._bound.buffers:
            self._address(name)
        self._scratch = self._give_scratch()

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._bound.replace(name, buffer)
        self._address(name)

    def run(self) -> None:
        graph, stream = self._graph, self._graph.stream.inner
        with (
            stream.lock,
            graph.stream.device.health.check(f"run graph {graph.spec.name}"),
            marked(graph.spec.name),
        ):
            graph.stream.device.enter()
            context = self._opened()
            if not stream.is_capturing and self._is_capturable is None:  # nothing says that it may be asked in one
                self._is_capturable = is_capturable(context, stream.handle)
            if stream.is_capturing and self._is_capturable is False:
                raise CaptureError(f"TensorRT says that graph {graph.spec.name} cannot be captured")
            with graph.backend.package.listen() as lines:
                enqueued = context.execute_async_v3(stream.handle)
            if not enqueued:
                raise graph.stream.device.health.failed(f"run graph {graph.spec.name}", problem(lines))

    def close(self) -> None:
        self._context = None

    def _opened(self) -> Any:
        _ = self._graph.engine
        if self._context is None:
            raise ClosedError(f"a bound graph {self._graph.spec.name} was closed")
        return self._context

    def _address(self, name: str) -> None:
        context, buffer, spec = self._opened(), self._bound.buffers[name], self._bound.inputs.get(name)
        is_dynamic = spec is not None and any(isinstance(size, str) for size in spec.shape)
        if is_dynamic and not context.set_input_shape(name, buffer.shape):
            raise BackendError(f"the engine of graph {self._graph.spec.name} does not take {name} of {buffer.shape}")
        if not context.set_tensor_address(name, buffer.pointer):
            raise BackendError(f"the engine of graph {self._graph.spec.name} does not take an address for {name}")

    def _give_scratch(self) -> DeviceMemory | None:
        """Memory for intermediate results. Returned to be kept: TensorRT has only its address."""
        is_dynamic = any(isinstance(size, str) for t in self._graph.spec.inputs for size in t.shape)
        size = self._context.update_device_memory_size_for_shapes() if is_dynamic else scratch_size(self._graph.engine)
        if size == 0:
            return None
        memory = self._graph.backend.scratch(self._graph.stream, size)
        self._context.set_device_memory(memory.pointer, memory.nbytes)
        return memory


def gpu_of(cuda: Device) -> Gpu:
    """What plans are told apart by."""
    major, minor = cuda.compute_capability
    return Gpu(cuda.name, f"sm{major}{minor}")


def load_engine(package: TensorRT, runtime: Any, plan: Plan, bundle: Bundle) -> Any:
    """The engine of a verified plan. Raises :class:`BackendError` when TensorRT refuses it."""
    data = plan.read()
    with package.listen() as lines:
        engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise BackendError(f"{package.name} {package.version} refuses {plan.path}: {problem(lines)}; build it again")
    if plan.is_stripped:
        package.refit(engine, bundle.graph_path(plan.record.key.graph))
    return engine


def check_engine(engine: Any, spec: GraphSpec, package: TensorRT) -> None:
    """Raise :class:`BackendError` unless the engine takes and gives what the graph does: names, shapes, types."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = [
        FoundTensor(
            name,
            engine.get_tensor_mode(name) == package.module.TensorIOMode.INPUT,
            package.dtype_name(engine.get_tensor_dtype(name)),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    ]
    problem = interface_problem(spec, found)
    if problem is not None:
        raise BackendError(f"the engine of graph {spec.name} does not fit the bundle: {problem}; build it again")


def scratch_size(engine: Any) -> int:
    """Bytes that a context of a static engine needs beside its tensors; the older name is TensorRT 10.0's."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def is_capturable(context: Any, stream: int) -> bool:
    """RTX can say so beforehand; with the other package the capture itself shows it."""
    return bool(context.is_stream_capturable(stream)) if hasattr(context, "is_stream_capturable") else True
