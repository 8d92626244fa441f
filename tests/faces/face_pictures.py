"""Where the tests of faces find pictures."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
GOLDEN = SHARED / "golden" / "faces"
TASK = SHARED / "models" / "face_landmarker_v2.task"
PORTRAIT = ROOT / "emo_rt" / "assets" / "portrait.png"

PHOTOGRAPHS = {
    "astronaut": GOLDEN / "astronaut.png",
    "group": GOLDEN / "group.jpg",
    "portrait_man": SHARED / "media" / "portrait_man.png",
    "portrait_woman": SHARED / "media" / "portrait_woman.png",
}
"""Pictures that Google's own runtime has looked at, by the name of its result."""

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden faces of ../shared/golden are not here")
needs_task = pytest.mark.skipif(not TASK.is_file(), reason="Google's model file of ../shared/models is not here")


@functools.cache
def load(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, read-only."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    picture.setflags(write=False)
    return picture


def pasted(*parts: tuple[Image.Image, tuple[int, int]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures with their left upper corners on a plain ground."""
    whole = Image.new("RGB", size, (90, 120, 90))
    for image, corner in parts:
        whole.paste(image, corner)
    return np.asarray(whole)
