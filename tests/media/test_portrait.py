"""Loading pictures of every kind, framing the face, pasting the animated square back."""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emo_rt.errors import ConfigError, InputError, PortraitError
from emo_rt.media.portrait import Box, Paster, Portrait, box_mask, load_picture, paste_back, prepare_portrait

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"


def colours(width: int = 64, height: int = 48) -> np.ndarray:
    """Four flat corners, each of another colour, so that orientation and channel order show."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (200, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 180, 30)
    picture[height // 2 :, : width // 2] = (30, 30, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 60)
    return picture


def waves(width: int, height: int) -> np.ndarray:
    """A smooth picture, which survives resizing nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(x / 17 + k) * np.cos(y / 23 + k) for k in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> np.ndarray:
    image.save(folder / name, **options)
    return load_picture(folder / name)


def close(picture: np.ndarray, expected: np.ndarray, tolerance: float = 3) -> bool:
    assert picture.shape == expected.shape
    assert picture.dtype == np.uint8
    return float(np.abs(picture.astype(int) - expected).mean()) <= tolerance


class TestFiles:
    @pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.webp", "a.jpg"])
    def test_formats(self, tmp_path, name):
        picture = saved(tmp_path, Image.fromarray(colours()), name, quality=95)
        assert close(picture, colours())

    def test_a_path_may_be_text(self, tmp_path):
        Image.fromarray(colours()).save(tmp_path / "a.png")
        assert np.array_equal(load_picture(str(tmp_path / "a.png")), colours())

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
    def test_exif_orientation(self, tmp_path, orientation, name):
        turn = Image.Transpose
        undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
                6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}  # fmt: skip
        image = Image.fromarray(colours())
        stored = image.transpose(undo[orientation]) if orientation in undo else image
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert close(saved(tmp_path, stored, name, exif=exif, quality=95), colours())

    def test_palette(self, tmp_path):
        palette = Image.fromarray(colours()).quantize(16)
        assert palette.mode == "P"
        assert close(saved(tmp_path, palette, "a.png"), colours())

    def test_palette_with_a_transparent_colour(self, tmp_path):
        image = Image.new("P", (64, 48), 1)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.paste(0, (0, 0, 32, 48))
        picture = saved(tmp_path, image, "a.png", transparency=0)
        assert (picture[:, :32] == 255).all()
        assert (picture[:, 32:] == (200, 100, 50)).all()

    def test_palette_with_alpha(self, tmp_path):
        image = Image.new("P", (64, 48), 1)
        image.putpalette([10, 20, 30, 200, 100, 50])
        picture = saved(tmp_path, image, "a.png", transparency=bytes([0, 128]))
        assert close(picture, np.full((48, 64, 3), (227, 177, 152)), 1)

    @pytest.mark.parametrize("name", ["a.jpg", "a.tiff"])
    def test_cmyk(self, tmp_path, name):
        cmyk = Image.fromarray(colours()).convert("CMYK")
        assert close(saved(tmp_path, cmyk, name, **({"quality": 95} if name == "a.jpg" else {})), colours())

    def test_cmyk_jpeg_has_the_inverted_inks_of_adobe(self, tmp_path):
        saved(tmp_path, Image.fromarray(colours()).convert("CMYK"), "a.jpg", quality=95)
        assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()[:64]

    @pytest.mark.parametrize("mode", ["L", "1", "YCbCr", "HSV"])
    def test_other_modes(self, mode):
        image = Image.fromarray(colours()).convert(mode)
        assert np.array_equal(load_picture(image), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("mode", ["LA", "RGBA", "La", "RGBa"])
    def test_alpha_lies_on_white(self, mode):
        image = Image.new("RGBA", (64, 48), (100, 100, 100, 255))
        image.paste((100, 100, 100, 0), (0, 0, 32, 48))
        image.paste((100, 100, 100, 128), (0, 0, 16, 48))
        picture = load_picture(image.convert("LA").convert("La") if mode == "La" else image.convert(mode))
        assert (picture[:, 32:] == 100).all()
        assert (picture[:, 16:32] == 255).all()
        assert np.abs(picture[:, :16].astype(int) - 177).max() <= 2

    def test_palette_image_with_an_alpha_channel(self):
        image = Image.frombytes("PA", (64, 48), bytes([1, 128]) * (64 * 48))
        image.putpalette([10, 20, 30, 200, 100, 50])
        assert close(load_picture(image), np.full((48, 64, 3), (227, 177, 152)), 1)

    @pytest.mark.parametrize("name", ["a.png", "a.tiff"])
    @pytest.mark.parametrize("kind", ["<u2", ">u2"])
    def test_16_bits(self, tmp_path, name, kind):
        ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
        image = Image.fromarray(ramp.astype(np.uint16))
        if kind == ">u2":
            image = Image.frombytes("I;16B", (64, 48), ramp.astype(">u2").tobytes())
        picture = saved(tmp_path, image, name)
        assert close(picture, np.repeat((ramp / 257)[..., None], 3, -1), 1)

    def test_32_bit_images_hold_16_bit_greys(self):
        assert (load_picture(Image.new("I", (40, 40), 65535)) == 255).all()
        with pytest.raises(PortraitError, match="70000"):
            load_picture(Image.new("I", (40, 40), 70000))

    def test_float_images(self, tmp_path):
        assert (saved(tmp_path, Image.new("F", (40, 40), 0.5), "a.tiff") == 128).all()
        with pytest.raises(PortraitError, match="0 … 1"):
            load_picture(Image.new("F", (40, 40), 80.0))

    @pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
    def test_first_frame_of_an_animation(self, tmp_path, name):
        first, second = (Image.new("RGB", (40, 40), colour) for colour in ((200, 0, 0), (0, 0, 200)))
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert close(load_picture(tmp_path / name), np.full((40, 40, 3), (200, 0, 0)), 2)

    def test_an_opened_image_stays_open(self, tmp_path):
        Image.fromarray(colours()).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            load_picture(image)
            assert image.getpixel((0, 0)) == (200, 30, 30)


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(PortraitError, match=r"there is no picture .*nobody\.png"):
            load_picture(tmp_path / "nobody.png")

    def test_a_folder(self, tmp_path):
        with pytest.raises(PortraitError):
            load_picture(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"])
    def test_no_picture(self, tmp_path, content):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(PortraitError, match="expected a whole PNG, JPEG"):
            load_picture(tmp_path / "a.png")

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"])
    @pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
    def test_cut_off(self, tmp_path, name, part):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(PortraitError, match="a\\."):
            load_picture(tmp_path / name)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_changed_bytes_give_a_picture_or_our_error(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("changed") / "a"
        kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF"]))
        Image.fromarray(colours()).save(path, kind)
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with contextlib.suppress(PortraitError):
            assert load_picture(path).dtype == np.uint8

    @pytest.mark.parametrize("side", [9_000, 9_900, 60_000])
    def test_decompression_bombs(self, tmp_path, side):
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(PortraitError, match="too large to decode"):
            load_picture(tmp_path / "bomb.png")

    def test_too_small(self):
        with pytest.raises(PortraitError, match="20x64 pixels; expected 32 or more"):
            load_picture(Image.new("RGB", (20, 64)))


class TestArrays:
    @pytest.mark.parametrize("channels", [None, 1, 3, 4])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.dtype(">u2"), np.float16, np.float32, np.float64])
    def test_forms(self, channels, kind):
        shape = (40, 50) if channels is None else (40, 50, channels)
        array = np.ones(shape) if np.dtype(kind).kind == "f" else np.full(shape, np.iinfo(kind).max)
        picture = load_picture(array.astype(kind))
        assert picture.shape == (40, 50, 3)
        assert picture.dtype == np.uint8
        assert (picture == 255).all()

    def test_values(self):
        assert (load_picture(np.full((40, 40), 0.2)) == 51).all()
        assert (load_picture(np.full((40, 40), 51 * 257, np.uint16)) == 51).all()
        clear = np.zeros((40, 40, 4), np.uint8)
        assert (load_picture(clear) == 255).all()

    def test_views(self):
        assert np.array_equal(load_picture(colours()[::-1, ::-1, ::-1]), colours()[::-1, ::-1, ::-1])

    @pytest.mark.parametrize(
        "shape", [(40,), (40, 50, 2), (40, 50, 5), (3, 40, 50), (1, 40, 50, 3), (0, 40, 3), (0, 0)]
    )
    def test_bad_shapes(self, shape):
        with pytest.raises(PortraitError, match="array of shape"):
            load_picture(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("kind", [bool, np.int64, np.uint32, np.complex64, object])
    def test_bad_types(self, kind):
        with pytest.raises(PortraitError, match="expected uint8, uint16 or floats in 0 … 1"):
            load_picture(np.zeros((40, 40, 3), kind))

    @pytest.mark.parametrize("value", [1.5, 255.0, -0.1, np.nan, np.inf, 1e300])
    def test_bad_floats(self, value):
        array = np.zeros((40, 40))
        array[3, 3] = value
        with pytest.raises(PortraitError, match="expected 0 … 1"):
            load_picture(array)

    @pytest.mark.parametrize("source", [None, 7, b"bytes", [[1, 2], [3, 4]]])
    def test_other_things(self, source):
        with pytest.raises(PortraitError, match="a portrait cannot be a"):
            load_picture(source)


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
        with caplog.at_level(logging.WARNING, "emo_rt.media.portrait"):
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
        assert np.array_equal(prepare_portrait(image, 64, face_box=Box(200, 300, 260, 380)).pixels, upright.pixels)


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


def outside(portrait: Portrait) -> np.ndarray:
    """(H, W): the pixels that the square does not touch."""
    crop = portrait.crop
    keep = np.ones(portrait.picture.shape[:2], bool)
    keep[max(int(crop.top), 0) : int(crop.bottom), max(int(crop.left), 0) : int(crop.right)] = False
    return keep


def framed(width: int = 400, height: int = 300, size: int = 128) -> Portrait:
    return prepare_portrait(waves(width, height), size, face_box=Box(180, 120, 240, 200))


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
