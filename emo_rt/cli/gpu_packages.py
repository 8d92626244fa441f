"""Which packages make a GPU usable: the one command that fits a card and its driver, or what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ONNXRUNTIME_GPU = {
    "x86_64": ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0"),
    "aarch64": ("8.9", "9.0", "12.0", "12.1"),
}
"""Machine → compute capabilities that onnxruntime-gpu 1.31 has code for (its binaries; it carries no PTX)."""
RTX = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Those that tensorrt_rtx 1.7 builds for."""
JETSON = ("8.7", "11.0")
"""Orin and Thor: their TensorRT comes with JetPack."""
OLDEST_DRIVER = 580
"""CUDA 13 needs it, and onnxruntime-gpu 1.31 is built for CUDA 13."""


@dataclass(frozen=True)
class Card:
    """A GPU in the words of nvidia-smi; ``unknown`` where there is none to ask."""

    name: str
    memory: str
    """With its unit: ``81559 MiB``."""
    driver: str
    """Version."""
    compute_capability: str
    """``9.0``."""


def advice(gpu: Card, packages: Mapping[str, str | None], machine: str) -> str:
    """What to do so that emo_rt uses a GPU. ``packages``: distributions and their versions, ``None`` = absent;
    ``machine``: of ``platform.machine()``."""
    capability, driver = gpu.compute_capability, gpu.driver
    if capability in JETSON:
        return "on a Jetson use JetPack's TensorRT: pip install 'emo_rt[cuda]' in an environment that sees it"
    if capability in ONNXRUNTIME_GPU.get(machine, ()):
        newest = driver.partition(".")[0]
        if newest.isdigit() and int(newest) < OLDEST_DRIVER:
            return f"its driver {driver} is older than {OLDEST_DRIVER}, which CUDA 13 needs: update the driver first"
        remove = "pip uninstall -y onnxruntime && " if packages.get("onnxruntime") else ""
        return f"{remove}pip install 'emo_rt[gpu]'"
    if capability in RTX:
        return "pip install 'emo_rt[tensorrt-rtx]'"
    return f"onnxruntime-gpu has no code for compute capability {capability}: pip install 'emo_rt[tensorrt]'"
