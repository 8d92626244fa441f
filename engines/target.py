"""What an engine is built for: the GPU that is here, or kinds of GPU that are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from emo_rt.checks import check
from emo_rt.device.tensorrt.gpus import Gpu, current_gpu
from emo_rt.device.tensorrt.package import TensorRT
from emo_rt.errors import BackendUnavailableError

CURRENT = "current"


@dataclass(frozen=True)
class Target:
    """What an engine is built for."""

    capabilities: tuple[str, ...]
    """Compute capabilities: ``sm89``, in rising order."""
    gpu: str | None
    """Name of the GPU that it is tuned on; ``None``: it serves every GPU of the capabilities."""


def resolve_target(text: str, package: TensorRT, ask: Callable[[], Gpu] = current_gpu) -> Target:
    """``current``, ``sm89`` or ``sm86,sm89`` → a target. ``ask``: gives the GPU that is here.

    Raises :class:`ConfigError` for a target that the package does not have, :class:`BackendUnavailableError` where
    the GPU here is needed and there is none, or the package does not serve it.
    """
    if text == CURRENT:
        return _here(package, _ask(package, ask))
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if not package.is_rtx:
        expected = f"'{CURRENT}', because {package.name} measures kernels on the GPU that it builds for; tensorrt_rtx"
        check(False, "target", text, f"{expected} builds for GPUs that are not here")
    known = set(names) <= set(package.capabilities)
    check(known, "target", text, f"'{CURRENT}', or of {', '.join(package.capabilities)} one or several with commas")
    return Target(tuple(sorted(names, key=_number)), None)


def _ask(package: TensorRT, ask: Callable[[], Gpu]) -> Gpu:
    try:
        return ask()
    except BackendUnavailableError as exc:
        if not package.is_rtx:
            raise
        raise BackendUnavailableError(
            f"{exc}; to build for another machine say for which GPU: --target and of {', '.join(package.capabilities)} "
            "one or several with commas"
        ) from exc


def _here(package: TensorRT, gpu: Gpu) -> Target:
    if not package.is_rtx:
        return Target((gpu.capability,), gpu.name)
    if gpu.capability not in package.capabilities:
        raise BackendUnavailableError(
            f"{package.name} {package.version} does not serve {gpu.name} ({gpu.capability}), only "
            f"{', '.join(package.capabilities)}; use --package tensorrt"
        )
    return Target((gpu.capability,), None)


def _number(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits[0]) if digits else 0
