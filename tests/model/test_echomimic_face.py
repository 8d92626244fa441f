"""EchoMimic's box, mask and crop."""

from __future__ import annotations

import pytest

from emo_rt.media.box import Box
from emo_rt.model.families.echomimic_face import crop_box, detector_box, face_mask, grown

MESH = Box(427, 126, 591, 318)
"""The mesh of ``portrait_man.png`` of the shared media."""


def test_the_box_of_a_photograph_is_near_mtcnns() -> None:
    """MTCNN itself says 423.7, 100.8, 590.8, 319.3 for that picture with red and blue swapped."""
    found = detector_box(MESH)
    assert (found.left, found.top, found.right, found.bottom) == pytest.approx((423.7, 100.8, 590.8, 319.3), abs=12)
    assert all(side == int(side) for side in (found.left, found.top, found.right, found.bottom))


def test_growing_rounds_down() -> None:
    assert grown(Box(10, 20, 29, 59), 0.1) == Box(9, 17, 30, 62)


def test_the_mask_is_cut_at_the_border() -> None:
    """There the original's would be empty."""
    mask = face_mask(Box(0, 2, 40, 50), 100, 80)
    assert mask.shape == (80, 100)
    assert mask[0, 0] == 255
    assert set(mask[:, 60]) == {0}


def test_the_crop_reaches_half_a_box_beyond_the_detectors_own() -> None:
    """Not beyond the mask, which is larger: the face would be drawn a sixth too small."""
    box, found = detector_box(MESH), crop_box(MESH, 4096, 4096)
    assert found.width == found.height == 2 * box.width
    assert found.left == box.left - box.width // 2


def test_the_crop_is_a_square_inside_the_picture() -> None:
    found = crop_box(MESH, 1024, 1024)
    assert found.width == found.height
    assert found.top >= 0
    assert found.centre[0] == pytest.approx(detector_box(MESH).centre[0], abs=1)
    wide = crop_box(Box(427, 20, 591, 212), 1024, 300)
    assert 0 <= wide.top < wide.bottom <= 300
    assert wide.width == wide.height
