"""Reading public weight files: safely, strictly, and with errors that name tensors."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from emo_rt.errors import CheckpointError

Tensors = Mapping[str, Tensor]

HALF_MAX = torch.finfo(torch.float16).max
"""Largest number in fp16: 65504."""

LISTED = 12
"""Names that an error message lists before it says how many more there are."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from a ``.safetensors`` file or a torch pickle.

    Pickles are read with ``weights_only=True``, so that no code in them runs, and mapped instead of loaded, but for
    those in torch's format of before 2020.

    Raises :class:`CheckpointError` when the file is missing, damaged or holds anything else than tensors.
    """
    state = _read(path)
    if not _is_state_dict(state):
        raise CheckpointError(f"{path} is not a state dict: expected tensors by name and nothing else")
    return state


def read_section(path: Path, section: str) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """A state dict that is an entry of a torch pickle, and what else the file has. Raises as :func:`read_tensors`."""
    state = _read(path)
    found = state.get(section) if isinstance(state, dict) else None
    if not _is_state_dict(found) or found is None:
        raise CheckpointError(f"{path} has no state dict {section!r}: expected tensors by name in it")
    return found, {name: value for name, value in state.items() if name != section}


def _is_state_dict(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols other than its own, and reads them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as exc:
        raise CheckpointError(f"there is no file {path}") from exc
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as exc:
        raise CheckpointError(f"{path} is not a readable weight file: {str(exc).splitlines()[0]}") from exc


def find_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of ``names`` that exists in ``folder``. Raises :class:`CheckpointError`."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} has none of {', '.join(names)}")


def rename(tensors: Tensors, renames: Callable[[str], str | None], where: str) -> dict[str, Tensor]:
    """Tensors under our names; ``None`` drops one. Raises :class:`CheckpointError` when two get the same name."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        target = renames(name)
        if target is None:
            continue
        if target in renamed:
            raise CheckpointError(f"{where} has two tensors that mean {target}; {name} is the second")
        renamed[target] = tensor
    return renamed


def load_strictly(module: nn.Module, tensors: Tensors, where: str, original: Callable[[str], str]) -> None:
    """Put ``tensors`` in the place of all parameters and buffers of ``module``.

    ``original`` turns one of our names into the checkpoint's, for messages. Raises :class:`CheckpointError` that lists
    missing, unknown and wrongly shaped tensors, and those with NaN or infinite values. Nothing is loaded then.
    """
    wanted = module.state_dict()
    missing = [original(name) for name in wanted if name not in tensors]
    unknown = [original(name) for name in tensors if name not in wanted]
    shared = [name for name in wanted if name in tensors]
    shapes = [
        f"{original(name)} is {list(tensors[name].shape)}, expected {list(wanted[name].shape)}"
        for name in shared
        if tensors[name].shape != wanted[name].shape
    ]
    broken = [original(name) for name in shared if not bool(torch.isfinite(tensors[name]).all())]
    problems = {"missing": missing, "not known": unknown, "wrong shape": shapes, "NaN or infinite": broken}
    found = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if found:
        raise CheckpointError(f"{where} does not fit the network. " + "; ".join(found))
    module.load_state_dict({name: tensors[name].to(wanted[name].dtype) for name in wanted}, assign=True)


def refuse_half_overflow(module: nn.Module, original: Callable[[str], str]) -> None:
    """Raise :class:`CheckpointError` with the names of parameters and buffers that fp16 cannot hold."""
    state = module.state_dict().items()
    beyond = [original(name) for name, tensor in state if tensor.numel() and float(tensor.abs().max()) > HALF_MAX]
    if beyond:
        raise CheckpointError(f"fp16 holds at most {HALF_MAX:.0f}; beyond it: {listed(beyond)}; export with fp32")


def shape(tensors: Tensors, name: str, where: str) -> tuple[int, ...]:
    """Shape of a tensor. Raises :class:`CheckpointError` when it is missing."""
    if name not in tensors:
        raise CheckpointError(f"{where} does not fit the network. missing: {name}")
    return tuple(tensors[name].shape)


def listed(names: list[str]) -> str:
    """Names for a message: the first :data:`LISTED`, and how many more there are."""
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest
