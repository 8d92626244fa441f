"""A backend of your own, in a package of your own: ONNX Runtime with a stop-watch on every graph.

    pip install ./examples/own_backend
    emo-rt animate portrait.png speech.wav -o talking.mp4 --backend timed

Prints at the end how often each graph ran, and how long that took in all. A backend for other hardware has the same
shape: it opens graphs, binds buffers to them by name, and runs them.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Mapping

from emo_rt.device.base import BoundGraph, Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.model.bundle import Bundle

NAME, DEVICE = "timed", "cpu"


def auto(bundle: Bundle | None) -> str | None:
    """``auto`` never takes it."""
    return "it prints, so it must be asked for by name"


def open(threads: int | None) -> TimedBackend:
    """What :meth:`emo_rt.Animator.load` calls."""
    return TimedBackend(threads)


class TimedBackend(OrtBackend):
    """ONNX Runtime on the CPU, whose graphs are timed."""

    name = NAME

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        self._runs: dict[str, list[float]] = defaultdict(list)

    def open(self, bundle: Bundle, graph: str) -> Graph:
        """Open a graph, and note how long each of its runs takes."""
        opened = super().open(bundle, graph)
        bind, runs = opened.bind, self._runs[graph]

        def timed_bind(buffers: Mapping[str, Buffer]) -> BoundGraph:
            bound = bind(buffers)
            run = bound.run

            def timed_run() -> None:
                start = time.perf_counter()
                run()
                runs.append(time.perf_counter() - start)

            bound.run = timed_run  # type: ignore[method-assign]
            return bound

        opened.bind = timed_bind  # type: ignore[method-assign]
        return opened

    def close(self) -> None:
        """Say what was measured."""
        for graph, runs in self._runs.items():
            if runs:
                print(f"{graph}: {len(runs)} runs, {sum(runs):.2f} s", file=sys.stderr)
        self._runs.clear()
        super().close()
