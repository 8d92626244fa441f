"""A backend that writes down what runs, so that the same graphs can run again on the same buffers without the runtime.

:class:`RecordingBackend` stands between a loaded model and its real backend. While :meth:`RecordingBackend.recording`
is on, each launch is noted with its time and bound again for :meth:`Recording.replay`. At other times it passes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

from emo_rt.device.base import Backend, BoundGraph, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import TensorSpec


@dataclass
class Recording:
    """The launches of a run, in the order in which they began."""

    replayable: bool = True
    """Whether the launches are kept."""
    graphs: list[str] = field(default_factory=list)
    """Which graph each launch ran."""
    seconds: list[float] = field(default_factory=list)
    """How long it took inside the runtime."""
    launches: list[BoundGraph] = field(default_factory=list)
    """The same graphs on the same buffers, bound once more."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a launch is noted: stages run in threads of their own."""

    def begin(self, graph: Graph, buffers: Mapping[str, Buffer]) -> int:
        """Note a launch that is about to run; its position."""
        with self.lock:
            if self.replayable:
                self.launches.append(graph.bind(buffers))
            self.graphs.append(graph.spec.name)
            self.seconds.append(0.0)
            return len(self.seconds) - 1

    def replay(self) -> None:
        """Run all graphs again, one after another: nothing but the backend."""
        for launch in self.launches:
            launch.run()

    def replay_timed(self) -> list[float]:
        """As :meth:`replay`; seconds of each launch."""
        found = []
        for launch in self.launches:
            start = perf_counter()
            launch.run()
            found.append(perf_counter() - start)
        return found

    def by_graph(self, seconds: list[float] | None = None) -> dict[str, dict[str, float]]:
        """Per graph: ``runs``, ``median_s`` of one, ``total_s``. ``seconds``: other times of the same launches."""
        times: dict[str, list[float]] = {}
        for graph, taken in zip(self.graphs, seconds or self.seconds, strict=True):
            times.setdefault(graph, []).append(taken)
        return {
            graph: {"runs": len(taken), "median_s": median(taken), "total_s": sum(taken)}
            for graph, taken in times.items()
        }


class RecordingBackend(Backend):
    """Passes everything on to ``inner``, and owns it."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.name, self.device = inner.name, inner.device
        self.current: Recording | None = None

    @contextmanager
    def recording(self, *, replayable: bool = True) -> Iterator[Recording]:
        """Write down what runs within, one recording at a time. ``replayable``: bind everything once more, too."""
        self.current = Recording(replayable)
        try:
            yield self.current
        finally:
            self.current = None

    def allocate(self, spec: TensorSpec) -> Buffer:
        return self.inner.allocate(spec)

    def open(self, bundle: Bundle, graph: str) -> Graph:
        return _Graph(self, self.inner.open(bundle, graph))

    def close(self) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Graph(Graph):
    def __init__(self, backend: RecordingBackend, inner: Graph) -> None:
        self.backend, self.inner, self.spec = backend, inner, inner.spec

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        return _BoundGraph(self, buffers)

    def close(self) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _BoundGraph(BoundGraph):
    def __init__(self, graph: _Graph, buffers: Mapping[str, Buffer]) -> None:
        self.graph, self.inner = graph, graph.inner.bind(buffers)
        self.buffers = dict(buffers)

    def rebind(self, name: str, buffer: Buffer) -> None:
        self.inner.rebind(name, buffer)
        self.buffers[name] = buffer

    def run(self) -> None:
        recording = self.graph.backend.current
        if recording is None:
            self.inner.run()
            return
        position = recording.begin(self.graph.inner, self.buffers)
        start = perf_counter()
        self.inner.run()
        recording.seconds[position] = perf_counter() - start
