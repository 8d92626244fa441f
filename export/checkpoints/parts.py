"""Parts of a published checkpoint's folder: which file, which settings beside it, which widths its names tell."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from emo_rt.errors import CheckpointError
from emo_rt.export.checkpoints.tensors import Tensors, find_file, read_tensors, shape
from emo_rt.model.config import LocatorConfig


def find_part(checkpoint: Path, folders: tuple[str, ...], files: tuple[str, ...], option: str) -> Path:
    """A file or folder of ``checkpoint``. Raises :class:`CheckpointError` that names the ``option`` that gives it."""
    for name in (*folders, *files):
        if (checkpoint / name).exists():
            return checkpoint / name
    raise CheckpointError(f"{checkpoint} has none of {', '.join((*folders, *files))}; give the place with {option}")


def read_part(
    path: Path, names: tuple[str, ...], config: Mapping[str, Any] | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Tensors of a file, or of a folder with one of ``names``, and its settings: ``config``, or the ``config.json``
    beside it, or none."""
    file = weight_file(path, names)
    if config is None:
        stated = file.parent / "config.json"
        config = read_json(stated) if path.is_dir() and stated.is_file() else {}
    return read_tensors(file), config


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object. Raises :class:`CheckpointError`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not readable JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return config


def weight_file(path: Path, names: tuple[str, ...]) -> Path:
    """The file itself, or the first of ``names`` in a folder. Raises :class:`CheckpointError`."""
    return find_file(path, names) if path.is_dir() else path


def block_widths(tensors: Tensors, prefix: str, where: str) -> tuple[int, ...]:
    """Width of each resolution on the way down, finest first. ``prefix``: of the network's names, with its dot."""
    blocks = count(tensors, re.escape(prefix) + r"down_blocks\.(\d+)\.")
    names = [f"{prefix}down_blocks.{block}.resnets.0.conv1.weight" for block in range(blocks)]
    return tuple(shape(tensors, name, where)[0] for name in names)


def locator_config(tensors: Tensors, prefix: str, where: str) -> LocatorConfig:
    """A face locator that the unconditional half does without. ``prefix``: of its names, with its dot."""
    first, channels = shape(tensors, f"{prefix}conv_in.weight", where)[:2]
    blocks = count(tensors, re.escape(prefix) + r"blocks\.(\d+)\.")
    widths = [shape(tensors, f"{prefix}blocks.{index}.weight", where)[0] for index in range(1, blocks, 2)]
    return LocatorConfig(channels=(first, *widths), in_channels=channels, in_unconditional=False)


def count(tensors: Tensors, pattern: str) -> int:
    """One more than the largest number that ``pattern`` finds in a name."""
    return 1 + max((int(match[1]) for name in tensors if (match := re.match(pattern, name))), default=-1)
