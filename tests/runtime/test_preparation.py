"""Portraits from large JPEGs: places are pixels of the picture in the file, however it is decoded."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emo_rt import Animator, Box, FaceInputs, PortraitError
from emo_rt.faces import default_finder
from emo_rt.media.framing import Portrait
from emo_rt.media.picture import load_picture
from emo_rt.model.bundle import Bundle
from emo_rt.model.families.registry import family_of
from emo_rt.runtime.preparation import frame_face
from emo_rt.runtime.request import PrepareOptions
from tests.serve.inputs import PORTRAIT

HALF = 256 * 240
"""Pixels of the picture at half its size."""


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 × 480, lying on its side."""
    path, exif = tmp_path_factory.mktemp("large") / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    image = Image.open(PORTRAIT).convert("RGB").crop((0, 0, 512, 480))
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    return path


def sides(box: Box, factor: float = 1) -> object:
    return pytest.approx(astuple(box.scaled(factor)), abs=1.5)


def check_halved(half: Portrait, whole: Portrait) -> None:
    assert half.picture.shape == (240, 256, 3)
    assert astuple(half.crop) == sides(whole.crop, 0.5)
    assert astuple(half.face) == sides(whole.face)
    assert np.abs(half.pixels.astype(int) - whole.pixels).mean() < 4


@pytest.mark.parametrize("face_box", [None, Box(120, 180, 380, 420), "full"])
def test_the_same_square_is_animated(tiny_animator: Animator, jpeg: Path, face_box: Box | None) -> None:
    with (
        tiny_animator.prepare(jpeg, face_box=face_box) as whole,
        tiny_animator.prepare(jpeg, face_box=face_box, max_pixels=HALF) as half,
    ):
        check_halved(half.portrait, whole.portrait)


def test_landmarks_of_the_caller(hallo_bundle: Bundle, jpeg: Path) -> None:
    points = default_finder().find(load_picture(jpeg))[0].landmarks[:, :2]
    face, family = FaceInputs(landmarks=points, no_embedding=True), family_of(hallo_bundle.config)

    def framed(max_pixels: int) -> tuple[Portrait, dict[str, np.ndarray]]:
        return frame_face(jpeg, PrepareOptions(face=face, max_pixels=max_pixels), hallo_bundle, family, None)

    (whole, expected), (half, inputs) = framed(512 * 480), framed(HALF)
    check_halved(half, whole)
    for name, mask in expected.items():
        assert np.abs(inputs[name] - mask).mean() < 0.05, name
    assert np.array_equal(framed(50_000_000)[0].pixels, whole.pixels)


def test_messages_speak_of_the_picture_in_the_file(tiny_animator: Animator, jpeg: Path) -> None:
    with pytest.raises(PortraitError, match="inside the picture of 512x480"):
        tiny_animator.prepare(jpeg, face_box=Box(510, 0, 600, 100), max_pixels=HALF)

    class Pair:
        def detect(self, picture: np.ndarray) -> list[Box]:
            assert picture.shape == (240, 256, 3)
            return [Box(0, 0, 100, 100), Box(150, 0, 250, 100)]

    with pytest.raises(PortraitError, match="0 at 0,0,200,200, 1 at 300,0,500,200"):
        tiny_animator.prepare(jpeg, detector=Pair(), max_pixels=HALF)
