"""Memory of the device and page-locked memory of the host, and borrowed parts of both."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import ClosedError

Bytes = NDArray[np.uint8]


class Memory:
    """Owns a piece of memory. Closing is safe twice; memory that is dropped without is given back as well."""

    def __init__(self, inner: Any, pointer: int, nbytes: int, give_back: Callable[[Any], None]) -> None:
        """``give_back``: takes ``inner`` once all work that was enqueued so far cannot use it any more."""
        self._inner: Any = inner
        self.pointer = pointer
        """Address of the first byte."""
        self.nbytes = nbytes
        """Size in bytes."""
        self._finalizer = weakref.finalize(self, give_back, inner)
        self._finalizer.atexit = False

    @property
    def inner(self) -> Any:
        """The ``cuda.core`` buffer. Raises :class:`ClosedError` after :meth:`close`."""
        if self._inner is None:
            raise ClosedError("device memory was closed; prepare the avatar or load the animator again")
        return self._inner

    def view(self, offset: int = 0, nbytes: int | None = None) -> View:
        """A borrowed part; the whole by default."""
        size = self.nbytes - offset if nbytes is None else nbytes
        if not 0 <= offset <= offset + size <= self.nbytes:
            raise ValueError(f"bytes {offset} to {offset + size} are not in memory of {self.nbytes} bytes")
        return View(self, offset, size)

    def close(self) -> None:
        """Give the memory back. Safe twice."""
        self._inner = None
        self._finalizer()


class DeviceMemory(Memory):
    """Memory of the device."""


class PinnedMemory(Memory):
    """Page-locked memory of the host: copies from and to the device need no help of the host."""

    def __init__(self, inner: Any, pointer: int, bytes_: Bytes, give_back: Callable[[Any], None]) -> None:
        super().__init__(inner, pointer, bytes_.nbytes, give_back)
        self._bytes = bytes_

    def write(self, values: NDArray[Any]) -> None:
        """Copy an array in, from the first byte. No copy by the device may be reading."""
        assert values.nbytes <= self.nbytes
        np.copyto(self._bytes[: values.nbytes].view(values.dtype).reshape(values.shape), values)

    def read(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A new array with the first bytes. No copy by the device may be writing."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._bytes[:size].view(dtype).reshape(shape).copy()


@dataclass(frozen=True, eq=False)
class View:
    """A borrowed part of some memory. Keeps it alive, does not own it."""

    memory: Memory
    """Where it lies."""
    offset: int
    """First byte."""
    nbytes: int
    """Size in bytes."""

    @property
    def pointer(self) -> int:
        """Address of the first byte."""
        return self.memory.pointer + self.offset

    def part(self, offset: int, nbytes: int) -> View:
        """A part of this part."""
        if not 0 <= offset <= offset + nbytes <= self.nbytes:
            raise ValueError(f"bytes {offset} to {offset + nbytes} are not in a view of {self.nbytes} bytes")
        return View(self.memory, self.offset + offset, nbytes)
