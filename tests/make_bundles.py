"""Make the archives of ``tests/bundles/`` anew, after a change of the exporter: minutes per bundle.

    python -m tests.make_bundles [NAME …]

An archive only changes where the exporter's files did, so that a second run leaves no difference.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from emo_rt import Bundle
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.model.bundle import MANIFEST
from emo_rt.model.config import ModelConfig
from tests.small_bundles import RECIPE, RESIDUE, SMALL, archive, stored, unpack, values

Entry = tuple[tuple[int, ...], float, float]
"""Shape, mean and scale of a parameter, the arguments of :func:`values`."""


def bundle_model(config: ModelConfig) -> EmoModel:
    """The torch model whose weights a small bundle of ``config`` has."""
    model = build_model(config, seed=3)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for name, entry in entries(model).items():
            state[name].copy_(torch.from_numpy(values(name, *entry)))
    return model


def entries(model: EmoModel) -> dict[str, Entry]:
    """What the weights of a freshly built model look like: the scale of its initialisation, parameter by parameter."""
    found: dict[str, Entry] = {}
    for name, parameter in model.named_parameters():
        weights = parameter.double()
        mean, deviation = float(weights.mean()), float(weights.std(correction=0))
        gain = abs(mean) > 2 * deviation  # of one sign: ones, and the lengths that weight normalisation splits off
        scale = 3**0.5 * deviation  # of an even spread with that standard deviation
        found[name] = (tuple(parameter.shape), _short(mean) if gain else 0.0, _short(scale))
    return found


def export(name: str, folder: Path) -> Bundle:
    """Export a small bundle for real into ``folder``."""
    small = SMALL[name]
    return export_bundle(bundle_model(small.config), folder, ExportOptions(**small.options))


def pack(bundle: Bundle, target: Path) -> None:
    """Write ``bundle`` without its weights as the archive ``target``."""
    parameters = entries(build_model(bundle.config, seed=3))
    recipe, residue = _recipe(bundle, parameters)
    members = {RECIPE: json.dumps(recipe, separators=(",", ":")).encode(), RESIDUE: residue}
    for file in (MANIFEST, *sorted(set(bundle.files) - set(recipe["files"]))):
        members[file] = (bundle.path / file).read_bytes()
    with tarfile.open(target, "w:xz", preset=9) as tar:
        for file, data in members.items():
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _recipe(bundle: Bundle, parameters: dict[str, Entry]) -> tuple[dict[str, Any], bytes]:
    """Which parameter each piece of each weight file is, and the bytes of those that are none (folded constants)."""
    known: dict[bytes, tuple[str, str, bool]] = {}
    for name, entry in parameters.items():
        weights = values(name, *entry)
        for dtype in ("<f4", "<f2"):
            for transposed in (True, False):
                known[stored(weights, dtype, transposed)] = (name, dtype, transposed)
    files: dict[str, Any] = {}
    residue, used = bytearray(), set()
    for file, start, length in sorted(_pieces(bundle)):
        content = (bundle.path / file).read_bytes()
        of_file = files.setdefault(file, {"bytes": len(content), "pieces": []})
        data = content[start : start + length]
        if data in known:
            used.add(known[data][0])
            of_file["pieces"].append([start, length, *known[data]])
        else:
            of_file["pieces"].append([start, length, len(residue)])
            residue += data
    return {"parameters": {name: parameters[name] for name in sorted(used)}, "files": files}, bytes(residue)


def _pieces(bundle: Bundle) -> set[tuple[str, int, int]]:
    """File, offset and length of every weight outside the graphs."""
    return {
        (f"graphs/{place['location']}", int(place["offset"]), int(place["length"]))
        for name in bundle.graphs
        for place in _places(onnx.load(bundle.graph_path(name), load_external_data=False))
    }


def _places(model: onnx.ModelProto) -> Iterator[dict[str, str]]:
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield {entry.key: entry.value for entry in tensor.external_data}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def main(names: list[str]) -> None:
    """Export and pack the bundles of these names, or all."""
    for name in names or SMALL:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = export(name, Path(scratch, "bundle"))
            pack(bundle, archive(name))
            Bundle.open(unpack(name, Path(scratch)))  # holds every file against its hash
            print(f"{archive(name).name}: {archive(name).stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    np.seterr(over="raise")
    torch.set_num_threads(1)
    main(sys.argv[1:])
