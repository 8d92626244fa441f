"""Stages that overlap: each runs in a thread of its own, items pass through bounded channels, errors end everything.

The caller's thread takes the results. Closing, at any time and from any state, stops the threads and waits for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The channel was closed: stop working."""


class Channel(Generic[T]):
    """A bounded queue between two threads that either side can end."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._ended = self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, timeout: float | None = None) -> bool:
        """Wait for room and put; False if there was none in time. Raises :class:`Closed`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth, timeout)
            if self._closed:
                raise Closed
            if len(self._items) >= self._depth:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """No more items will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop all items; both sides raise :class:`Closed` from now on. Safe twice."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def waiting(self) -> bool:
        """Whether the next item can be taken at once."""
        with self._changed:
            return bool(self._items)

    def __iter__(self) -> Iterator[T]:
        """Items until the end. Raises :class:`Closed`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._items or self._ended)
                if self._closed:
                    raise Closed
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Pipeline(Generic[T]):
    """``source`` and each of ``stages`` in its own thread; iterate over it for the results, in order.

    The first error of any thread is raised to whoever iterates. A context manager; :meth:`close` is safe twice. A
    source that waits for something else than these channels must be woken by its owner before :meth:`close`. A source
    that is a generator is closed in its own thread, whatever happens.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *stages: Callable[[Any], Any],
        depth: int = 2,
        stop: threading.Event | None = None,
    ) -> None:
        """``depth``: items that wait between two threads. ``stop``: set when :meth:`close` or an error makes all work
        pointless; long work may look at it and raise :class:`Closed`.
        """
        self._stop = stop or threading.Event()
        self._channels: list[Channel[Any]] = [Channel(depth) for _ in range(len(stages) + 1)]
        self._error: BaseException | None = None
        self._threads = [self._thread("source", source, None, self._channels[0])]
        for index, stage in enumerate(stages):
            self._threads.append(
                self._thread(f"stage-{index}", self._channels[index], stage, self._channels[index + 1])
            )
        self._results = iter(self._channels[-1])
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # the system may refuse a thread
            self.close()
            raise

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            result: T = next(self._results)
            return result
        except (Closed, StopIteration):
            pass
        if self._error is not None:
            raise self._error  # outside of the except block: its own cause is what matters
        raise StopIteration

    def finished(self) -> Iterator[T]:
        """The results that are there already, without waiting."""
        while self.ready():
            yield next(self)

    def ready(self) -> bool:
        """Whether the next result, or the error that ended everything, is there already."""
        return self._error is not None or self._channels[-1].waiting()

    def close(self) -> None:
        """Stop all threads and wait for them."""
        self._close_channels()
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()
        self._error = None  # its traceback refers to the threads' frames: a cycle that would keep a run's buffers

    def __enter__(self) -> Pipeline[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _thread(
        self, name: str, items: Iterable[Any], stage: Callable[[Any], Any] | None, output: Channel[Any]
    ) -> threading.Thread:
        def work() -> None:
            try:
                with closing(items) if isinstance(items, Generator) else nullcontext():
                    for item in items:
                        output.put(item if stage is None else stage(item))
                output.end()
            except Closed:
                output.close()
            except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread, whatever it is
                self._fail(exc)

        return threading.Thread(target=work, name=f"emo_rt-{name}", daemon=True)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # raised by __next__, it would look like the regular end
            wrapped = RuntimeError("a stage raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        if self._error is None:
            self._error = error
        self._close_channels()

    def _close_channels(self) -> None:
        self._stop.set()
        for channel in self._channels:
            channel.close()
