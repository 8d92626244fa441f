"""Avatars in files: what was computed of a portrait once, for the same model in another process."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import astuple
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from emo_rt.device.buffers import Buffers
from emo_rt.errors import EmoRtError, InputError, OutputError
from emo_rt.files import path_of, whole_file
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait
from emo_rt.media.untrusted import AVATAR, UntrustedFile, open_file
from emo_rt.model.contract import Array, TensorSpec
from emo_rt.runtime.loaded_model import LoadedModel

FORMAT = 1
HEADER = 4096
"""Most bytes of an array's own header in the file."""
LARGEST_SIDE = 8192
"""Of a picture, in pixels."""
ARRAYS = ("picture", "pixels")
"""Arrays of a :class:`Portrait`."""


def save_avatar(
    path: str | os.PathLike[str],
    portrait: Portrait,
    features: Buffers,
    model: LoadedModel,
    inputs: Mapping[str, Array] | None = None,
) -> None:
    """Write a file of NumPy's format ``.npz``. ``inputs``: what :meth:`LoadedModel.kept_inputs` names.

    Raises :class:`OutputError`; nothing partial is left.
    """
    about = {
        "format": FORMAT,
        "bundle": model.bundle.sha256,
        "crop": astuple(portrait.crop),
        "face": astuple(portrait.face),
    }
    arrays: dict[str, Any] = {name: getattr(portrait, name) for name in ARRAYS}
    arrays |= {f"feature:{name}": buffer.read() for name, buffer in features.items()}
    arrays |= {f"input:{name}": array for name, array in (inputs or {}).items()}
    target = path_of("path", path)
    try:
        with whole_file(target) as scratch, scratch.open("wb") as file:
            np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    except OSError as exc:
        raise OutputError(f"cannot write the avatar {target}: {exc}") from exc


def read_avatar(
    path: str | os.PathLike[str], model: LoadedModel
) -> tuple[Portrait, dict[str, Array], dict[str, Array]]:
    """The portrait, features and kept inputs by tensor name. Raises :class:`InputError` for a file that cannot be
    used."""
    try:
        with open_file(Path(path), AVATAR) as file, _archive(file) as stored:
            sizes = _sizes(stored)
            about = _about(stored, sizes, model.bundle.sha256)
            features = {
                spec.name: _array(stored, sizes, f"feature:{spec.name}", spec) for spec in model.portrait_tensors()
            }
            inputs = {spec.name: _array(stored, sizes, f"input:{spec.name}", spec) for spec in model.kept_inputs()}
            return _portrait(stored, sizes, about, model.config.size), features, inputs
    except EmoRtError as exc:
        raise InputError(f"the avatar {path} cannot be used: {exc}") from exc
    except Exception as exc:  # NumPy, zipfile and json raise nearly anything for a damaged file
        raise InputError(f"cannot read the avatar {path}: {exc}") from exc


def _archive(file: UntrustedFile) -> Any:
    """An open ``numpy.lib.npyio.NpzFile``. Raises ``BadZipFile`` for anything else that NumPy reads."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("it is no .npz file")
    file.seek(0)
    file.deadline = None  # what it is, is known; reading it may take long
    return np.load(BufferedReader(file), allow_pickle=False)


def _sizes(stored: Any) -> dict[str, int]:
    """Bytes of each array, by name. Raises :class:`InputError` where a name is there twice: one could hide another."""
    entries = stored.zip.infolist()
    sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in entries}
    if len(sizes) != len(entries) or not all(entry.filename.endswith(".npy") for entry in entries):
        raise InputError("it holds an array twice, or something else")
    return sizes


def _about(stored: Mapping[str, Array], sizes: Mapping[str, int], digest: str) -> dict[str, Any]:
    if sizes["about"] > 2 * HEADER:
        raise InputError("its description is too long")
    about: dict[str, Any] = json.loads(bytes(stored["about"]))
    if about["format"] != FORMAT:
        raise InputError(f"it has format {about['format']}, this release reads {FORMAT}; prepare the picture again")
    if about["bundle"] != digest:
        raise InputError(
            f"it was made with the model {about['bundle'][:12]}, this is {digest[:12]}; prepare the picture again"
        )
    return about


def _portrait(stored: Mapping[str, Array], sizes: Mapping[str, int], about: Mapping[str, Any], size: int) -> Portrait:
    limits = {"picture": 3 * LARGEST_SIDE**2, "pixels": 3 * size**2}
    for name, limit in limits.items():
        if sizes[name] > limit + HEADER:
            raise InputError(f"its {name} is too large")
    arrays = {name: stored[name] for name in ARRAYS}
    shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    square = {"pixels": ((size, size, 3), "uint8")}
    picture, kind = shapes.pop("picture")
    if shapes != square or len(picture) != 3 or picture[2] != 3 or kind != "uint8":
        raise InputError(f"its pictures have shapes {shapes}, expected {square}")
    for array in arrays.values():
        array.flags.writeable = False
    return Portrait(crop=Box(*about["crop"]), face=Box(*about["face"]), **arrays)


def _array(stored: Mapping[str, Array], sizes: Mapping[str, int], name: str, spec: TensorSpec) -> Array:
    if name not in sizes or sizes[name] > spec.nbytes + HEADER:
        raise InputError(f"its {name} is missing or too large")
    array = stored[name]
    if array.shape != spec.shape or array.dtype.name != spec.dtype:
        raise InputError(
            f"its {name} is {array.dtype.name}{list(array.shape)}, expected {spec.dtype}{list(spec.shape)}"
        )
    return array
