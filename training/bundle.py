"""The trained model as a bundle, with the facts for its model card, and the package's bundle as trained weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from emo_rt.export.networks.model import parameter_counts
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.export.read_back import read_back
from emo_rt.model.bundle import Bundle
from training.stages import DIFFUSION, load_model, save_parts

SOURCE = "trained by emo_rt on drawn portraits (training/)"
BASE = "base"
"""Folder of a trained bundle of preset ``demo128``."""
DEEP_CACHE = 1
"""Residual blocks that a cached step computes on the way down: one, since the finest resolution has one."""
OPTIONS = ExportOptions(
    half_storage=True, guidance=(True, False), deep_cache=DEEP_CACHE, source=SOURCE, trained_on="drawings"
)
"""How our models are exported."""


def write_bundle(folder: Path, target: Path | None = None, net: str | None = None, name: str = "demo128") -> Path:
    """``folder/bundle`` (replaced if it is there) of preset ``name`` with the weights of stage ``net``, else of the
    newest finished one; ``facts.txt`` beside it has what all stages came to, for the model card
    (``emo_rt/assets/demo/MODEL_CARD.md``, written by hand)."""
    target = target or folder / "bundle"
    net = net or newest(folder)
    model = load_model(folder, "vae", "hearing", net, name=name)
    counts = parameter_counts(model)
    shutil.rmtree(target, ignore_errors=True)
    export_bundle(model, target, OPTIONS, print)
    facts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    (folder / "facts.txt").write_text(json.dumps({"net": net, "parameters": counts, **facts}, indent=1) + "\n")
    return target


def newest(folder: Path) -> str:
    """The stage whose weights a bundle takes."""
    for stage in reversed(DIFFUSION):
        for name in (stage, f"{stage}-so-far"):
            if (folder / f"{name}.weights.pt").exists():
                return name
    raise FileNotFoundError(f"no stage of the diffusion has left weights in {folder}; run `python -m training image`")


def unpack_bundle(folder: Path) -> None:
    """The bundle ``folder/base`` as weights of the finished stages that the last one starts from: training goes on
    without what led to them, once there is a corpus."""
    save_parts(read_back(Bundle.open(folder / BASE)), folder, "vae", "hearing", DIFFUSION[-2])
