"""The packaged model of what was trained."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from emo_rt.export.networks.light_vae import LightDecoder, LightEncoder
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.onnx_export import VariantSource, export_bundle
from emo_rt.model.presets import BASE, QUALITY, Preset, Variant
from training.bundle import DEEP_CACHE, OPTIONS
from training.larger.base import base, config
from training.larger.kept import keep, trained
from training.larger.locator import make_locator
from training.larger.student import Student

DISTILLED, REALTIME = "distilled", "realtime"
"""The student's variant, and the preset that takes it."""
PLACES = {
    "vae.encoder.": "encoder",
    "vae.decoder.": "decoder",
    "face_locator.": "locator",
    "audio_encoder.": "hearing",
}
"""Where the parts stand in a model, by the beginning of its tensors' names."""


def networks(folder: Path) -> dict[str, nn.Module]:
    """All that was trained, by name."""
    old, settings = base(folder), config().vae
    fresh: dict[str, nn.Module] = {
        "decoder": LightDecoder(settings),
        "encoder": LightEncoder(settings),
        "locator": make_locator(old.face_locator),
        "hearing": copy.deepcopy(old.audio_encoder),
        "student": Student(copy.deepcopy(old)),
    }
    return {name: trained(network, name, folder) for name, network in fresh.items()}


def keep_all(folder: Path) -> None:
    """The averaged weights of all of them beside the code."""
    keep(networks(folder))


def assembled(folder: Path, parts: Mapping[str, nn.Module]) -> EmoModel:
    """The model for 256×256: the old denoiser, and ``parts`` around it."""
    model = build_model(config())
    state = {name: value for name, value in base(folder).state_dict().items() if not name.startswith(tuple(PLACES))}
    for place, part in PLACES.items():
        state |= {place + name: value for name, value in parts[part].state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    for layer in (model.vae.quant_conv, model.vae.post_quant_conv):  # training does without them
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)
    if unexpected or any("quant_conv" not in name for name in missing):
        raise RuntimeError(f"the parts do not make a model: {missing[:3]} are missing, {unexpected[:3]} too many")
    model.config = replace(model.config, deep_cache=DEEP_CACHE)
    return model.eval().requires_grad_(False)


def taught(folder: Path, parts: Mapping[str, nn.Module]) -> EmoModel:
    """The same with the student's own weights in the Backbone."""
    model = assembled(folder, parts)
    own = {name.removeprefix("own.").replace("/", "."): value for name, value in parts["student"].state_dict().items()}
    model.backbone.load_state_dict(own, strict=False)
    return model


def offers() -> dict[str, Any]:
    """The teacher's presets, and one step of the student as the fastest."""
    quality = Preset(ladder=("balanced", "fast", REALTIME))
    few = {
        "balanced": Preset(solver="unipc", steps=8, ladder=("fast", REALTIME)),
        "fast": Preset(solver="unipc", steps=3, ladder=(REALTIME,)),
    }
    once = Preset(variant=DISTILLED, solver="ddim", steps=1, guidance=1.0)
    variants = {BASE: Variant(), DISTILLED: Variant(steps=(1, 1), guidance=(1.0, 1.0))}
    presets = {QUALITY: quality, **few, REALTIME: once}
    return {
        "variants": {name: asdict(variant) for name, variant in variants.items()},
        "presets": {name: asdict(preset) for name, preset in presets.items()},
        "default_preset": QUALITY,
    }


def write_bundle(folder: Path, target: Path | None = None) -> Path:
    """``folder/bundle`` (replaced if it is there)."""
    target = target or folder / "bundle"
    shutil.rmtree(target, ignore_errors=True)
    parts = networks(folder)
    distilled = VariantSource(lambda: taught(folder, parts), roles=("step",))
    options = replace(OPTIONS, offers=offers())
    export_bundle(assembled(folder, parts), target, options, print, {DISTILLED: distilled})
    return target
