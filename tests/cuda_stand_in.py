"""A GPU in memory: the interface of :mod:`emo_rt.device.cuda`, run lazily, in ever other orders, its rules checked.

Streams are queues. Nothing in them runs before the host waits for something, and then whatever may run is chosen at
random, other streams first. Two accesses to the same bytes of which one writes must be ordered by the stream, by
events, or by a host thread that waited for the first before it enqueued the second; it is an error if they are not,
whatever order the queues really ran in. Waiting in one thread orders nothing for another that exists already.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emo_rt.device.base import BoundGraph, BoundTensors, Graph
from emo_rt.device.buffers import Buffer, HostBuffer
from emo_rt.device.cuda.capture_lock import CaptureLock
from emo_rt.device.cuda.memory import Memory, PinnedMemory, View
from emo_rt.device.cuda.status import Health
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_buffer import DeviceBuffer
from emo_rt.device.cuda_stream import CudaStream, on_device
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.errors import BackendError, CaptureError, ClosedError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array

CURRENT = threading.local()
"""``index``: the device of the calling thread, the first where nothing was said."""
Clock = dict[int, int]
"""Stream number → how many of its operations came before."""


class RuleBroken(AssertionError):
    """Something that a GPU would answer with an error, or with wrong numbers now and then."""


@dataclass(eq=False)
class Op:
    """One operation of a stream."""

    name: str
    run: Callable[[], None]
    reads: tuple[View, ...] = ()
    writes: tuple[View, ...] = ()
    waits: Op | None = None
    stream: int = -1
    index: int = 0
    clock: Clock = field(default_factory=dict)
    done_at: float | None = None


class StandInEvent:
    def __init__(self, device: StandInDevice) -> None:
        self.device = device
        self.op: Op | None = None

    def synchronize(self) -> None:
        self.device.host_waits("an event", self.op)

    def is_done(self) -> bool:
        return self.op is None or self.op.done_at is not None

    def milliseconds_since(self, earlier: StandInEvent) -> float:
        assert self.op is not None
        assert earlier.op is not None
        if self.op.done_at is None or earlier.op.done_at is None:
            raise RuleBroken("a timer was read before its work was done")
        return 1e3 * (self.op.done_at - earlier.op.done_at)

    def close(self) -> None:
        pass


class StandInCapturedGraph:
    def __init__(self, ops: list[Op]) -> None:
        self.ops: list[Op] | None = ops

    def close(self) -> None:
        self.ops = None


class StandInStream:
    """A queue. Same interface as :class:`emo_rt.device.cuda.Stream`."""

    def __init__(self, device: StandInDevice, number: int) -> None:
        self.device, self.number, self.handle = device, number, 1000 + number
        self.lock = threading.RLock()
        self.pending: deque[Op] = deque()
        self.last: Op | None = None
        self.captured: list[Op] | None = None
        self.has_ended = False

    @property
    def is_capturing(self) -> bool:
        return self.captured is not None

    def enqueue(
        self, name: str, run: Callable[[], None], reads: Iterable[View] = (), writes: Iterable[View] = ()
    ) -> None:
        with self.lock:
            self._require_open()
            op = Op(name, run, tuple(reads), tuple(writes))
            self.captured.append(op) if self.captured is not None else self._append(op)

    def take(self, name: str, run: Callable[[], None], reads: Iterable[View] = (), writes: Iterable[View] = ()) -> None:
        """As :meth:`enqueue`, by a library: it knows no lock of ours, and may use a thread that works for another."""
        self._require_open()
        op = Op(name, run, tuple(reads), tuple(writes))
        self.captured.append(op) if self.captured is not None else self.device.append(self, op, by_library=True)

    def record(self, event: StandInEvent) -> None:
        with self.lock:
            self._require_open()
            self._refuse_in_capture("an event was recorded")
            event.op = self._append(Op("record", _nothing))

    def wait(self, event: StandInEvent) -> None:
        with self.lock:
            self._require_open()
            self._refuse_in_capture("an event was waited for")
            if event.op is not None:
                self._append(Op("wait", _nothing, waits=event.op))

    def copy(self, target: View, source: View) -> None:
        assert target.nbytes == source.nbytes
        there, here = data(target), data(source)  # now: what is given back later is freed behind this
        self.enqueue("copy", lambda: np.copyto(there, here), [source], [target])

    def clear(self, target: View) -> None:
        there = data(target)
        self.enqueue("clear", lambda: there.fill(0), [], [target])

    def launch(self, graph: StandInCapturedGraph) -> None:
        with self.lock:
            self._require_open()
            self._refuse_in_capture("a graph was launched")
            if graph.ops is None:
                raise RuleBroken("a closed graph was launched")
            self.device.launches.append(len(graph.ops))
            for op in graph.ops:
                self._append(Op(op.name, op.run, op.reads, op.writes))

    def capture(self, enqueue: Callable[[], None]) -> StandInCapturedGraph:
        with self.lock, self.device.capture_by_this_thread():
            self.captured = []
            try:
                enqueue()
                return StandInCapturedGraph(self.captured)
            except BackendError as exc:
                raise CaptureError(f"the work cannot be captured: {exc}") from exc
            finally:
                self.captured = None

    def synchronize(self) -> None:
        self.device.host_waits("a stream", self.last)

    def end(self) -> None:
        with self.lock:
            self.has_ended = True

    def close(self) -> None:
        pass

    def _require_open(self) -> None:
        self.device.health.require_alive()
        if self.has_ended:
            raise ClosedError("the animator was closed; load it again")

    def _append(self, op: Op) -> Op:
        self.device.append(self, op)
        return op

    def _refuse_in_capture(self, what: str) -> None:
        if self.captured is not None:
            raise RuleBroken(f"{what} in a stream that is being captured")


class StandInMemory(Memory):
    def __init__(self, inner: Array, pointer: int, nbytes: int, give_back: Callable[[Any], None]) -> None:
        super().__init__(inner, pointer, nbytes, give_back)
        self.bytes = inner
        """Stays after :meth:`close`: what is enqueued before may use it."""


class StandInPinned(PinnedMemory):
    """Pinned memory that notices a host that does not wait for the device's copies."""

    device: StandInDevice
    bytes: Array

    def write(self, values: Array) -> None:
        self.device.host_touches(self, writes=True)
        super().write(values)

    def read(self, shape: tuple[int, ...], dtype: str) -> Array:
        self.device.host_touches(self, writes=False)
        return super().read(shape, dtype)


class StandInDevice:
    """Same interface as :class:`emo_rt.device.cuda.Device`."""

    name, compute_capability = "Stand-in", (8, 9)

    def __init__(self, seed: int = 0, index: int = 0) -> None:
        self.index = index
        self.health, self.capture_lock = Health(), CaptureLock()
        self.launches: list[int] = []
        """Operations of every graph that was launched."""
        self.allocated: list[int] = []
        """Sizes of all memory that was ever allocated."""
        self.ran: list[tuple[int, str]] = []
        """(stream, operation) in the order in which they really ran."""
        self.broken: list[str] = []
        """Every rule that was broken, also where a thread of the run has swallowed the error."""
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._streams: list[StandInStream] = []
        self._touched: dict[int, dict[tuple[int, int, int, bool], int]] = {}
        self._live: dict[int, int] = {}
        self._host: dict[int, Clock] = {}
        self._capturing: set[int] = set()
        self._memories: weakref.WeakSet[Memory] = weakref.WeakSet()
        self._addresses = itertools.count(2**40, 2**32)

    def enter(self) -> None:
        CURRENT.index = self.index

    def stream(self, high_priority: bool = False) -> StandInStream:
        self._streams.append(StandInStream(self, len(self._streams)))
        return self._streams[-1]

    def event(self, timed: bool = False) -> StandInEvent:
        return StandInEvent(self)

    def memory(self, nbytes: int) -> Memory:
        inner, pointer, _, give_back = self._new(nbytes)
        memory = StandInMemory(inner, pointer, nbytes, give_back)
        self._memories.add(memory)
        return memory

    def pinned(self, nbytes: int) -> PinnedMemory:
        inner, pointer, _, give_back = self._new(nbytes)
        memory = StandInPinned(inner, pointer, inner, give_back)
        memory.device, memory.bytes = self, inner
        return memory

    def used_bytes(self) -> int:
        return sum(self._live.values())

    def at(self, pointer: int, nbytes: int) -> View:
        """The memory at an address, as a library that knows only addresses uses it."""
        for memory in list(self._memories):
            if memory.pointer <= pointer < memory.pointer + memory.nbytes:
                return memory.view(pointer - memory.pointer, nbytes)
        raise RuleBroken(f"there is no memory at {pointer:#x}")

    def stream_of(self, handle: int) -> StandInStream:
        """The stream with that handle."""
        return next(stream for stream in self._streams if stream.handle == handle)

    def collect(self) -> None:
        pass

    def synchronize(self) -> None:
        for stream in self._streams:
            stream.synchronize()

    def close(self) -> None:
        pass

    # What the streams use

    def append(self, stream: StandInStream, op: Op, by_library: bool = False) -> None:
        with self._lock:
            known = _latest(self._host.values()) if by_library else self._host_clock()
            op.stream, op.index = stream.number, (stream.last.index if stream.last else 0) + 1
            earlier = [stream.last.clock] if stream.last else []
            earlier += [op.waits.clock] if op.waits else []
            op.clock = {**_latest([*earlier, known]), stream.number: op.index}
            for views, writes in ((op.reads, False), (op.writes, True)):
                for view in views:
                    self._check_alive(view, op)
                    self._touch(view.memory, view.offset, view.offset + view.nbytes, writes, op.clock, op.name)
            for view in op.reads + op.writes:
                for writes in (False, True):
                    if view in (op.writes if writes else op.reads):
                        key = (op.stream, view.offset, view.offset + view.nbytes, writes)
                        self._touched.setdefault(view.memory.pointer, {})[key] = op.index
            stream.last = op
            stream.pending.append(op)

    def host_waits(self, what: str, op: Op | None) -> None:
        if threading.get_ident() in self._capturing:
            self._break(f"the host waited for {what} during a capture")
        self.health.require_alive()
        with self._lock:
            if op is not None:
                self._run_until(op)
                clock = self._host_clock()
                clock.update(_latest([clock, op.clock]))

    def host_touches(self, memory: Memory, writes: bool) -> None:
        with self._lock:
            self._touch(memory, 0, memory.nbytes, writes, self._host_clock(), "the host")

    @contextmanager
    def capture_by_this_thread(self) -> Iterator[None]:
        self._capturing.add(threading.get_ident())
        try:
            yield
        finally:
            self._capturing.discard(threading.get_ident())

    # Inside

    def _new(self, nbytes: int) -> tuple[Array, int, int, Callable[[Any], None]]:
        if threading.get_ident() in self._capturing:
            self._break(f"{nbytes} bytes were allocated during a capture")
        with self._lock:
            self.health.require_alive()
            self.allocated.append(nbytes)
            inner, pointer = np.zeros(nbytes, np.uint8), next(self._addresses)
            self._live[pointer] = nbytes

            def give_back(_: Any) -> None:
                self._live.pop(pointer, None)

            return inner, pointer, nbytes, give_back

    def _check_alive(self, view: View, op: Op) -> None:
        if view.memory.pointer not in self._live:
            self._break(f"{op.name} uses memory that was given back")

    def _touch(self, memory: Memory, start: int, stop: int, writes: bool, clock: Clock, who: str) -> None:
        for (stream, first, last, wrote), index in self._touched.get(memory.pointer, {}).items():
            overlaps = first < stop and start < last
            if overlaps and (writes or wrote) and index > clock.get(stream, 0):
                verbs = ("writes" if writes else "reads", "wrote" if wrote else "reads")
                self._break(f"{who} {verbs[0]} what stream {stream} {verbs[1]}, and does not wait for it")

    def _break(self, message: str) -> None:
        self.broken.append(message)
        raise RuleBroken(message)

    def _host_clock(self) -> Clock:
        """What this thread knows to be done; a new thread knows what its makers knew."""
        thread = threading.get_ident(), id(threading.current_thread())
        key = hash(thread)
        if key not in self._host:
            self._host[key] = _latest(self._host.values())
        return self._host[key]

    def _run_until(self, target: Op) -> None:
        while target.done_at is None:
            ready = [
                s for s in self._streams if s.pending and (s.pending[0].waits is None or s.pending[0].waits.done_at)
            ]
            others = [stream for stream in ready if stream.number != target.stream]
            chosen = self._random.choice(others if others and self._random.random() < 0.7 else ready)
            op = chosen.pending.popleft()
            try:
                op.run()
            except RuleBroken:
                raise
            except Exception as exc:
                raise self.health.failed("run what was enqueued", str(exc)) from exc
            op.done_at = time.perf_counter()
            self.ran.append((op.stream, op.name))


class StandInBackend(CudaBackend):
    """The runtime's own GPU code over the stand-in; ONNX Runtime's CPU sessions do the arithmetic."""

    name = "onnxruntime"

    def __init__(self, cuda: StandInDevice, capture_obstacle: str | None = None, slice_s: float = float("inf")) -> None:
        """``slice_s``: as a clip of a real GPU; nothing here depends on how long anything takes unless it is given."""
        self.slice_s = slice_s
        self._obstacle = capture_obstacle
        self.trouble: Callable[[str, bool], None] = lambda graph, capturing: None
        """Called with each graph that is enqueued; may raise."""
        self.accident: Callable[[str], None] = lambda graph: None
        """Called with each graph as it runs; may raise."""
        super().__init__(cuda)  # type: ignore[arg-type]

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        return StandInGraph(self, arithmetic(bundle.path, graph), stream, self._obstacle)


@cache
def arithmetic(bundle: Path, graph: str) -> Graph:
    """A graph in ONNX Runtime, opened once for all tests of a process: that takes longer than running it."""
    return OrtBackend(threads=1).open(opened_bundle(bundle), graph)


@cache
def opened_bundle(path: Path) -> Bundle:
    """A bundle, its files compared with their hashes once."""
    return Bundle.open(path)


class StandInGraph(Graph):
    def __init__(self, backend: StandInBackend, inner: Graph, stream: CudaStream, obstacle: str | None) -> None:
        self.backend, self.inner, self.stream, self.spec = backend, inner, stream, inner.spec
        self.capture_obstacle, self.is_closed = obstacle, False

    def opened(self) -> Graph:
        """What computes. Raises :class:`ClosedError` after :meth:`close`."""
        if self.is_closed:
            raise ClosedError(f"graph {self.spec.name} is closed")
        return self.inner

    def bind(self, buffers: Mapping[str, Buffer]) -> BoundGraph:
        return StandInBoundGraph(self, buffers)

    def close(self) -> None:
        self.is_closed = True


class StandInBoundGraph(BoundGraph):
    def __init__(self, graph: StandInGraph, buffers: Mapping[str, Buffer]) -> None:
        self._graph = graph
        self._bound = BoundTensors(graph.spec, buffers)

    def rebind(self, name: str, buffer: Buffer) -> None:
        self._bound.replace(name, buffer)

    def run(self) -> None:
        graph, bound = self._graph, {name: on_device(buffer) for name, buffer in self._bound.buffers.items()}
        stream: Any = graph.stream.inner
        graph.backend.trouble(graph.spec.name, stream.is_capturing)
        memory = {name: host_side(buffer) for name, buffer in bound.items()}  # addresses are taken when it is enqueued

        def work() -> None:
            graph.backend.accident(graph.spec.name)
            graph.opened().bind(memory).run()

        reads = [bound[name].view for name in self._bound.inputs]
        writes = [bound[name].view for name in self._bound.outputs]
        stream.enqueue(graph.spec.name, work, reads, writes)


def data(view: View) -> Array:
    """The bytes of a view."""
    whole: Array = view.memory.bytes  # type: ignore[attr-defined]
    return whole[view.offset : view.offset + view.nbytes]


def host_side(buffer: DeviceBuffer) -> HostBuffer:
    """The same memory as a buffer of the CPU."""
    return HostBuffer(data(buffer.view).view(buffer.dtype).reshape(buffer.shape))


class ByAddress:
    """Runs graphs of a bundle on the CPU for a stand-in of a library that binds addresses."""

    def __init__(self, device: StandInDevice, graph: Graph) -> None:
        self.device, self._graph = device, graph
        self.spec = graph.spec

    def enqueue(
        self, handle: int, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], *scratch: View
    ) -> None:
        """One run in the stream of that handle. ``scratch`` is written besides."""
        if getattr(CURRENT, "index", 0) != self.device.index:
            raise RuleBroken(f"{self.spec.name} was enqueued while another device was current")
        tensors = {tensor.name: tensor for tensor in (*self.spec.inputs, *self.spec.outputs)}
        missing = set(tensors) - set(addresses)
        if missing:
            raise RuleBroken(f"nothing is bound to {sorted(missing)}")
        views, memory = {}, {}
        for name, tensor in tensors.items():
            size = int(np.prod(shapes[name])) * np.dtype(tensor.dtype).itemsize
            views[name] = self.device.at(addresses[name], size)
            memory[name] = HostBuffer(data(views[name]).view(tensor.dtype).reshape(shapes[name]))
        reads = [views[tensor.name] for tensor in self.spec.inputs]
        writes = [*(views[tensor.name] for tensor in self.spec.outputs), *scratch]
        stream = self.device.stream_of(handle)
        stream.take(self.spec.name, lambda: self._graph.bind(memory).run(), reads, writes)


def _latest(clocks: Iterable[Clock]) -> Clock:
    merged: Clock = {}
    for clock in list(clocks):
        for stream, index in clock.items():
            merged[stream] = max(merged.get(stream, 0), index)
    return merged


def _nothing() -> None:
    pass
