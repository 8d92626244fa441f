"""What `emo-rt export` does once its arguments are read. Imports torch; :mod:`emo_rt.cli` imports it lazily."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from emo_rt.cli import terminal
from emo_rt.errors import ConfigError
from emo_rt.export.checkpoints.echomimic import EchoMimicFiles, EchoMimicSettings, import_echomimic
from emo_rt.export.checkpoints.echomimic import original_name as original_echomimic_name
from emo_rt.export.checkpoints.hallo import HalloFiles, HalloSettings, import_hallo, original_name
from emo_rt.export.checkpoints.hallo_config import read_config, settings_of
from emo_rt.export.checkpoints.tensors import refuse_half_overflow
from emo_rt.export.keep_fp32 import read_keep_fp32
from emo_rt.export.networks.model import EmoModel, build_model, parameter_counts
from emo_rt.export.onnx_export import ExportOptions, VariantSource, export_bundle
from emo_rt.export.parity import ParityRow, format_table
from emo_rt.export.presets import preset
from emo_rt.export.request import EchoMimicRequest, HalloRequest, Request
from emo_rt.files import sha256_of
from emo_rt.memory import peak_memory
from emo_rt.model.bundle import RANDOM_WEIGHTS, Bundle
from emo_rt.model.families.echomimic import ACCELERATED, offers
from emo_rt.model.upgrade import refuse_used

DTYPES = {"fp32": "float32", "fp16": "float16"}
"""Name on the command line → name in a bundle."""
FULL_SIZE = ("emo", "hallo", "echomimic")
"""Presets of billions of parameters, which are not compared with torch unless that is asked for."""
LARGE = 200_000_000
"""Parameters from which on the same holds for a checkpoint."""
HALLO_LICENCE = "MIT (Hallo), plus the licences of the VAE (MIT, sd-vae-ft-mse) and wav2vec 2.0 (Apache-2.0)"
ECHOMIMIC_LICENCE = (
    "that of the checkpoint's model card, which is not known here: check it before use (EchoMimic's code: Apache-2.0; "
    "by their authors' cards whisper MIT, sd-vae-ft-mse MIT)"
)
PUBLISHED = {
    "backbone": "859.5 M (SD 1.5 UNet) + 453.2 M (temporal modules), without audio and speed layers",
    "backbone: temporal modules": "453.2 M (AnimateDiff v2)",
    "reference_net": "859.5 M (SD 1.5 UNet)",
    "audio_encoder": "94.4 M (wav2vec2-base)",
    "vae": "83.7 M (SD 1.5 VAE)",
}
"""Published sizes of what the full-size parts descend from."""


@dataclass(frozen=True)
class Weights:
    """A model to export, and where it comes from."""

    model: EmoModel
    source: str
    licence: str
    offers: Mapping[str, Any] | None = None
    """Variants and presets; ``None`` = the standard ones."""
    variants: Mapping[str, VariantSource] = field(default_factory=dict)
    """More weights to step with."""


def run(request: Request) -> None:
    """Build the model, write the bundle, print the receipt. Raises :class:`ExportError`, :class:`OutputError`, …"""
    start = time.perf_counter()
    refuse_used(request.out)  # before minutes of work; export_bundle checks again
    report = _Reporter(start, request.quiet)
    weights = _load(request, report)
    counts = parameter_counts(weights.model)
    total = sum(count for name, count in counts.items() if ":" not in name)
    is_published = request.hallo is not None or request.echomimic is not None
    full_size = total >= LARGE if is_published else request.preset in FULL_SIZE
    check = not full_size if request.check is None else request.check
    options = ExportOptions(
        dtype=DTYPES[request.dtype],
        half_storage=request.half_storage,
        guidance=request.guidance,
        deep_cache=request.deep_cache,
        check=check,
        source=weights.source,
        licence=weights.licence,
        offers=weights.offers,
        keep_fp32={} if request.keep_fp32 is None else read_keep_fp32(request.keep_fp32),
        trained_on="photographs" if is_published else None,
    )
    bundle = export_bundle(weights.model, request.out, options, report, weights.variants)
    if not request.quiet:
        terminal.say(_receipt(bundle, counts, full_size, time.perf_counter() - start))


def _load(request: Request, report: _Reporter) -> Weights:
    """The model that was asked for. Sources of weights are added here."""
    halved = request.dtype == "fp16" or request.half_storage
    if request.hallo is not None:
        return _load_hallo(request.hallo, halved, report)
    if request.echomimic is not None:
        return _load_echomimic(request.echomimic, request.both, halved, report)
    if request.preset is None or not request.random_weights:
        raise ConfigError("there are no weights to export; pass --from and --checkpoint, or --preset --random-weights")
    config = preset(request.preset)
    report(f"building {request.preset} with random weights, seed {request.seed}")
    own = {"echomimic": offers(is_accelerated=False)}.get(config.family)
    return Weights(build_model(config, seed=request.seed), RANDOM_WEIGHTS, "Apache-2.0", own)


def _settings(request: HalloRequest, net: Path) -> HalloSettings:
    """From the settings file and what was given. Raises :class:`CheckpointError` for an unusable file."""
    path = request.config or net.parent / "config.json"
    stated = settings_of(read_config(path), str(path)) if request.config or path.is_file() else HalloSettings()
    names = ("size", "frames", "motion_frames", "attention_heads")
    given = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    return replace(stated, **given, reencode_motion=not request.motion_from_latents)


def _load_hallo(request: HalloRequest, halved: bool, report: _Reporter) -> Weights:
    files = HalloFiles.find(request.checkpoint, request.vae, request.wav2vec)
    report(f"reading {', '.join(path.name for path in files.resolved())}")
    model = import_hallo(files, _settings(request, files.net))
    if halved:
        refuse_half_overflow(model, original_name)
    report("hashing the files for the manifest")
    sources = [f"{path.name} sha256:{sha256_of(path)}" for path in files.resolved()]
    return Weights(model, f"Hallo checkpoint: {', '.join(sources)}", HALLO_LICENCE)


def _echomimic_settings(request: EchoMimicRequest, published: EchoMimicSettings) -> EchoMimicSettings:
    """What was given, in the place of the published values. Accelerated weights were made for no guidance."""
    names = ("size", "frames", "attention_heads")
    given: dict[str, Any] = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    return replace(published, **given, **({"guidance": 1.0} if request.accelerated else {}))


def _load_echomimic(request: EchoMimicRequest, has_both_steps: bool, halved: bool, report: _Reporter) -> Weights:
    sets = [EchoMimicFiles.find(request.checkpoint, kind, request.vae) for kind in request.kinds]
    settings = _echomimic_settings(request, EchoMimicSettings())

    def load(files: EchoMimicFiles) -> EmoModel:
        report(f"reading {', '.join(path.name for path in files.resolved())}")
        model = import_echomimic(files, settings)
        if halved:
            refuse_half_overflow(model, original_echomimic_name)
        return model

    model = load(sets[0])
    report("hashing the files for the manifest")
    paths = dict.fromkeys(path for files in sets for path in files.resolved())
    source = f"EchoMimic checkpoint: {', '.join(f'{path.name} sha256:{sha256_of(path)}' for path in paths)}"
    guidance = (True, False) if has_both_steps else (False,)
    variants = dict.fromkeys([ACCELERATED][: len(sets) - 1], VariantSource(partial(load, sets[-1]), guidance))
    own = offers(request.accelerated, has_both=request.with_accelerated)
    return Weights(model, source, ECHOMIMIC_LICENCE, own, variants)


class _Reporter:
    """Progress as lines on stderr, each with the time since the start."""

    def __init__(self, start: float, quiet: bool) -> None:
        self._start, self._quiet = start, quiet

    def __call__(self, line: str) -> None:
        if not self._quiet:
            terminal.note(f"[{time.perf_counter() - self._start:6.1f} s] {line}")


def _receipt(bundle: Bundle, counts: dict[str, int], full_size: bool, seconds: float) -> str:
    peak = peak_memory()
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
