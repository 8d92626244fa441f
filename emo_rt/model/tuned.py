"""Presets that `emo-rt tune` measured for a bundle on this machine: a sidecar keyed by the bundle's hash.

Bundles stay as they are. The sidecar lies in the user's cache (``~/.cache/emo_rt/tuned/{sha256}.json``), or in the
folder that the variable ``EMO_RT_TUNED`` names: to ship tuned presets with a deployment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from emo_rt.checks import from_dict
from emo_rt.errors import BundleError, ConfigError, OutputError
from emo_rt.files import read_bounded, whole_file
from emo_rt.model.bundle import Bundle
from emo_rt.model.presets import Preset
from emo_rt.version import __version__

SCHEMA = 1
"""Of the sidecar."""
LARGEST = 16 << 20
"""Bytes of it."""
VARIABLE = "EMO_RT_TUNED"
"""Environment variable that names the folder of sidecars."""


@dataclass(frozen=True)
class Tuned:
    """What was measured for one bundle."""

    presets: Mapping[str, Preset]
    """By name; they go before the bundle's own of the same name."""
    measured: Mapping[str, Any]
    """On what: device, backend, seconds of sound; how many settings the budget left out."""
    curve: Sequence[Mapping[str, Any]]
    """A row per setting that was tried."""


def tuned_file(bundle: Bundle) -> Path:
    """Where the sidecar of a bundle is, whether it exists or not."""
    return _folder() / f"{bundle.sha256}.json"


def read_tuned(bundle: Bundle) -> Tuned | None:
    """The sidecar of a bundle, or ``None``. Raises :class:`BundleError` for one that cannot be used."""
    path = tuned_file(bundle)
    try:
        data = json.loads(read_bounded(path, LARGEST).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(f"the tuned presets in {path} cannot be read: {exc}; {_remedy(path)}") from exc
    try:
        if data["schema"] != SCHEMA or data["bundle"] != bundle.sha256:
            raise ConfigError(f"it has schema {data['schema']} and is for {str(data['bundle'])[:12]}…")
        presets = {str(name): from_dict(Preset, preset) for name, preset in data["presets"].items()}
        return Tuned(presets, dict(data["measured"]), tuple(data["curve"]))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise BundleError(f"the tuned presets in {path} are malformed ({exc}); {_remedy(path)}") from exc


def write_tuned(bundle: Bundle, tuned: Tuned) -> Path:
    """Write the sidecar, whole or not at all. Raises :class:`OutputError`."""
    path = tuned_file(bundle)
    content = {
        "schema": SCHEMA,
        "emo_rt": __version__,
        "bundle": bundle.sha256,
        "model": bundle.config.name,
        "measured": dict(tuned.measured),
        "presets": {name: asdict(preset) for name, preset in tuned.presets.items()},
        "curve": list(tuned.curve),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"the tuned presets cannot be written to {path}: {exc.strerror or exc}") from exc
    return path


def forget_tuned(bundle: Bundle) -> bool:
    """Delete the sidecar. Returns whether there was one. Raises :class:`OutputError`."""
    path = tuned_file(bundle)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise OutputError(f"{path} cannot be deleted: {exc.strerror or exc}") from exc
    return True


def with_tuned(bundle: Bundle) -> Bundle:
    """The bundle with its tuned presets, where there are some. Raises :class:`BundleError`."""
    tuned = read_tuned(bundle)
    if tuned is None:
        return bundle
    merged = replace(bundle, presets={**bundle.presets, **tuned.presets})
    try:
        merged.check_offers()
    except ConfigError as exc:
        path = tuned_file(bundle)
        raise BundleError(f"the tuned presets in {path} do not fit the bundle ({exc}); {_remedy(path)}") from exc
    return merged


def _folder() -> Path:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "emo_rt" / "tuned"


def _remedy(path: Path) -> str:
    return f"delete {path.name}, or run `emo-rt tune` again"
