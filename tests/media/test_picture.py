"""Loading pictures of every kind."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emo_rt.errors import PortraitError
from emo_rt.media import picture as module
from emo_rt.media.picture import Picture, load_picture, open_picture
from emo_rt.schema.kinds import Range


def colours(width: int = 64, height: int = 48) -> np.ndarray:
    """Four flat corners, each of another colour, so that orientation and channel order show."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (200, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 180, 30)
    picture[height // 2 :, : width // 2] = (30, 30, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 60)
    return picture


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> np.ndarray:
    image.save(folder / name, **options)
    return load_picture(folder / name)


def close(picture: np.ndarray, expected: np.ndarray, tolerance: float = 3) -> bool:
    assert picture.shape == expected.shape
    assert picture.dtype == np.uint8
    return float(np.abs(picture.astype(int) - expected).mean()) <= tolerance


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """As a file of that EXIF orientation holds it."""
    turn = Image.Transpose
    undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
            6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}  # fmt: skip
    return image.transpose(undo[orientation]) if orientation in undo else image


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
        stored = turned(Image.fromarray(colours()), orientation)
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


class TestLargeJpegs:
    """Of more than ``max_pixels``: decoded at a half, a quarter or an eighth."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.jpg", "a.mpo"])
    def test_upright(self, tmp_path, orientation, name):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = turned(Image.fromarray(colours(256, 192)), orientation)
        more = {"save_all": True, "append_images": [stored]} if name == "a.mpo" else {}
        stored.save(tmp_path / name, exif=exif, quality=95, **more)
        picture = open_picture(tmp_path / name, 128 * 96)
        assert close(picture.pixels, colours(128, 96))
        assert (picture.width, picture.height, picture.across, picture.down) == (256, 192, 0.5, 0.5)

    @pytest.mark.parametrize(
        ("max_pixels", "size"),
        [(50_000, (257, 193)), (49_600, (129, 97)), (129 * 97, (129, 97)), (129 * 97 - 1, (65, 49)), (33 * 48, None)],
    )
    def test_the_largest_that_fits_in(self, tmp_path, caplog, max_pixels, size):
        Image.fromarray(colours(257, 193)).save(tmp_path / "a.jpg", quality=95)
        if size is None:  # 33 x 25 would be too low
            with pytest.raises(PortraitError, match="33x25 pixels; expected 32 or more"):
                open_picture(tmp_path / "a.jpg", max_pixels)
            return
        picture = open_picture(tmp_path / "a.jpg", max_pixels)
        assert (picture.width, picture.height, picture.pixels.shape[1::-1]) == (257, 193, size)
        told = f"257x193 pixels, more than max_pixels allows, and is decoded as {size[0]}x{size[1]}"
        assert (told in caplog.text) == (size != (257, 193))

    def test_one_that_fits_in_is_decoded_whole(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as image:
            assert np.array_equal(load_picture(tmp_path / "a.jpg", 48 * 64), np.asarray(image))

    @pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
    def test_modes(self, tmp_path, mode):
        image = Image.fromarray(colours(256, 192)).convert(mode)
        image.save(tmp_path / "a.jpg", quality=95)
        assert close(load_picture(tmp_path / "a.jpg", 128 * 96), np.asarray(image.resize((128, 96)).convert("RGB")), 4)

    @pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff", "a.gif"])
    def test_other_formats_are_refused(self, tmp_path, name):
        Image.fromarray(colours()).save(tmp_path / name)
        with pytest.raises(PortraitError, match=r"64x48 pixels\); expected 3,000 pixels at most"):
            load_picture(tmp_path / name, 3_000)

    def test_an_eighth_that_is_too_large(self, tmp_path):
        Image.new("L", (2_000, 2_000)).save(tmp_path / "a.jpg")
        with pytest.raises(PortraitError, match="too large to decode"):
            load_picture(tmp_path / "a.jpg", 40_000)

    def test_several_scans_take_memory_at_any_size(self, tmp_path, monkeypatch):
        """So above the largest limit only those are taken that are decoded as they are read."""
        monkeypatch.setattr(module, "PIXELS", Range(1_024, 40_000))
        image = Image.fromarray(colours(256, 192))
        image.save(tmp_path / "a.jpg", exif=bytes(1_000))
        assert load_picture(tmp_path / "a.jpg", 20_000).shape == (96, 128, 3)
        image.save(tmp_path / "progressive.jpg", progressive=True)
        content = (tmp_path / "a.jpg").read_bytes()
        one_colour = content.replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x0c\x01")
        assert one_colour != content
        (tmp_path / "one colour.jpg").write_bytes(one_colour)
        for name in ("progressive.jpg", "one colour.jpg"):
            with pytest.raises(PortraitError, match="too large to decode"):
                load_picture(tmp_path / name, 20_000)
        monkeypatch.setattr(module, "PIXELS", Range(1_024, 50_000))
        assert load_picture(tmp_path / "progressive.jpg", 20_000).shape == (96, 128, 3)

    def test_more_than_pillow_takes_by_itself(self, tmp_path):
        """100 megapixels, as of large cameras: in a process of its own, whose memory is looked at."""
        Image.new("L", (11_600, 8_700), 90).save(tmp_path / "a.jpg")
        code = (
            "import sys; from emo_rt.media.picture import open_picture; from emo_rt.memory import peak_memory; "
            "picture = open_picture(sys.argv[1], 10_000_000); "
            "print(picture.width, picture.pixels.shape, peak_memory())"
        )
        run = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.jpg")]
        *found, most = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
        assert " ".join(found) == "11600 (2175, 2900, 3)"
        assert int(most) < 200_000_000

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_changed_bytes_give_a_picture_or_our_error(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("changed") / "a"
        Image.fromarray(colours(160, 120)).save(path, data.draw(st.sampled_from(["JPEG", "MPO"])))
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with contextlib.suppress(PortraitError):
            assert load_picture(path, 10_000).dtype == np.uint8

    def test_what_was_decoded_already(self):
        picture = Picture(colours(), 128, 96)
        assert open_picture(picture) is picture


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
