"""The one place where CUDA's errors become ours, and where a lost device is remembered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emo_rt.errors import BackendError, DeviceLostError, EmoRtError

STICKY = {
    "CUDA_ERROR_ECC_UNCORRECTABLE": 214,
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": 220,
    "CUDA_ERROR_ILLEGAL_ADDRESS": 700,
    "CUDA_ERROR_LAUNCH_TIMEOUT": 702,
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": 709,
    "CUDA_ERROR_ASSERT": 710,
    "CUDA_ERROR_HARDWARE_STACK_ERROR": 714,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": 715,
    "CUDA_ERROR_MISALIGNED_ADDRESS": 716,
    "CUDA_ERROR_INVALID_ADDRESS_SPACE": 717,
    "CUDA_ERROR_INVALID_PC": 718,
    "CUDA_ERROR_LAUNCH_FAILED": 719,
}
"""Errors after which every call of the process fails the same way, with their numbers (CUDA driver API, CUresult)."""

_BY_NUMBER = {number: name for name, number in STICKY.items()}
_DRIVER_NAME = re.compile(r"\bCUDA_ERROR_[A-Z_]+\b")
_NUMBERED = re.compile(r"\bcuda ?(?:failure|error):? (\d+)\b", re.IGNORECASE)
"""How ONNX Runtime and TensorRT quote an error: ``CUDA failure 700: …``, ``cudaError 700: …``."""
_SPOKEN = {
    "illegal memory access": "CUDA_ERROR_ILLEGAL_ADDRESS",
    "misaligned address": "CUDA_ERROR_MISALIGNED_ADDRESS",
    "unspecified launch failure": "CUDA_ERROR_LAUNCH_FAILED",
    "device-side assert": "CUDA_ERROR_ASSERT",
}


def sticky_error(message: str) -> str | None:
    """The name of the lasting error that a message of CUDA, TensorRT or ONNX Runtime tells of, if it does."""
    for name in _DRIVER_NAME.findall(message):
        if name in STICKY:
            return str(name)
    for number in _NUMBERED.findall(message):
        if int(number) in _BY_NUMBER:
            return _BY_NUMBER[int(number)]
    return next((name for words, name in _SPOKEN.items() if words in message.lower()), None)


class Health:
    """Whether a device still works. All calls to CUDA and to what runs on it go through :meth:`check`."""

    def __init__(self) -> None:
        self.failure: str | None = None
        """What ended the device, once something has."""

    @contextmanager
    def check(self, what: str) -> Iterator[None]:
        """Run calls to CUDA inside. ``what``: said in the message, as in ``cannot <what>``.

        Raises :class:`DeviceLostError` after a lasting error, now or earlier; :class:`BackendError` for any other.
        """
        self.require_alive()
        try:
            yield
        except EmoRtError:
            raise
        except Exception as exc:  # CUDA, TensorRT and ONNX Runtime share no base class of errors
            raise self.failed(what, f"{type(exc).__name__}: {exc}") from exc

    def failed(self, what: str, detail: str) -> BackendError:
        """The error to raise for a failure; remembers one that lasts."""
        name = sticky_error(detail)
        if name is None:
            return BackendError(f"cannot {what}: {detail}")
        self.failure = f"{name} ({STICKY[name]}) while it should {what}"
        return self._lost()

    def require_alive(self) -> None:
        """Raise :class:`DeviceLostError` if the device was lost earlier."""
        if self.failure is not None:
            raise self._lost()

    def _lost(self) -> DeviceLostError:
        return DeviceLostError(
            f"the GPU failed for good: {self.failure}; close the animator and load it again, in a new process"
        )


def value_of(result: tuple[Any, ...]) -> Any:
    """The value of a ``cuda.bindings`` call, (status, value). Raises ``RuntimeError`` with the status's name."""
    status, *values = result
    if int(status) != 0:
        raise RuntimeError(f"{getattr(status, 'name', status)}")
    return values[0] if len(values) == 1 else tuple(values)
