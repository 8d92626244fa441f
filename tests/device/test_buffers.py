"""Buffers stay where they are, and views share their memory."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.device.buffers import Buffers, HostBuffer, host_buffer
from emo_rt.errors import BundleError
from emo_rt.model.contract import DTYPES, TensorSpec


class CountingAllocator:
    """Makes buffers on the host and notes for which tensors."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def allocate(self, spec: TensorSpec) -> HostBuffer:
        self.asked.append(spec.name)
        return host_buffer(spec)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_new_buffer_is_zero_and_has_the_tensors_form(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (2, 3))
    buffer = host_buffer(spec)
    assert (buffer.shape, buffer.dtype) == ((2, 3), dtype)
    assert buffer.read().nbytes == spec.nbytes
    assert not buffer.read().any()


def test_write_converts_the_type_and_read_is_no_copy() -> None:
    buffer = host_buffer(TensorSpec("x", "float16", (2,)))
    buffer.write(np.array([1.5, 2], np.float64))
    assert buffer.read().dtype == np.float16
    assert buffer.read().ctypes.data == buffer.pointer
    np.testing.assert_array_equal(buffer.read(), [1.5, 2])


def test_write_keeps_the_address() -> None:
    buffer = host_buffer(TensorSpec("x", "float32", (2,)))
    before = buffer.pointer
    buffer.write(np.ones(2))
    assert buffer.read().ctypes.data == buffer.pointer == before


def test_write_of_another_shape_is_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match=r"a buffer of shape \(2, 3\) cannot take \(3,\)"):
        host_buffer(TensorSpec("x", "float32", (2, 3))).write(np.ones(3))


def test_rows_are_a_view() -> None:
    buffer = host_buffer(TensorSpec("x", "float32", (4, 3)))
    view = buffer.rows(1, 3)
    view.write(np.ones((2, 3)))
    assert view.pointer == buffer.pointer + 3 * 4
    np.testing.assert_array_equal(buffer.read()[:, 0], [0, 1, 1, 0])


def test_a_row_is_a_view_without_the_first_axis() -> None:
    buffer = host_buffer(TensorSpec("x", "float32", (4, 3)))
    view = buffer.row(2)
    view.write(np.ones(3))
    assert (view.shape, view.pointer) == ((3,), buffer.pointer + 2 * 3 * 4)
    np.testing.assert_array_equal(buffer.read()[:, 0], [0, 0, 1, 0])


def test_a_shared_tensor_gets_one_buffer() -> None:
    allocator = CountingAllocator()
    spec = TensorSpec("x", "float32", (2,))
    buffers = Buffers(allocator, [spec, TensorSpec("y", "uint8", (3,)), spec])
    assert allocator.asked == list(buffers) == ["x", "y"]
    assert buffers.nbytes == 2 * 4 + 3


def test_looking_into_an_arena_allocates_nothing() -> None:
    allocator = CountingAllocator()
    buffers = Buffers(allocator, [TensorSpec("x", "float32", (2,))])
    assert buffers["x"] is buffers["x"]
    assert dict(**buffers) == {"x": buffers["x"]}
    assert allocator.asked == ["x"]


def test_graphs_that_disagree_about_a_tensor_are_refused() -> None:
    small, large = TensorSpec("x", "float32", (2,)), TensorSpec("x", "float32", (3,))
    with pytest.raises(BundleError, match=r"disagree about a tensor: .*\(2,\).*\(3,\)"):
        Buffers(CountingAllocator(), [small, large])


def test_a_tensor_without_a_static_size_is_refused() -> None:
    with pytest.raises(BundleError, match="dynamic axis 'samples'"):
        Buffers(CountingAllocator(), [TensorSpec("waveform", "float32", (1, "samples"))])
