"""What comes back from the borrowed machine: weights as fp16 in a few files, and all journals in one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

PARTS = ("vae", "hearing", "teacher", "student")
BACKBONE = "backbone."


def pack(folder: Path, result: Path) -> None:
    """Files of ``folder`` that are there → ``result``, each small enough to travel: the Backbone apart."""
    result.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        path = folder / f"{part}.weights.pt"
        if not path.exists():
            continue
        state = torch.load(path, map_location="cpu", weights_only=True)
        halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        backbone = {name: value for name, value in halves.items() if name.startswith(BACKBONE)}
        rest = {name: value for name, value in halves.items() if not name.startswith(BACKBONE)}
        torch.save(rest, result / f"{part}.pt")
        if backbone:
            torch.save(backbone, result / f"{part}-backbone.pt")
    with zipfile.ZipFile(result / "journals.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.log"), *folder.glob("*.png")]):
            archive.write(path, path.name)


def unpack(result: Path, folder: Path) -> None:
    """The other way round: ``<part>.weights.pt`` in ``folder``, float32."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        files = [path for path in (result / f"{part}.pt", result / f"{part}-backbone.pt") if path.exists()]
        state = {}
        for path in files:
            state |= torch.load(path, map_location="cpu", weights_only=True)
        if state:
            floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
            torch.save(floats, folder / f"{part}.weights.pt")
    if (result / "journals.zip").exists():
        with zipfile.ZipFile(result / "journals.zip") as archive:
            archive.extractall(folder)
