"""Which face is taken, and what is refused or remarked, with what was measured."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from emo_rt.errors import ConfigError, FaceNotFoundError, PortraitError
from emo_rt.faces import default_finder
from emo_rt.faces.choice import choose, refuse_unusable, remarks
from emo_rt.faces.locate import locate
from emo_rt.media.box import Box
from emo_rt.media.face import Face, HeadPose
from emo_rt.media.framing import prepare_portrait
from tests.faces.face_pictures import PHOTOGRAPHS, PORTRAIT, load, needs_golden, pasted

LARGE, RIVAL, SMALL = Box(20, 20, 120, 120), Box(150, 20, 210, 80), Box(300, 0, 320, 20)
DRAWN = Image.open(PORTRAIT).convert("RGB")


class Fixed:
    """A detector that has found these boxes."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)

    def detect(self, picture: np.ndarray) -> list[Box]:
        assert picture.dtype == np.uint8
        return self.boxes


def grey() -> np.ndarray:
    return np.full((80, 100, 3), 128, np.uint8)


def drawn_face(**changes: object) -> Face:
    face = default_finder().find(load(PORTRAIT))[0]
    return replace(face, **changes)  # type: ignore[arg-type]


class TestChoose:
    def test_the_only_one(self) -> None:
        assert choose([LARGE], "400x200", None) == LARGE

    def test_a_much_larger_one_and_a_log_line(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "emo_rt.faces.choice"):
            assert choose([LARGE, SMALL], "400x200", None) == LARGE
        assert "2 faces found; animating the largest, 20,20,120,120" in caplog.text

    def test_rivals_keep_their_numbers(self) -> None:
        """A flat face, cut by an edge, lies between two that are alike."""
        faces = [Box(0, 0, 100, 100), Box(200, 0, 300, 45), Box(0, 200, 55, 255)]
        with pytest.raises(PortraitError, match=r"2 faces .*: 0 at 0,0,100,100, 2 at 0,200,55,255;"):
            choose(faces, "400x300", None)

    def test_rivals_are_listed(self) -> None:
        with pytest.raises(PortraitError, match="2 faces of about the same size found: 0 at 20,20,120,120, 1 at") as no:
            choose([LARGE, RIVAL, SMALL], "400x200", None)
        assert "--face-index" in str(no.value)
        assert not isinstance(no.value, FaceNotFoundError)

    def test_by_index(self) -> None:
        assert choose([LARGE, RIVAL, SMALL], "400x200", 2) == SMALL

    def test_an_index_that_is_not_there(self) -> None:
        with pytest.raises(FaceNotFoundError, match="there is no face 1: found 1: 0 at 20,20,120,120"):
            choose([LARGE], "400x200", 1)

    def test_an_index_below_zero(self) -> None:
        with pytest.raises(ConfigError, match="face_index"):
            choose([LARGE], "400x200", -1)

    def test_none_names_the_ways_out(self) -> None:
        with pytest.raises(FaceNotFoundError, match="no face found in the picture of 100x80") as caught:
            locate(grey(), detector=Fixed())
        for word in ("face_box", "--face-box left,top,right,bottom", "full"):
            assert word in str(caught.value)


class TestOwnDetector:
    def test_boxes_are_cut_to_the_picture(self) -> None:
        assert locate(grey(), detector=Fixed(Box(-20, -5, 50, 500))).box == Box(0, 0, 50, 80)

    def test_the_largest_first_whatever_it_says(self) -> None:
        found = locate(grey(), detector=Fixed(Box(0, 0, 20, 20), Box(30, 0, 80, 50)))
        assert found.box == Box(30, 0, 80, 50)
        assert found.landmarks is None

    def test_boxes_outside_are_no_faces(self) -> None:
        with pytest.raises(FaceNotFoundError):
            locate(grey(), detector=Fixed(Box(100, 0, 150, 50), Box(-30, 0, 0, 50), Box(0, 0, 7, 7)))


class TestRefusals:
    def test_too_small(self) -> None:
        picture = pasted((DRAWN.resize((60, 60)), (700, 300)), size=(1200, 900))
        with pytest.raises(PortraitError, match=r"the face has 2\dx2\d pixels; expected 32 or more"):
            locate(picture)

    def test_cut_off(self) -> None:
        picture = np.ascontiguousarray(load(PORTRAIT)[:, 190:])
        with pytest.raises(PortraitError, match=r"\d\d % of the face lies outside .* expected 10 % at most"):
            locate(picture)

    def test_turned_away(self) -> None:
        face = drawn_face(pose=HeadPose(-58, 30, 4))
        with pytest.raises(PortraitError, match=r"turned 63° away from the camera \(yaw -58°, pitch 30°\)"):
            refuse_unusable(face, 512, 512)

    def test_tilting_is_not_turning(self) -> None:
        refuse_unusable(drawn_face(pose=HeadPose(30, -30, 80)), 512, 512)

    def test_each_names_the_way_out(self) -> None:
        with pytest.raises(PortraitError, match="--face-box left,top,right,bottom"):
            refuse_unusable(drawn_face(pose=HeadPose(80, 0, 0)), 512, 512)


class TestRemarks:
    def test_a_usual_face(self) -> None:
        assert remarks(drawn_face()) == []

    @pytest.mark.parametrize(
        ("scores", "words"),
        [
            ({"eyeBlinkLeft": 0.7, "eyeBlinkRight": 0.8}, ["eyes are closed (eyeBlink 0.70"]),
            ({"eyeBlinkLeft": 0.9, "eyeBlinkRight": 0.1}, []),  # a wink
            ({"jawOpen": 0.8}, ["mouth is wide open (jawOpen 0.80"]),
        ],
    )
    def test_odd_ones(self, scores: dict[str, float], words: list[str]) -> None:
        face = drawn_face()
        found = remarks(replace(face, blendshapes={**face.blendshapes, **scores}))
        assert len(found) == len(words)
        assert all(word in text for word, text in zip(words, found, strict=True))

    @pytest.mark.parametrize("style", ["comic", "flat", "painted"])
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({}, []),
            ({"opening": 1.0}, ["mouth is wide open"]),
            ({"blink_left": 1.0, "blink_right": 1.0}, ["eyes are closed"]),
        ],
    )
    def test_drawn_ones(self, style: str, changes: dict[str, float], words: list[str]) -> None:
        pytest.importorskip("skia", reason="the extra 'training' is not installed")
        from training.world import Identity, Pose, render

        picture = np.ascontiguousarray(render(Identity.sample(1, style), Pose(**changes), 512))
        found = remarks(default_finder().find(picture)[0])
        assert len(found) == len(words)
        assert all(word in text for word, text in zip(words, found, strict=True))


@needs_golden
@pytest.mark.parametrize("name", ["portrait_man", "portrait_woman"])
def test_half_length_photographs_are_framed(name: str) -> None:
    original = load(PHOTOGRAPHS[name])
    box, landmarks = locate(original)
    portrait = prepare_portrait(original, 512, face_box=box)
    assert 380 < portrait.crop.width < 640
    assert 0 <= portrait.crop.top < 20  # the hair of both begins some 50 pixels under the upper edge
    assert 0.4 < portrait.face.height / 512 < 0.5
    assert landmarks is not None
    assert landmarks.shape == (478, 2)


@needs_golden
def test_a_group_asks_whom_to_take() -> None:
    picture = load(PHOTOGRAPHS["group"])
    with pytest.raises(PortraitError, match="4 faces of about the same size"):
        locate(picture)
    assert locate(picture, 3).box.left == pytest.approx(250, abs=3)
