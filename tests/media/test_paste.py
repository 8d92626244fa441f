"""Pasting the animated square back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emo_rt
from emo_rt.errors import InputError
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait, prepare_portrait
from emo_rt.media.paste import FEATHER, Paster, paste_back
from tests.media.portraits import framed, outside, waves

PORTRAIT = Path(emo_rt.__file__).parent / "assets" / "portrait.png"


class TestPaste:
    def test_pixels_outside_stay_as_they_are(self):
        portrait = framed()
        frames = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
        whole = paste_back(portrait, frames)
        assert whole.shape == (3, 300, 400, 3)
        assert whole.dtype == np.uint8
        assert (whole[:, outside(portrait)] == portrait.picture[outside(portrait)]).all()

    def test_the_unchanged_square_changes_little(self):
        portrait = framed()
        whole = paste_back(portrait, portrait.pixels[None])[0]
        assert np.abs(whole.astype(int) - portrait.picture).max() <= 6

    def test_a_square_that_is_the_picture_is_copied(self):
        portrait = prepare_portrait(waves(128, 128), 128, face_box="full")
        frames = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
        assert np.array_equal(paste_back(portrait, frames), frames)

    def test_the_middle_is_animated_and_the_edge_fades(self):
        portrait = prepare_portrait(np.zeros((400, 400, 3), np.uint8), 64, face_box=Box(160, 150, 230, 240))
        crop = portrait.crop
        whole = paste_back(portrait, np.full((1, 64, 64, 3), 255, np.uint8))[0, :, :, 0].astype(int)
        row, column = (round(middle) for middle in reversed(crop.centre))
        line = whole[row, int(crop.left) : int(crop.right)]
        feather = round(0.1 * crop.width)
        assert (line[feather:-feather] == 255).all()
        assert line[0] < 5  # no seam: the first step is invisible
        assert np.abs(np.diff(line)).max() < 255 * 1.6 / feather
        assert np.array_equal(line, line[::-1])
        assert np.array_equal(line, whole[int(crop.top) : int(crop.bottom), column])

    def test_no_fading_along_the_edges_of_the_picture(self):
        portrait = prepare_portrait(np.zeros((300, 400, 3), np.uint8), 64, face_box=Box(0, 0, 100, 120))
        assert (portrait.crop.left, portrait.crop.top) == (0, 0)
        whole = paste_back(portrait, np.full((1, 64, 64, 3), 255, np.uint8))[0]
        assert (whole[:200, 0] == 255).all()
        assert (whole[0, :200] == 255).all()
        assert whole[int(portrait.crop.bottom) - 1, 0, 0] < 5

    def test_a_square_that_reaches_beyond(self):
        portrait = prepare_portrait(waves(400, 200), 250, face_box=Box(100, 0, 280, 200))
        whole = paste_back(portrait, portrait.pixels[None])[0]
        assert np.abs(whole.astype(int) - portrait.picture).max() <= 1
        assert (paste_back(portrait, np.zeros((1, 250, 250, 3), np.uint8))[0, :, 150:250] == 0).all()

    def test_out_is_used_and_any_old_content_is_gone(self):
        paster = Paster(framed())
        frames = np.zeros((2, 128, 128, 3), np.uint8)
        out = np.full((2, 300, 400, 3), 77, np.uint8)
        assert paster(frames, out) is out
        assert np.array_equal(out, paster(frames))

    def test_no_frames(self):
        assert paste_back(framed(), np.zeros((0, 128, 128, 3), np.uint8)).shape == (0, 300, 400, 3)

    @pytest.mark.parametrize(
        "frames",
        [np.zeros((128, 128, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 128, 128, 3), np.float32)],
    )
    def test_frames_of_another_form(self, frames):
        with pytest.raises(InputError, match=r"frames is .* expected uint8 of shape"):
            paste_back(framed(), frames)

    def test_out_of_another_form(self):
        with pytest.raises(InputError, match="out is"):
            Paster(framed())(np.zeros((1, 128, 128, 3), np.uint8), np.zeros((2, 300, 400, 3), np.uint8))


def plainly(portrait: Portrait, frame: np.ndarray) -> np.ndarray:
    """What pasting is, in plain words: Pillow resizes, and a mask blends the whole picture in floating point."""
    height, width = portrait.picture.shape[:2]
    crop, visible = portrait.crop, portrait.crop.clipped(width, height)
    side = int(crop.width)
    square = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    left, top = int(visible.left - crop.left), int(visible.top - crop.top)
    square = square[top : top + int(visible.height), left : left + int(visible.width)]
    down = plain_ramp(crop.top, crop.bottom, height)
    across = plain_ramp(crop.left, crop.right, width)
    weight = (down[:, None] * across)[..., None]
    whole = portrait.picture.astype(float)
    area = whole[int(visible.top) : int(visible.bottom), int(visible.left) : int(visible.right)]
    area[...] = weight * square + (1 - weight) * area
    return whole


def plain_ramp(start: float, end: float, length: int) -> np.ndarray:
    place = np.arange(max(start, 0), min(end, length)) + 0.5
    part = np.ones(len(place))
    if start > 0:
        part = np.minimum(part, (place - start) / max(1, FEATHER * (end - start)))
    if end < length:
        part = np.minimum(part, (end - place) / max(1, FEATHER * (end - start)))
    return 3 * part**2 - 2 * part**3


@pytest.mark.parametrize("side", [150, 256, 460, 601, 972])
@pytest.mark.parametrize("size", [128, 256])
def test_pasting_equals_the_plain_formulation(size: int, side: int) -> None:
    """Within 1 of 255, but for 1 pixel in 1,000; why, says :mod:`emo_rt.media.resize`."""
    picture = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((side + 100, side), Image.Resampling.LANCZOS))
    portrait = prepare_portrait(picture, size, face_box="full")  # touches the picture's upper and lower edge
    moved = np.roll(portrait.pixels, 5, axis=1)
    off = np.abs(paste_back(portrait, moved[None])[0] - plainly(portrait, moved))
    assert (off > 1.5).mean() < 2e-3
    edge = 4 * side // size + 2
    assert off[edge:-edge].max() < 3.5
    assert off.max() < 8


def test_many_threads_may_share_a_paster() -> None:
    portrait = framed()
    paster = Paster(portrait)
    frames = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    expected = [paster(frame[None]) for frame in frames]
    found: dict[int, bool] = {}

    def work(index: int) -> None:
        found[index] = all(np.array_equal(paster(frames[index][None]), expected[index]) for _ in range(10))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)
