"""Which GPU is here, asked of the CUDA driver itself: no package and no context needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from emo_rt.errors import BackendUnavailableError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The driver's library. Comes with the driver, not with CUDA."""
MAJOR, MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``…_MINOR`` of cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """What a plan depends on."""

    name: str
    """``NVIDIA GeForce RTX 4090``."""
    capability: str
    """Compute capability: ``sm89``."""


def current_gpu(index: int = 0) -> Gpu:
    """GPU ``index``, counted as CUDA does (``CUDA_VISIBLE_DEVICES`` holds).

    Raises :class:`BackendUnavailableError` where there is no such GPU or no driver.
    """
    cuda, device = _device(index)
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    numbers = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(name.value.decode(errors="replace"), f"sm{numbers[0]}{numbers[1]}")


def gpu_memory(index: int = 0) -> int:
    """Bytes of memory that GPU ``index`` has, taken or not. Raises as :func:`current_gpu` does."""
    cuda, device = _device(index)
    size = ctypes.c_size_t()
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
    return size.value


def _device(index: int) -> tuple[ctypes.CDLL, ctypes.c_int]:
    """The driver, and its handle of a GPU."""
    try:
        cuda = ctypes.CDLL(DRIVER)
    except OSError as exc:
        raise BackendUnavailableError(
            f"there is no NVIDIA driver on this machine ({DRIVER} cannot be loaded), so no GPU to build for or run on"
        ) from exc
    device = ctypes.c_int()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), index, gpu=f"GPU {index}")
    return cuda, device


def _call(cuda: ctypes.CDLL, function: str, *arguments: object, gpu: str = "GPU") -> None:
    status = getattr(cuda, function)(*arguments)
    if status != 0:
        raise BackendUnavailableError(
            f"the CUDA driver gives no {gpu}: {function} returned {status}; `nvidia-smi` shows what the driver sees"
        )
