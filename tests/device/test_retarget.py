"""Copies that change their buffer keep the largest pinned memory: sounds of many lengths allocate it once."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.device.base import Backend, Graph
from emo_rt.device.cuda_backend import CudaBackend
from emo_rt.device.cuda_stream import CudaStream
from emo_rt.device.onnxruntime_cpu import OrtBackend
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import TensorSpec
from tests.cuda_stand_in import StandInDevice

LENGTHS = (7, 3, 7, 9, 1, 9)


class OnStandIn(CudaBackend):
    """Buffers and streams alone."""

    name = "stand-in"

    def _open(self, bundle: Bundle, graph: str, stream: CudaStream) -> Graph:
        raise NotImplementedError


def copies(backend: Backend) -> None:
    """Up and down again, with buffers of many lengths."""
    stream = backend.stream("side")
    buffers = [backend.allocate(TensorSpec("x", "float32", (length,))) for length in LENGTHS]
    up, down = stream.upload(buffers[0]), stream.download(buffers[0])
    for index, buffer in enumerate(buffers):
        up.retarget(buffer)
        down.retarget(buffer)
        values = np.arange(LENGTHS[index], dtype=np.float32) + index
        up.write(values)
        down.start()
        np.testing.assert_array_equal(down.result(), values)
        with pytest.raises(ValueError, match="shape"):
            up.write(np.zeros(100, np.float32))
    up.close()
    down.close()
    for buffer in buffers:
        buffer.close()


def test_on_a_gpu_only_a_larger_buffer_takes_pinned_memory() -> None:
    device = StandInDevice()
    with OnStandIn(device) as backend:  # type: ignore[arg-type]
        device.allocated.clear()
        copies(backend)
    pinned = device.allocated[len(LENGTHS) :]
    assert pinned == [28, 28, 36, 36]  # first, and as it grows from 7 numbers to 9
    assert device.broken == []


def test_on_the_cpu() -> None:
    with OrtBackend(threads=1) as backend:
        copies(backend)
