"""What `emo-rt export` does once its arguments are read. Imports torch; :mod:`emo_rt.cli` imports it lazily."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emo_rt import terminal
from emo_rt.bundle import Bundle
from emo_rt.errors import ConfigError, OutputError
from emo_rt.export.networks.model import EmoModel, build_model, parameter_counts
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.export.parity import ParityRow, format_table
from emo_rt.export.presets import preset

FULL_SIZE = ("emo", "hallo")
"""Presets of billions of parameters, which are not compared with torch unless that is asked for."""
PUBLISHED = {
    "backbone": "859.5 M (SD 1.5 UNet) + 453.2 M (temporal modules), without audio and speed layers",
    "backbone: temporal modules": "453.2 M (AnimateDiff v2)",
    "reference_net": "859.5 M (SD 1.5 UNet)",
    "audio_encoder": "94.4 M (wav2vec2-base)",
    "vae": "83.7 M (SD 1.5 VAE)",
}
"""Published sizes of what the full-size parts descend from."""


@dataclass(frozen=True)
class Request:
    """What to export, and how, as given on the command line."""

    out: Path
    """Bundle folder to write."""
    preset: str
    """Name of the configuration."""
    random_weights: bool = False
    """Take random weights."""
    seed: int = 0
    """Seed of random weights."""
    dtype: Literal["float32", "float16"] = "float32"
    """Arithmetic inside the networks."""
    half_storage: bool = False
    """Store fp32 weights as fp16."""
    guidance: tuple[bool, ...] = (True,)
    """Step graphs: with guidance, without, or both."""
    check: bool | None = None
    """Compare with torch; ``None``: unless the model is full-size."""
    quiet: bool = False
    """No progress lines and no receipt."""


@dataclass(frozen=True)
class Weights:
    """A model to export, and where it comes from."""

    model: EmoModel
    source: str
    licence: str


def run(request: Request) -> None:
    """Build the model, write the bundle, print the receipt. Raises :class:`ExportError`, :class:`OutputError`, …"""
    start = time.perf_counter()
    _check_target(request.out)
    report = _Reporter(start, request.quiet)
    weights = _load(request, report)
    counts = parameter_counts(weights.model)
    check = request.preset not in FULL_SIZE if request.check is None else request.check
    options = ExportOptions(
        dtype=request.dtype,
        half_storage=request.half_storage,
        guidance=request.guidance,
        check=check,
        source=weights.source,
        licence=weights.licence,
    )
    bundle = export_bundle(weights.model, request.out, options, report)
    if not request.quiet:
        full_size = request.preset in FULL_SIZE
        terminal.say(_receipt(bundle, counts, full_size, time.perf_counter() - start))


def _load(request: Request, report: _Reporter) -> Weights:
    """The model that was asked for. Sources of weights are added here."""
    if not request.random_weights:
        raise ConfigError("there are no weights to export; pass --random-weights")
    config = preset(request.preset)
    report(f"building {request.preset} with random weights, seed {request.seed}")
    return Weights(build_model(config, seed=request.seed), "random weights", "Apache-2.0")


class _Reporter:
    """Progress as lines on stderr, each with the time since the start."""

    def __init__(self, start: float, quiet: bool) -> None:
        self._start, self._quiet = start, quiet

    def __call__(self, line: str) -> None:
        if not self._quiet:
            terminal.note(f"[{time.perf_counter() - self._start:6.1f} s] {line}")


def _check_target(path: Path) -> None:
    """Before minutes of work; :func:`export_bundle` checks again."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path} exists and is not an empty folder; choose another one or remove it")


def _receipt(bundle: Bundle, counts: dict[str, int], full_size: bool, seconds: float) -> str:
    peak = terminal.peak_memory()
    memory = f", peak memory {terminal.size(peak)}" if peak else ""
    facts = f"{terminal.size(bundle.size_bytes)} in {len(bundle.files)} files"
    return "\n".join(
        [
            _parity_table(bundle),
            "",
            _counts_table(counts, full_size),
            "",
            f"{bundle.path}: {facts}, {terminal.duration(seconds)}{memory}",
        ]
    )


def _parity_table(bundle: Bundle) -> str:
    if not bundle.parity:
        return "not compared with torch (--check does that)"
    rows = [ParityRow(**row) for row in bundle.parity]
    return f"ONNX Runtime against torch, the worst output of each kind:\n{format_table(rows)}"


def _counts_table(counts: dict[str, int], full_size: bool) -> str:
    """Parameters per part; the published numbers are beside them where the size is the published one."""
    rows = [("part", "parameters", "published" if full_size else "")]
    rows += [(name, f"{count:,}", PUBLISHED.get(name, "") if full_size else "") for name, count in counts.items()]
    total = sum(count for name, count in counts.items() if ":" not in name)  # "backbone: …" is a part of the backbone
    return terminal.table([*rows, ("total", f"{total:,}", "")])
