"""A tensor's memory on a GPU."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from emo_rt.device.cuda.memory import View
from emo_rt.model.contract import DTYPES, Array


class Transfer(Protocol):
    """Copies between host and device at once: for set-up and tests. Runs use uploads and downloads of a stream."""

    def write(self, target: View, values: Array) -> None:
        """Copy in, after all work that was enqueued before."""
        ...

    def read(self, source: View, shape: tuple[int, ...], dtype: str) -> Array:
        """Copy out, after all work that was enqueued before."""
        ...


class DeviceBuffer:
    """Some memory of the device as an array, C-contiguous. A :class:`emo_rt.device.buffers.Buffer`."""

    def __init__(self, view: View, shape: tuple[int, ...], dtype: str, transfer: Transfer, owner: bool = False) -> None:
        """``owner``: whether closing the buffer gives its memory back."""
        self.view = view
        self.shape = shape
        self.dtype = dtype
        self.pointer = view.pointer
        self._transfer, self._owner = transfer, owner

    def rows(self, start: int, stop: int) -> DeviceBuffer:
        """A view along the first axis."""
        first, last, _ = slice(start, stop).indices(self.shape[0])
        size = self._row_size()
        view = self.view.part(first * size, max(last - first, 0) * size)
        return DeviceBuffer(view, (max(last - first, 0), *self.shape[1:]), self.dtype, self._transfer)

    def row(self, index: int) -> DeviceBuffer:
        """A view of one row, without the first axis."""
        view = self.view.part(index * self._row_size(), self._row_size())
        return DeviceBuffer(view, self.shape[1:], self.dtype, self._transfer)

    def write(self, values: Array) -> None:
        """Copy in, converting the type. Raises ``ValueError`` for another shape."""
        self._transfer.write(self.view, fitting(self, values))

    def read(self) -> Array:
        """A new array on the host."""
        return self._transfer.read(self.view, self.shape, self.dtype)

    def close(self) -> None:
        """Give the memory back, if this buffer is its owner. Safe twice."""
        if self._owner:
            self.view.memory.close()

    def _row_size(self) -> int:
        return int(np.prod(self.shape[1:])) * DTYPES[self.dtype]


def fitting(buffer: DeviceBuffer, values: Array) -> Array:
    """``values`` as they lie in the buffer. Raises ``ValueError`` for another shape."""
    if values.shape != buffer.shape:
        raise ValueError(f"a buffer of shape {buffer.shape} cannot take {values.shape}")
    return np.ascontiguousarray(values, buffer.dtype)
