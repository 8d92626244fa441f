"""A graph in ONNX Runtime on a GPU, and its runs: captured by ONNX Runtime itself where it runs often."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from emo_rt.device.base import BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.cuda_form import cuda_form
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.nvtx import marked
from emo_rt.device.onnxruntime_cpu import check_nodes
from emo_rt.device.onnxruntime_gpu import check_provider, open_session, provider_options
from emo_rt.errors import BackendError, ClosedError, DeviceLostError, EmoRtError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import GraphSpec

WARM_RUNS = 3
"""Runs until ONNX Runtime replays its own graph: two that fill its memory pool, one that captures. 1.31 does all three
within the first."""
UNCAPTURED = -1
"""``gpu_graph_id`` of a run that is neither captured nor replayed (ONNX Runtime, CUDA execution provider)."""
ATTEMPTS = 3
"""How often a capture is tried before runs are launched uncaptured."""
FIRST_PAUSE = 40
"""Uncaptured runs before it is tried again: a clip's worth. Each further pause is twice as long."""

logger = logging.getLogger(__name__)


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
        self.capture_failures: dict[int | None, str] = {}
        """Number of a CUDA graph that is not there → why its last capture failed."""
        self._external_capture = external_capture
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
    def capture_obstacle(self) -> str | None:  # type: ignore[override]
        if self._external_capture:
            return None
        how = "each run is launched by itself"
        if self.capture_failures:
            how = f"it could not capture a step itself ({next(iter(self.capture_failures.values()))})"
        elif self.own_graphs:
            how = "it replays a CUDA graph of its own for each step"
        return f"ONNX Runtime cannot be captured from outside; {how}"

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._inner is None

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

    def run_options(self, graph_id: int | None = None) -> Any:
        """Options of a run: the host does not wait. ``graph_id``: number of the CUDA graph to replay or capture."""
        options = self._ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if graph_id is not None:
            options.add_run_config_entry("gpu_graph_id", str(graph_id))
        return options

    def next_graph_id(self) -> int:
        """A number that no CUDA graph of this session has."""
        return next(self._ids)

    def close(self) -> None:
        with self.stream.device.capture_lock.shared():
            self._inner = None
        self._thread.shutdown()

    def _open(self) -> None:
        try:
            inner = self._session()
        except BackendError as exc:
            if not self.own_graphs or isinstance(exc, DeviceLostError):
                raise
            logger.warning("graph %s is launched uncaptured, because ONNX Runtime says: %s", self.spec.name, exc)
            self.own_graphs = False
            inner = self._session()
        check_provider(self.spec.name, inner.get_providers())
        check_nodes(self.spec, inner)
        self._inner = inner

    def _session(self) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        # Patterns make the arena grow again at the second run: 54 GB for a guided full-size run on an H100, 28 without.
        options.enable_mem_pattern = False
        # Reuse by plan keeps a buffer from its first tensor to its last, and lends it to tensors of one shape only:
        # 5.7 GB for a full-size guided step, 1.2 where each goes back to the pool at once (both counted).
        options.enable_mem_reuse = False
        form = cuda_form(self._bundle.graph_path(self.spec.name), self._bundle.dtype)
        for key, value in form.session_entries.items():
            options.add_session_config_entry(key, value)
        try:
            return open_session(self._ort, form.model, options, self._provider_options() | form.provider_options)
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise self.stream.device.health.failed(
                f"load graph {self.spec.name} of {self._bundle.path}", str(exc)
            ) from exc

    def _provider_options(self) -> dict[str, str]:
        return {
            **provider_options(self._bundle.dtype),
            "device_id": str(self.stream.device.index),
            "user_compute_stream": str(self.stream.inner.handle),
            "enable_cuda_graph": "1" if self.own_graphs else "0",
        }


class OrtCudaBoundGraph(BoundGraph):
    """An IO binding to device memory.

    A capture that fails is tried again at once, and then every now and then: whatever else this process does with CUDA
    may have spoilt it, and a session goes on working after it (seen with 1.31). Meanwhile each run is launched by
    itself, in the same session: to open another beside it would take the memory of both.
    """

    def __init__(self, graph: OrtCudaGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph = graph
        self._bound = BoundTensors(graph.spec, buffers)
        self._id = graph.next_graph_id() if graph.own_graphs else None
        self._uncaptured = graph.run_options(UNCAPTURED if graph.own_graphs else None)
        self._captured = graph.run_options(self._id)
        self._captured_runs = 0
        self._pause, self._until_attempt = FIRST_PAUSE, 0
        self._binding: Any = graph.inner.io_binding()
        for name in self._bound.buffers:
            self._bind_one(name)

    def rebind(self, name: str, buffer: Buffer) -> None:
        if self._graph.own_graphs:
            raise BackendError(f"graph {self._graph.spec.name} is a CUDA graph: its addresses are fixed")
        self._bound.replace(name, buffer)
        self._bind_one(name)

    def run(self) -> None:
        stream = self._graph.stream
        with self._beside_captures(), stream.inner.lock, marked(self._graph.spec.name):
            stream.device.health.require_alive()
            _ = stream.inner.handle  # refuses when the animator was closed
            if self._is_replayed or self._is_attempt:
                self._capture_or_replay()
            else:
                self._until_attempt -= 1
                self._launch(self._uncaptured)

    def close(self) -> None:
        """Free the CUDA graph. Safe twice."""
        binding, self._binding = self._binding, None
        self._graph.capture_failures.pop(self._id, None)
        if binding is None or self._captured_runs == 0 or self._graph.is_closed:
            return
        release = getattr(self._graph.inner, "release_captured_graph", None)
        if release is not None:
            with self._graph.stream.device.capture_lock.shared():
                self._graph.call(lambda: release(self._id))

    @property
    def _is_replayed(self) -> bool:
        """Whether ONNX Runtime has a CUDA graph for this by now."""
        return self._captured_runs >= WARM_RUNS

    @property
    def _is_attempt(self) -> bool:
        return self._graph.own_graphs and self._until_attempt == 0

    def _beside_captures(self) -> AbstractContextManager[None]:
        """A replay may run beside anything; a run by itself allocates or frees; a capture wants the device alone."""
        if self._is_replayed:
            return nullcontext()
        lock = self._graph.stream.device.capture_lock
        return lock.exclusive() if self._is_attempt else lock.shared()

    def _capture_or_replay(self) -> None:
        attempts = 1 if self._is_replayed else ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                self._launch(self._captured)
            except ClosedError:
                raise
            except BackendError as exc:
                if self._is_replayed or isinstance(exc, DeviceLostError):
                    raise
                logger.info("attempt %d to capture graph %s failed: %s", attempt, self._graph.spec.name, exc)
                failure = str(exc)
            else:
                self._captured_runs += 1
                self._graph.capture_failures.pop(self._id, None)
                return
        self._give_up_for_now(failure)
        self._launch(self._uncaptured)

    def _give_up_for_now(self, failure: str) -> None:
        self._graph.capture_failures[self._id] = failure
        self._until_attempt, self._pause = self._pause, 2 * self._pause
        logger.warning(
            "graph %s is launched uncaptured for %d runs, because ONNX Runtime could not capture it: %s",
            self._graph.spec.name,
            self._until_attempt,
            failure,
        )

    def _launch(self, options: Any) -> None:
        health = self._graph.stream.device.health
        try:
            self._graph.call(lambda: self._graph.inner.run_with_iobinding(self._binding, options))
        except EmoRtError:
            raise
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise health.failed(f"run graph {self._graph.spec.name}", str(exc)) from exc

    def _bind_one(self, name: str) -> None:
        buffer, index = self._bound.buffers[name], self._graph.stream.device.index
        bind = self._binding.bind_input if name in self._bound.inputs else self._binding.bind_output
        bind(name, "cuda", index, np.dtype(buffer.dtype), buffer.shape, buffer.pointer)
