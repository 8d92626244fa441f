"""How much memory of a GPU will a run take, and which settings take less? Reckoned from the bundle alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from emo_rt.device.graph_memory import GraphMemory
from emo_rt.errors import ConfigError
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import TensorSpec
from emo_rt.model.families.registry import family_of
from emo_rt.model.options import AnimateOptions
from emo_rt.model.resolve import resolve, step_graphs
from emo_rt.runtime.denoiser import FINAL_BUFFERS
from emo_rt.schema.kinds import Range

MEMORY_LIMIT = Range(0.0, 10_000.0, is_open=True, unit="GB")
"""Memory that a caller may allow."""
GB = 1e9
"""Bytes of a gigabyte."""
LIBRARIES_BYTES, LIBRARIES_SHARE = 0.5e9, 0.1
"""What CUDA, cuBLAS and cuDNN take besides: their code and workspaces. On an H100 a full-size run took 28 GB where 25
were counted."""
CHANGES: tuple[dict[str, Any], ...] = (
    {"deep_cache": 1},
    {"guidance_interval": (0.0, 1.0)},
    {"guidance_interval": (0.0, 1.0), "deep_cache": 1},
    {"guidance": 1.0},
    {"guidance": 1.0, "deep_cache": 1},
)
"""Changes that can save memory, those that change the pictures least first."""

logger = logging.getLogger(__name__)

Reckon = Callable[[Bundle, str], GraphMemory | None]
"""A graph of a bundle → its memory."""


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of a GPU that a run takes, in bytes; from :meth:`emo_rt.Animator.estimate_memory`."""

    weights: int
    """Weights of all graphs that are opened."""
    running: int
    """Intermediate results."""
    tensors: int
    """Inputs and outputs of the graphs: of one talker, and of the worker that makes the clips. Latents of a model that
    makes a whole video at once, which grow with its length, are not in it."""
    libraries: int
    """What CUDA, cuBLAS and cuDNN take for themselves; a guess."""

    @property
    def counted(self) -> int:
        """What can be reckoned: all but the libraries' own."""
        return self.weights + self.running + self.tensors

    @property
    def nbytes(self) -> int:
        """All of it."""
        return self.counted + self.libraries


def memory_need(
    bundle: Bundle, options: AnimateOptions, reckon: Reckon, opened: Collection[str] = ()
) -> MemoryNeed | None:
    """What a run with these options takes; ``None`` on the CPU. ``opened``: graphs that earlier runs have opened.

    Raises :class:`ConfigError` for what cannot be run.
    """
    chosen = resolve(options, bundle, family_of(bundle.config))
    asked = {*step_graphs(chosen, bundle), bundle.find("reference", chosen.variant), *opened}
    names = [name for name, graph in bundle.graphs.items() if not graph.is_on_demand or name in asked]
    parts = [reckon(bundle, name) for name in names]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    weights, running = sum(part.weights for part in known), sum(part.running for part in known)
    tensors = _tensors(bundle, names, chosen.steps)
    libraries = LIBRARIES_BYTES + LIBRARIES_SHARE * (weights + running + tensors)
    return MemoryNeed(weights, running, tensors, round(libraries))


def check_limit(
    bundle: Bundle, options: AnimateOptions, reckon: Reckon, limit: float, opened: Collection[str] = ()
) -> None:
    """Raise :class:`ConfigError` unless a run takes ``limit`` GB or less. The message says which settings would fit."""
    need = memory_need(bundle, options, reckon, opened)
    if need is not None and need.nbytes > limit * GB:
        advice = _advice(bundle, options, reckon, limit)
        raise ConfigError(f"memory_limit is {limit:g} GB, but this run takes about {_gb(need)} of the GPU; {advice}")


def check_loading(bundle: Bundle, reckon: Reckon, limit: float) -> None:
    """Raise :class:`ConfigError` where no setting takes ``limit`` GB or less; log where the model's own does not."""
    options = AnimateOptions()
    try:
        check_limit(bundle, options, reckon, limit)
    except ConfigError as exc:
        if not fitting(bundle, options, reckon, limit):
            raise
        logger.warning("%s", exc)


def fitting(bundle: Bundle, options: AnimateOptions, reckon: Reckon, limit: float) -> list[tuple[str, MemoryNeed]]:
    """Settings that take ``limit`` GB or less, as keywords of ``animate``, those that change least first."""
    return _within(limit, _smaller(bundle, options, reckon))


def _within(limit: float, smaller: Iterable[tuple[dict[str, Any], MemoryNeed]]) -> list[tuple[str, MemoryNeed]]:
    return [
        (", ".join(f"{name}={_shown(value)}" for name, value in changes.items()), need)
        for changes, need in smaller
        if need.nbytes <= limit * GB
    ]


def _advice(bundle: Bundle, options: AnimateOptions, reckon: Reckon, limit: float) -> str:
    smaller = list(_smaller(bundle, options, reckon))
    fits = _within(limit, smaller)
    if fits:
        return "these settings fit: " + "; ".join(f"{words} ({_gb(need)})" for words, need in fits)
    needs = [need for _, need in smaller]
    least = f"; the least that any takes is {_gb(min(needs, key=lambda need: need.nbytes))}" if needs else ""
    other = " exported in float16 takes less" if bundle.dtype == "float32" else " of a smaller picture takes less"
    return f"no other setting of this bundle fits{least}; a bundle{other}"


def _smaller(bundle: Bundle, options: AnimateOptions, reckon: Reckon) -> Iterable[tuple[dict[str, Any], MemoryNeed]]:
    """Changes with what they need, where they save anything."""
    before = memory_need(bundle, options, reckon)
    assert before is not None
    seen = {before.nbytes}
    for changes in CHANGES:
        try:
            need = memory_need(bundle, replace(options, **changes), reckon)
        except ConfigError:  # this bundle has no graphs for it
            continue
        if need is not None and need.nbytes < before.nbytes and need.nbytes not in seen:
            seen.add(need.nbytes)
            yield changes, need


def _tensors(bundle: Bundle, graphs: Iterable[str], steps: int) -> int:
    """Buffers of one talker and one worker: each tensor once, and what both have."""
    specs = {t.name: t for name in graphs for t in (*bundle.graphs[name].inputs, *bundle.graphs[name].outputs)}
    shared = [t for name in graphs if bundle.graphs[name].role in ("vae_encoder", "reference")
              for t in bundle.graphs[name].outputs]  # fmt: skip
    latents = specs["latents"]
    frames = int(latents.shape[0]) if isinstance(latents.shape[0], int) else 1
    pixels = specs["pixels_rgb"]
    return (
        sum(map(_size, specs.values()))
        + sum(map(_size, shared))
        + FINAL_BUFFERS * _size(latents)
        + _size(pixels) * (-(-frames // int(pixels.shape[0])) - 1)
        + _size(specs["time_embedding"]) * steps
    )


def _size(tensor: TensorSpec) -> int:
    return tensor.nbytes if all(isinstance(size, int) for size in tensor.shape) else 0


def _gb(need: MemoryNeed) -> str:
    return f"{need.nbytes / GB:.3g} GB"


def _shown(value: object) -> str:
    return f"({', '.join(f'{one:g}' for one in value)})" if isinstance(value, tuple) else f"{value:g}"
