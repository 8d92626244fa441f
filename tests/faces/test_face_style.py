"""Drawings and photographs are told apart, and a model that knows the other kind is warned of."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from emo_rt.faces import default_finder
from emo_rt.faces.style import flatness, mismatch, style_of
from emo_rt.media.box import Box
from tests.faces.face_pictures import PHOTOGRAPHS, PORTRAIT, load, needs_golden

DRAWN = Image.open(PORTRAIT).convert("RGB")
FACE = Box(127, 182, 372, 414)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("quality", [95, 75])
def test_a_drawing_stays_one_as_jpeg(quality: int) -> None:
    assert style_of(np.asarray(as_jpeg(DRAWN, quality)), FACE) == "drawings"


@needs_golden
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name: str) -> None:
    picture = load(PHOTOGRAPHS[name])
    for face in default_finder().find(picture):
        assert style_of(picture, face.box) == "photographs"


@needs_golden
@pytest.mark.parametrize(("share", "expected"), [(0.6, "photographs"), (0.4, None)])
def test_a_small_photograph_is_no_drawing(share: float, expected: str | None) -> None:
    """Its face has 54 and 36 pixels; enlarged, it would be full of flat places."""
    large = Image.fromarray(load(PHOTOGRAPHS["astronaut"]))
    small = np.asarray(large.resize((round(share * large.width), round(share * large.height))))
    assert style_of(small, default_finder().find(small)[0].box) == expected


def test_what_is_in_between_is_not_judged() -> None:
    smooth = np.zeros((300, 300, 3), np.uint8)
    smooth[:] = np.linspace(0, 255, 300)[:, None, None] * (np.arange(300) < 225)[None, :, None]
    assert flatness(smooth, Box(0, 0, 300, 300)) == pytest.approx(0.25, abs=0.03)
    assert style_of(smooth, Box(0, 0, 300, 300)) is None


class TestMismatch:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    box = Box(20, 20, 180, 180)

    def test_a_photograph_for_a_model_of_drawings(self) -> None:
        said = mismatch("drawings", self.noise, self.box, "demo")
        assert said is not None
        assert "the model demo was trained on drawings, and the picture looks like one of photographs" in said

    def test_a_drawing_for_a_model_of_photographs(self) -> None:
        assert "trained on photographs" in str(mismatch("photographs", np.asarray(DRAWN), FACE, "hallo"))

    def test_nothing_to_say(self) -> None:
        assert mismatch("drawings", np.asarray(DRAWN), FACE, "demo") is None
        assert mismatch(None, self.noise, self.box, "own") is None
        assert mismatch("drawings", self.noise, Box(500, 500, 600, 600), "demo") is None
        blurred = np.asarray(DRAWN.filter(ImageFilter.GaussianBlur(2)))
        assert mismatch("drawings", blurred, FACE, "demo") is None
