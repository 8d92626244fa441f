"""Framing the face."""

from __future__ import annotations

import logging
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emo_rt.errors import ConfigError, PortraitError
from emo_rt.media.box import Box
from emo_rt.media.framing import box_mask, prepare_portrait
from emo_rt.media.paste import paste_back
from emo_rt.media.picture import load_picture
from tests.media.portraits import outside, waves


class TestFraming:
    def test_a_face_in_the_middle_keeps_its_margin(self):
        portrait = prepare_portrait(waves(1000, 800), 256, face_box=Box(450, 300, 530, 400))
        assert portrait.crop == Box(380, 240, 600, 460)  # 100 + 2 x 60 pixels
        assert portrait.face.centre == pytest.approx((128, 128))
        assert portrait.face.height == pytest.approx(256 / 2.2)

    @pytest.mark.parametrize("box", [Box(0, 0, 80, 100), Box(920, 700, 1000, 800), Box(-30, 650, 60, 830)])
    def test_a_face_at_the_edge_moves_the_square_inside(self, box):
        portrait = prepare_portrait(waves(1000, 800), 64, face_box=box)
        assert portrait.crop == portrait.crop.clipped(1000, 800)
        assert box_mask(portrait.face, 64).any()

    def test_a_face_that_fills_the_picture_reaches_beyond(self):
        picture = waves(400, 200)
        portrait = prepare_portrait(picture, 250, face_box=Box(100, 0, 280, 200))
        assert portrait.crop == Box(65, -25, 315, 225)
        assert np.array_equal(portrait.pixels[25:225], picture[:, 65:315])
        assert (portrait.pixels[:25] == picture[0, 65:315]).all()
        assert (portrait.pixels[225:] == picture[-1, 65:315]).all()

    @pytest.mark.parametrize("share", [0.35, 0.45, 0.6, 0.7])
    def test_a_square_head_shot_is_taken_whole(self, share):
        picture = waves(512, 512)
        box = Box(150, 100, 150 + 400 * share, 100 + 512 * share)
        portrait = prepare_portrait(picture, 512, face_box=box)
        assert portrait.covers_picture
        assert np.array_equal(portrait.pixels, picture)
        assert portrait.face == box

    def test_a_small_face_in_a_square_picture_is_cut_out(self):
        portrait = prepare_portrait(waves(512, 512), 128, face_box=Box(200, 200, 260, 280))
        assert not portrait.covers_picture
        assert portrait.crop.width == 176

    def test_margin(self):
        portrait = prepare_portrait(waves(1000, 800), 64, face_box=Box(450, 300, 550, 400), margin=1)
        assert portrait.crop.width == 300

    def test_full_takes_the_largest_centred_square(self):
        portrait = prepare_portrait(waves(640, 480), 96, face_box="full")
        assert portrait.crop == Box(80, 0, 560, 480)
        assert astuple(portrait.face) == pytest.approx((14.4, 14.4, 81.6, 81.6))
        assert not portrait.covers_picture
        assert prepare_portrait(waves(480, 480), 96, face_box="full").covers_picture

    def test_the_mask_is_one_in_the_face(self):
        mask = box_mask(Box(60.5, 50, 139.5, 149.1), 220)
        assert mask.dtype == np.float32
        expected = np.zeros((220, 220), np.float32)
        expected[50:150, 60:140] = 1
        assert np.array_equal(mask, expected)

    def test_large_pictures_are_limited_but_the_face_keeps_its_detail(self):
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (1001, 3001, 3), dtype=np.uint8)
        portrait = prepare_portrait(picture, 220, face_box=Box(1450, 450, 1550, 550), max_side=300)
        assert portrait.picture.shape == (100, 300, 3)
        # Not blown up from the 22 pixels that the square has in the limited picture.
        assert portrait.pixels.std() > 0.6 * picture.std()

    @pytest.mark.parametrize(("width", "height"), [(101, 77), (100, 77), (101, 78)])
    def test_sides_become_even(self, width, height):
        picture = waves(width, height)
        portrait = prepare_portrait(picture, 32, face_box="full")
        assert portrait.picture.shape == (height // 2 * 2, width // 2 * 2, 3)
        assert np.array_equal(portrait.picture, picture[: height // 2 * 2, : width // 2 * 2])

    def test_enlarging_a_tiny_face_is_logged(self, caplog):
        with caplog.at_level(logging.WARNING, "emo_rt.media.framing"):
            prepare_portrait(waves(200, 300), 512, face_box=Box(50, 50, 70, 75))
        assert "from 55 to 512 pixels" in caplog.text

    def test_arrays_are_read_only_and_the_callers_is_not(self):
        picture = waves(64, 64)
        portrait = prepare_portrait(picture, 64, face_box="full")
        for array in (portrait.picture, portrait.pixels):
            assert not array.flags.writeable
        picture[:] = 0
        assert portrait.picture.any()

    def test_boxes_count_in_the_upright_picture(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(np.ascontiguousarray(np.rot90(waves(300, 400))))
        image.info["exif"] = exif.tobytes()
        upright = prepare_portrait(waves(300, 400), 64, face_box=Box(200, 300, 260, 380))
        turned = prepare_portrait(load_picture(image), 64, face_box=Box(200, 300, 260, 380))
        assert np.array_equal(turned.pixels, upright.pixels)


class TestFramingErrors:
    @pytest.mark.parametrize("box", [(1, 2, 30, 40), np.array([1, 2, 30, 40]), "1,2,30,40", "whole", None])
    def test_things_that_are_no_box(self, box):
        with pytest.raises(PortraitError, match="expected a Box or 'full'"):
            prepare_portrait(waves(100, 100), 64, face_box=box)

    def test_too_narrow_for_max_side(self):
        with pytest.raises(PortraitError, match="max_side = 64 makes the picture of 2000x100 pixels 64x3"):
            prepare_portrait(waves(2000, 100), 64, face_box="full", max_side=64)

    @pytest.mark.parametrize(
        "setting", [{"size": 4}, {"max_side": 10}, {"max_side": 9000}, {"margin": -1}, {"margin": 5}]
    )
    def test_numbers_out_of_range(self, setting):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            prepare_portrait(waves(100, 100), **({"size": 64, "face_box": "full"} | setting))


sides = st.integers(32, 300)
places = st.floats(-100, 400, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.tuples(places, places, places, places), st.sampled_from([32, 64, 97]), st.integers(64, 400))
def test_any_picture_and_box(width, height, corners, size, max_side):
    picture = waves(width, height)
    try:
        box = Box(*corners)
        portrait = prepare_portrait(picture, size, face_box=box, max_side=max_side)
    except PortraitError:
        return
    shown_height, shown_width = portrait.picture.shape[:2]
    assert shown_height % 2 == 0
    assert shown_width % 2 == 0
    assert max(shown_height, shown_width) <= max_side
    assert portrait.crop.width == portrait.crop.height
    assert portrait.pixels.shape == (size, size, 3)
    assert portrait.face == portrait.face.clipped(size, size)
    assert box_mask(portrait.face, size).any()
    whole = paste_back(portrait, 255 - portrait.pixels[None])[0]
    assert np.array_equal(whole[outside(portrait)], portrait.picture[outside(portrait)])


@settings(max_examples=50, deadline=None)
@given(sides, sides, st.data())
def test_boxes_inside_the_picture_always_work(width, height, data):
    left, top = data.draw(st.integers(0, width - 10)), data.draw(st.integers(0, height - 10))
    right, bottom = data.draw(st.integers(left + 10, width)), data.draw(st.integers(top + 10, height))
    portrait = prepare_portrait(waves(width, height), 64, face_box=Box(left, top, right, bottom))
    face = portrait.face.scaled(portrait.crop.width / 64).shifted(portrait.crop.left, portrait.crop.top)
    assert face.left == pytest.approx(left, abs=1.01)  # an odd last row or column may be cut off
    assert face.bottom == pytest.approx(bottom, abs=1.01)
