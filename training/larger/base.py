"""The model for 128×128 that all starts from, and the configuration of the one that comes out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from emo_rt.export.networks.model import EmoModel
from emo_rt.export.presets import preset
from emo_rt.export.read_back import read_back
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from training.bundle import BASE


def config() -> ModelConfig:
    """Of the model for 256×256."""
    return preset("demo")


@lru_cache(maxsize=1)
def base(folder: Path) -> EmoModel:
    """Networks of the bundle ``folder/base``, made by ``python -m training bundle``."""
    return read_back(Bundle.open(folder / BASE)).eval().requires_grad_(False)
