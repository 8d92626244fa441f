"""Stages that overlap: each runs in a thread of its own, items pass through bounded channels, errors end everything.

The caller's thread takes the results. Closing, at any time and from any state, stops the threads and waits for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
    source that waits for something else than these channels must be woken by its owner before :meth:`close`.
    """

    def __init__(self, source: Iterable[Any], *stages: Callable[[Any], Any], depth: int = 2) -> None:
        self._channels: list[Channel[Any]] = [Channel(depth) for _ in range(len(stages) + 1)]
        self._error: BaseException | None = None
        self._threads = [self._thread("source", source, None, self._channels[0])]
        for index, stage in enumerate(stages):
            self._threads.append(
                self._thread(f"stage-{index}", self._channels[index], stage, self._channels[index + 1])
            )
        self._results = iter(self._channels[-1])
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            result: T = next(self._results)
        except (Closed, StopIteration):
            if self._error is not None:
                raise self._error from None
            raise StopIteration from None
        return result

    def ready(self) -> bool:
        """Whether the next result, or the error that ended everything, is there already."""
        return self._error is not None or self._channels[-1].waiting()

    def close(self) -> None:
        """Stop all threads and wait for them."""
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Pipeline[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _thread(
        self, name: str, items: Iterable[Any], stage: Callable[[Any], Any] | None, output: Channel[Any]
    ) -> threading.Thread:
        def work() -> None:
            try:
                for item in items:
                    output.put(item if stage is None else stage(item))
                output.end()
            except Closed:
                output.close()
            except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread, whatever it is
                self._error = self._error or exc
                for channel in self._channels:
                    channel.close()

        return threading.Thread(target=work, name=f"emo_rt-{name}", daemon=True)
