"""`Animator.prepare` with the built-in networks: whom it takes, what it hands to Hallo models, what it says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from emo_rt import Animator, Box, Bundle, FaceInputs, FaceNotFoundError, InputError, PortraitError
from emo_rt.faces import default_finder
from tests.faces.face_pictures import PORTRAIT, load, pasted

DRAWN = Image.open(PORTRAIT).convert("RGB")
NOBODY_SPECIAL = FaceInputs(no_embedding=True)


@pytest.fixture(scope="module")
def hallo(hallo_bundle: Bundle) -> Iterator[Animator]:
    with Animator.load(hallo_bundle.path, device="cpu", threads=1) as animator:
        yield animator


def two_faces() -> np.ndarray:
    return pasted((DRAWN, (0, 0)), (DRAWN.resize((400, 400)), (560, 50)), size=(1024, 512))


def test_a_picture_is_all_it_takes(tiny_animator: Animator) -> None:
    avatar = tiny_animator.prepare(PORTRAIT)
    assert avatar.portrait.covers_picture
    box = avatar.portrait.face.scaled(512 / tiny_animator.config.size)
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((127, 182, 372, 414), abs=3)


def test_several_faces_are_chosen_from(tiny_animator: Animator) -> None:
    with pytest.raises(PortraitError, match="2 faces of about the same size"):
        tiny_animator.prepare(two_faces())
    left = tiny_animator.prepare(two_faces(), face_index=0).portrait.crop
    right = tiny_animator.prepare(two_faces(), face_index=1).portrait.crop
    assert left.centre[0] < 512 < right.centre[0]


def test_place_and_index_exclude_each_other(tiny_animator: Animator) -> None:
    with pytest.raises(InputError, match="face_index is 1, and the face's place is given, too"):
        tiny_animator.prepare(two_faces(), face_index=1, face_box=Box(10, 10, 90, 90))


def test_nobody_there(tiny_animator: Animator) -> None:
    with pytest.raises(FaceNotFoundError, match="no face found in the picture of 300x200 pixels"):
        tiny_animator.prepare(np.zeros((200, 300, 3), np.uint8))


def test_hallo_masks_are_made_from_the_landmarks(hallo: Animator) -> None:
    """As from landmarks that are given; from the box alone they are another estimate."""
    found = default_finder().find(load(PORTRAIT))[0]
    given = FaceInputs(no_embedding=True, landmarks=found.landmarks[:, :2])
    automatic = masks(hallo, face=NOBODY_SPECIAL)
    np.testing.assert_array_equal(automatic, masks(hallo, face=given, face_box=found.box))
    assert np.abs(automatic - masks(hallo, face=NOBODY_SPECIAL, face_box=found.box)).max() > 0.1


def masks(animator: Animator, **how: object) -> np.ndarray:
    """(3, n): full, face, lip, on the finest level."""
    avatar = animator.prepare(PORTRAIT, **how)  # type: ignore[arg-type]
    return np.array(avatar.features["audio_mask.0"].read())


def test_a_photograph_for_the_demo_model(caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with Animator.load("demo", device="cpu", threads=1, verify=False) as demo:
        demo.prepare(PORTRAIT)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        demo.prepare(noise, face_box=Box(40, 40, 200, 200))
    assert "the model demo was trained on drawings, and the picture looks like one of photographs" in caplog.text
