"""How much of a machine one worker takes: measured once per run, where the run will be."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from emo_rt.batch.task import Model
from emo_rt.batch.worker import load
from emo_rt.device.device_name import DeviceName
from emo_rt.device.tensorrt.gpus import gpu_memory
from emo_rt.errors import ConfigError
from emo_rt.memory import resident_memory

HEADROOM = 1.2
"""Memory that is asked for, in units of what was measured: portraits differ in size."""


@dataclass(frozen=True)
class Share:
    """What a worker asks of Ray."""

    gpus: float = 0.0
    """Part of a GPU, or whole ones. Ray only counts them: memory must really suffice."""
    cpus: float = 1.0
    """CPU cores."""
    memory: int = 0
    """Bytes of the machine's memory; 0 = not counted."""

    def __post_init__(self) -> None:
        if not 0 <= self.gpus < math.inf or not 0 < self.cpus < math.inf or self.memory < 0:
            raise ConfigError(f"share is {self}; expected gpus and memory of 0 or more, cpus of more than 0")


def gpu_part(used: int, total: int) -> float:
    """Part of a GPU for a worker that needs ``used`` of its ``total`` bytes: 1/n for n that fit."""
    return 1 / max(1, math.floor(total / (HEADROOM * used)))


def measured(model: Model, cpus: float) -> Share:
    """Load the model here and warm it up. Raises what :meth:`emo_rt.Animator.load` raises."""
    with load(model) as animator:
        animator.warmup()
        used = animator.memory_stats().get("device_used")
        memory = math.ceil(HEADROOM * (resident_memory() or 0))
        if used is None:
            return Share(0.0, cpus, memory)
        return Share(gpu_part(used, gpu_memory(DeviceName.read(animator.device).index)), cpus, memory)


def threads_for(model: Model, workers: int, node_cpus: list[float], has_gpu: bool) -> int:
    """CPU threads of a worker, so that so many do not fight for the cores of the machines."""
    if model.threads is not None:
        return model.threads
    if has_gpu:
        return 1
    cpus = node_cpus or [float(os.cpu_count() or 1)]
    return max(1, int(min(sum(cpus) // workers, *cpus)))
