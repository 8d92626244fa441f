"""Backends, and the only place that compares their names."""

from __future__ import annotations

import logging

from emo_rt.backends.base import Backend, Launch, Session
from emo_rt.errors import BackendUnavailableError
from emo_rt.settings import check

__all__ = ["Backend", "Launch", "Session", "open_backend"]

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "onnxruntime", "tensorrt")

logger = logging.getLogger(__name__)


def open_backend(backend: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """The requested backend on the requested device.

    Only ``auto`` chooses by itself, and says so once in the log. Raises :class:`BackendUnavailableError` for a
    backend or device that cannot be had, :class:`ConfigError` for an unknown name.
    """
    check(backend in BACKENDS, "backend", backend, f"one of {', '.join(BACKENDS)}")
    check(device in DEVICES, "device", device, f"one of {', '.join(DEVICES)}")
    usable = threads is None or (isinstance(threads, int) and 1 <= threads <= 1024)
    check(usable, "threads", threads, "an integer from 1 to 1024, or None")
    if device == "cuda" or backend == "tensorrt":
        wanted = "device 'cuda'" if device == "cuda" else "backend 'tensorrt'"
        raise BackendUnavailableError(
            f"{wanted} cannot be had: this version of emo_rt runs on the CPU only; use device 'cpu' or 'auto' and "
            "backend 'onnxruntime' or 'auto'"
        )
    from emo_rt.backends.ort import OrtBackend

    chosen = OrtBackend(threads)
    if "auto" in (backend, device):
        logger.info("running on %s (%s)", chosen.device, chosen.name)
    return chosen
