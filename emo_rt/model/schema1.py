"""Manifests of schema 1, read as those of schema 2.

Schema 1 named weight files after graphs, told step graphs apart by their names alone, and knew neither variants nor
presets nor families.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from emo_rt.model.presets import BASE, QUALITY, STANDARD_PRESETS

STEPS = {
    "step": {"guided": True},
    "step_unguided": {},
    "step_cached": {"guided": True, "cached": True},
    "step_cached_unguided": {"cached": True},
}
"""Names of step graphs, and what they serve."""


def as_schema_2(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with what schema 2 says besides. Raises :class:`KeyError`, :class:`AttributeError`,
    :class:`TypeError` or :class:`ValueError` for one that is malformed."""
    graphs = {name: {**_kind(name), **graph} for name, graph in manifest["graphs"].items()}
    return {**manifest, "config": _config(manifest["config"]), "graphs": graphs, **standard_offers()}


def standard_offers() -> dict[str, Any]:
    """What an export offers that says nothing else: one variant and the standard presets."""
    presets = {name: asdict(preset) for name, preset in STANDARD_PRESETS.items()}
    return {"variants": {BASE: {}}, "presets": presets, "default_preset": QUALITY}


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    is_hallo = config.get("audio", {}).get("attention") == "hierarchical"
    name = {"name": config["name"]} if "name" in config else {}
    return {**name, "family": "hallo" if is_hallo else "emo", **config}


def _kind(name: str) -> dict[str, Any]:
    return {"role": "step", "variant": BASE, **STEPS[name]} if name in STEPS else {"role": name}
