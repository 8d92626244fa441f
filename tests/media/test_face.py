"""Face boxes, the choice of the face, and the bundled detector on real pictures."""

from __future__ import annotations

import logging
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from emo_rt.errors import FaceNotFoundError, MissingDependencyError, PortraitError
from emo_rt.media.face import Box, CascadeDetector, default_detector, locate_face, parse_face_box

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="the pictures of ../shared/media are not here")

# Cheek to cheek and upper forehead to chin, read off the pictures by eye.
FACES = {"portrait_man.png": Box(415, 105, 603, 320), "portrait_woman.png": Box(412, 105, 612, 352)}


class Fixed:
    """A detector that has found these boxes."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)

    def detect(self, picture: np.ndarray) -> list[Box]:
        assert picture.dtype == np.uint8
        return self.boxes


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(width, 0) * max(height, 0)
    return shared / (a.width * a.height + b.width * b.height - shared)


def grey(width: int = 100, height: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


class TestBox:
    def test_measures(self):
        box = Box(10, 20, 40, 80)
        assert (box.width, box.height, box.centre) == (30, 60, (25, 50))

    def test_moves(self):
        box = Box(10, 20, 40, 80)
        assert box.scaled(2) == Box(20, 40, 80, 160)
        assert box.scaled(2, 0.5) == Box(20, 10, 80, 40)
        assert box.shifted(-10, 5) == Box(0, 25, 30, 85)
        assert box.clipped(30, 50) == Box(10, 20, 30, 50)

    def test_a_box_outside_cannot_be_clipped(self):
        with pytest.raises(PortraitError, match="empty"):
            Box(10, 20, 40, 80).clipped(5, 100)

    @pytest.mark.parametrize("sides", [(5, 0, 5, 9), (9, 0, 5, 9), (0, 9, 5, 3)])
    def test_empty(self, sides):
        with pytest.raises(PortraitError, match="left < right and top < bottom"):
            Box(*sides)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_not_finite(self, bad):
        with pytest.raises(PortraitError, match="finite"):
            Box(0, 0, bad, 5)

    def test_parse_reads_what_str_writes(self):
        box = Box(1, 2.5, 30, 400)
        assert Box.parse(str(box)) == box
        assert Box.parse(" 1, 2.5 ,30,400 ") == box

    @pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", "full"])
    def test_parse_says_what_it_wants(self, text):
        with pytest.raises(PortraitError, match="left,top,right,bottom in pixels") as caught:
            Box.parse(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("text", ["3,3,1,9", "nan,0,1,1", "0,0,inf,1"])
    def test_parse_refuses_impossible_boxes(self, text):
        with pytest.raises(PortraitError):
            Box.parse(text)

    def test_the_command_line_also_takes_full(self):
        assert parse_face_box(" full") == "full"
        assert parse_face_box("1,2,3,4") == Box(1, 2, 3, 4)


class TestLocateFace:
    def test_the_largest_of_several_and_a_log_line(self, caplog):
        small, large = Box(0, 0, 10, 10), Box(20, 20, 60, 70)
        with caplog.at_level(logging.INFO, "emo_rt.media.face"):
            assert locate_face(grey(), None, Fixed(small, large)) == large
        assert "2 faces found" in caplog.text
        assert "20,20,60,70" in caplog.text

    def test_one_face_is_not_worth_a_log_line(self, caplog):
        with caplog.at_level(logging.INFO, "emo_rt.media.face"):
            locate_face(grey(), None, Fixed(Box(0, 0, 10, 10)))
        assert not caplog.records

    def test_a_given_box_needs_no_detector(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        assert locate_face(grey(), Box(5, 5, 50, 50), None) == Box(5, 5, 50, 50)

    def test_boxes_are_cut_to_the_picture(self):
        assert locate_face(grey(), Box(-20, -5, 50, 500), None) == Box(0, 0, 50, 80)
        assert locate_face(grey(), None, Fixed(Box(-20, -5, 50, 500))) == Box(0, 0, 50, 80)

    def test_no_face_names_the_ways_out(self):
        with pytest.raises(FaceNotFoundError, match="no face found in the picture of 100x80") as caught:
            locate_face(grey(), None, Fixed())
        for word in ("face_box", "--face-box left,top,right,bottom", "full"):
            assert word in str(caught.value)

    def test_boxes_outside_the_picture_are_no_faces(self):
        with pytest.raises(FaceNotFoundError):
            locate_face(grey(), None, Fixed(Box(100, 0, 150, 50), Box(-30, 0, 0, 50), Box(0, 0, 7, 7)))

    @pytest.mark.parametrize("box", [Box(200, 0, 300, 50), Box(0, -90, 50, -10), Box(95, 0, 300, 50), Box(1, 1, 4, 4)])
    def test_given_boxes_that_miss_the_picture(self, box):
        with pytest.raises(PortraitError, match="8x8 pixels inside the picture of 100x80") as caught:
            locate_face(grey(), box, None)
        assert not isinstance(caught.value, FaceNotFoundError)


class TestMissingExtra:
    def test_no_opencv(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(MissingDependencyError, match=r"emo_rt\[face\]") as caught:
            default_detector()
        assert "--face-box" in str(caught.value)

    def test_opencv_5_has_no_cascades(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(__version__="5.0.0"))
        with pytest.raises(MissingDependencyError, match=r"OpenCV 4, but 5\.0\.0 is installed.*emo_rt\[face\]"):
            default_detector()

    def test_the_cascade_file_is_gone(self, monkeypatch):
        cv2 = pytest.importorskip("cv2", reason="the extra 'face' is not installed")
        monkeypatch.setattr(cv2, "CascadeClassifier", lambda _: types.SimpleNamespace(empty=lambda: True))
        with pytest.raises(MissingDependencyError, match="haarcascade_frontalface_alt"):
            default_detector()

    def test_importing_the_module_leaves_opencv_out(self):
        import subprocess

        code = "import sys, emo_rt.media.portrait, emo_rt.media.face; sys.exit('cv2' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def detector() -> CascadeDetector:
    pytest.importorskip("cv2", reason="the extra 'face' is not installed")
    return CascadeDetector()


def pad(image: Image.Image, width: int, height: int, left: int, top: int) -> Image.Image:
    whole = Image.new("RGB", (width, height), (90, 120, 90))
    whole.paste(image, (left, top))
    return whole


# name → (changed picture, face box in it), for a picture of 1024x1024
CHANGES = {
    "as it is": lambda image, face: (image, face),
    "quarter size": lambda image, face: (image.resize((256, 256), Image.Resampling.LANCZOS), face.scaled(0.25)),
    "double size": lambda image, face: (image.resize((2048, 2048), Image.Resampling.BICUBIC), face.scaled(2)),
    "mirrored": lambda image, face: (
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Box(1024 - face.right, face.top, 1024 - face.left, face.bottom),
    ),
    "dark": lambda image, face: (ImageEnhance.Brightness(image).enhance(0.25), face),
    "pale": lambda image, face: (ImageEnhance.Contrast(image).enhance(0.3), face),
    "blurred": lambda image, face: (image.filter(ImageFilter.GaussianBlur(6)), face),
    "tilted": lambda image, face: (image.rotate(18, Image.Resampling.BICUBIC, center=face.centre), face),
    "wide": lambda image, face: (pad(image, 2048, 1024, 900, 0), face.shifted(900, 0)),
    "tall": lambda image, face: (pad(image, 1024, 2048, 0, 1000), face.shifted(0, 1000)),
    "small in a large picture": lambda image, face: (
        pad(image.resize((256, 256), Image.Resampling.LANCZOS), 1200, 1500, 500, 300),
        face.scaled(0.25).shifted(500, 300),
    ),
}


@needs_media
class TestCascadeDetector:
    @pytest.mark.parametrize("name", FACES)
    @pytest.mark.parametrize("change", CHANGES)
    def test_finds_the_face(self, detector, name, change):
        picture, face = CHANGES[change](Image.open(MEDIA / name).convert("RGB"), FACES[name])
        found = detector.detect(np.asarray(picture))
        assert len(found) == 1
        assert overlap(found[0], face) > 0.7

    @pytest.mark.parametrize("name", FACES)
    def test_no_face_in_a_shirt(self, detector, name):
        picture = np.asarray(Image.open(MEDIA / name).convert("RGB"))
        assert detector.detect(picture[450:]) == []

    def test_largest_first(self, detector):
        man, woman = (Image.open(MEDIA / name).convert("RGB") for name in FACES)
        both = pad(man.resize((512, 512)), 1536, 1024, 0, 0)
        both.paste(woman, (512, 0))
        found = detector.detect(np.asarray(both))
        assert len(found) == 2
        assert found[0].left > 512 > found[1].right

    def test_threads_can_share_it(self, detector):
        picture = np.asarray(Image.open(MEDIA / "portrait_man.png").convert("RGB").resize((512, 512)))
        results: list[list[Box]] = []
        threads = [threading.Thread(target=lambda: results.append(detector.detect(picture))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [results[0]] * 4


@pytest.mark.parametrize("shape", [(32, 32), (32, 900), (900, 33), (200, 300)])
def test_pictures_without_a_face(detector, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros_like(noise)) == []


def test_pictures_need_not_be_contiguous(detector):
    assert detector.detect(np.zeros((80, 100, 3), np.uint8)[:, ::-1, ::-1]) == []
