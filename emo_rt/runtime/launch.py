"""One bound graph with fixed addresses, launched again and again: captured where that can be had."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from emo_rt.device.base import Graph
from emo_rt.device.buffers import Buffer
from emo_rt.device.stream import CapturedGraph, Stream
from emo_rt.errors import CaptureError

logger = logging.getLogger(__name__)


class Launch:
    """A bound graph, and on a GPU its CUDA graph. Owners close."""

    def __init__(self, stream: Stream, graph: Graph, buffers: Mapping[str, Buffer]) -> None:
        """Binds it by name; on a GPU it is run until it is warm, then captured."""
        self._stream, self._graph = stream, graph
        self._inputs = {tensor.name for tensor in graph.spec.inputs}
        self._bound = graph.bind(buffers)
        self._captured: CapturedGraph | None = None
        self.obstacle = graph.capture_obstacle
        """Why it is not captured; ``None`` if it is."""
        if stream.is_deferred:
            try:
                self._warm_up()
            except BaseException:
                self._bound.close()
                raise

    @property
    def captured(self) -> int:
        """How many captured graphs it has: 0 or 1."""
        return 0 if self._captured is None else 1

    def run(self) -> None:
        """Enqueue one run."""
        if self._captured is None:
            self._bound.run()
        else:
            self._captured.run()

    def rebind(self, features: Mapping[str, Buffer]) -> None:
        """Put others in the place of some inputs. Not where it is captured: addresses are fixed."""
        for name in self._inputs & features.keys():
            self._bound.rebind(name, features[name])

    def close(self) -> None:
        """Give back what was captured and bound. It must not be running. Safe twice."""
        captured, self._captured = self._captured, None
        if captured is not None:
            captured.close()
        self._bound.close()

    def _warm_up(self) -> None:
        """First runs load kernels and take memory, which a capture forbids."""
        for _ in range(self._graph.warm_runs):
            self._bound.run()
        self._stream.synchronize()
        if self.obstacle is not None:
            return
        try:
            self._captured = self._stream.capture(self._bound.run)
        except CaptureError as exc:
            self.obstacle = str(exc)
            logger.warning("the graph %s is not captured: %s", self._graph.spec.name, exc)
