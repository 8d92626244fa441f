"""Named buffers that stay where they are: what one graph writes, the next reads at the same place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, Self

import numpy as np

from emo_rt.errors import BundleError, ClosedError
from emo_rt.model.contract import Array, TensorSpec


class Buffer(Protocol):
    """Memory of one tensor on one device. Views share the memory of the buffer that they were made from."""

    shape: tuple[int, ...]
    """Sizes."""
    dtype: str
    """Element type, a key of :data:`emo_rt.model.contract.DTYPES`."""
    pointer: int
    """Address of the first element on the device."""

    def rows(self, start: int, stop: int) -> Buffer:
        """A view of rows ``start`` … ``stop`` along the first axis."""
        ...

    def row(self, index: int) -> Buffer:
        """A view of one row, without the first axis."""
        ...

    def write(self, values: Array) -> None:
        """Copy an array of the same shape in, converting its type."""
        ...

    def read(self) -> Array:
        """The values as an array on the host; on the CPU the memory itself, not a copy."""
        ...

    def close(self) -> None:
        """Give the memory back, unless this is a view. Safe twice. On the CPU memory lives as long as its users."""
        ...


class HostBuffer:
    """A buffer in the CPU's memory: a C-contiguous numpy array."""

    def __init__(self, array: Array) -> None:
        assert array.flags.c_contiguous, "a buffer is contiguous"
        self.array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype = array.dtype.name
        self.pointer = array.ctypes.data

    def rows(self, start: int, stop: int) -> HostBuffer:
        """A view along the first axis."""
        return HostBuffer(self.array[start:stop])

    def row(self, index: int) -> HostBuffer:
        """A view of one row, without the first axis."""
        return HostBuffer(self.array[index])

    def write(self, values: Array) -> None:
        """Copy in. Raises ``ValueError`` for another shape."""
        if values.shape != self.shape:
            raise ValueError(f"a buffer of shape {self.shape} cannot take {values.shape}")
        self.array[...] = values

    def read(self) -> Array:
        """The array itself."""
        return self.array

    def close(self) -> None:
        """Nothing to do: whoever uses the array keeps it alive."""


class Allocator(Protocol):
    """What makes buffers: a backend."""

    def allocate(self, spec: TensorSpec) -> Buffer:
        """A zeroed buffer for a tensor of static shape."""
        ...


class Buffers(Mapping[str, Buffer]):
    """Buffers by tensor name. Made once; nothing is added while clips are made. A context manager.

    Those of an avatar are its features: ``avatar.features["face_feature"].read()`` is an array.
    """

    def __init__(self, allocator: Allocator, specs: Iterable[TensorSpec]) -> None:
        """One buffer per name, for all graphs that share it. Raises :class:`BundleError` where they disagree."""
        unique: dict[str, TensorSpec] = {}
        for spec in specs:
            if unique.setdefault(spec.name, spec) != spec:
                raise BundleError(f"graphs disagree about a tensor: {unique[spec.name]} and {spec}; export again")
        self.is_closed = False
        """Whether the buffers were given back."""
        self._buffers: dict[str, Buffer] = {}
        try:
            for name, spec in unique.items():
                self._buffers[name] = allocator.allocate(spec)
        except BaseException:  # a device may not have enough memory
            self.close()
            raise
        self.nbytes = sum(spec.nbytes for spec in unique.values())
        """Memory of all of them."""

    def __getitem__(self, name: str) -> Buffer:
        self._require_open()
        return self._buffers[name]

    def close(self) -> None:
        """Give all buffers back. Safe twice. Launches that use them must not run any more."""
        self.is_closed, self.nbytes = True, 0
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()

    def _require_open(self) -> None:
        if self.is_closed:
            raise ClosedError("these buffers were closed; prepare the picture again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        self._require_open()
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)


def host_buffer(spec: TensorSpec) -> HostBuffer:
    """A zeroed buffer on the host."""
    return HostBuffer(np.zeros([size for size in spec.shape if isinstance(size, int)], spec.dtype))
