"""People and frames: deterministic, varied, and drawn as their ground truth says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from training.world import Identity, Pose, ground_truth, render
from training.world.casting import TRAIN_IDENTITIES, identity_seed
from training.world.hair import HAIR_STYLES
from training.world.identity import BACKDROP_STYLES, BEARD_STYLES, GLASSES_STYLES, NECKLINES, NOSE_STYLES, SHADINGS
from training.world.palettes import distance

SEEDS = (0, 5, 20, 31, 33, 57, 61, 79)


def dark_area(image: NDArray[np.uint8], identity: Identity) -> int:
    """Pixels in the colour of the inside of the mouth, in the lower half of the picture."""
    half = image[image.shape[0] // 2 :].astype(int)
    return int((np.abs(half - np.array(identity.mouth.inside)).max(axis=2) <= 6).sum())


def test_same_seed_same_person_and_pixels() -> None:
    pose = Pose(yaw=0.2, opening=0.4, smile=0.3)
    first, second = Identity.sample(11), Identity.sample(11)
    assert first == second
    assert np.array_equal(render(first, pose, 96), render(second, pose, 96))
    assert not np.array_equal(render(first, pose, 96), render(Identity.sample(12), pose, 96))


@pytest.mark.parametrize("size", [64, 128, 256])
def test_frame_shape(size: int) -> None:
    frame = render(Identity.sample(3), Pose(), size)
    assert frame.shape == (size, size, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous


def test_every_style_turns_up() -> None:
    people = [Identity.sample(seed) for seed in range(900)]
    assert {p.hair.style for p in people} == set(HAIR_STYLES)
    assert {p.extras.beard for p in people} == set(BEARD_STYLES)
    assert {p.extras.glasses for p in people} == set(GLASSES_STYLES)
    assert {p.clothes.neckline for p in people} == set(NECKLINES)
    assert {p.nose.style for p in people} == set(NOSE_STYLES)
    assert {p.backdrop.style for p in people} == set(BACKDROP_STYLES)
    assert {p.shading for p in people} == set(SHADINGS)


@pytest.mark.parametrize("style", sorted(HAIR_STYLES))
def test_every_hair_style_draws_at_extreme_poses(style: str) -> None:
    person = Identity.sample(1)
    person = replace(person, hair=replace(person.hair, style=style))
    for yaw, pitch, roll in ((0.5, 0.35, 0.35), (-0.5, -0.35, -0.35)):
        frame = render(person, Pose(yaw=yaw, pitch=pitch, roll=roll, opening=1.0), 64)
        assert frame.std() > 10


def test_lips_and_mouth_differ_from_the_skin() -> None:
    for seed in range(300):
        person = Identity.sample(seed)
        assert distance(person.mouth.lips, person.skin) > 55, seed
        assert distance(person.mouth.inside, person.mouth.lips) > 90, seed


@pytest.mark.parametrize("seed", SEEDS)
def test_more_opening_shows_a_larger_dark_mouth(seed: int) -> None:
    person = Identity.sample(seed)
    steps = [Pose(opening=opening) for opening in (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)]
    areas = [dark_area(render(person, pose, 256), person) for pose in steps]
    assert areas == sorted(areas)
    assert areas[-1] > areas[1] + 200
    truths = [ground_truth(person, pose, 256).opening_px for pose in steps]
    assert all(low < high for low, high in pairwise(truths))


@pytest.mark.parametrize("seed", SEEDS)
def test_press_shuts_the_mouth(seed: int) -> None:
    person, pressed = Identity.sample(seed), Pose(opening=0.5, press=1.0)
    assert ground_truth(person, pressed, 256).opening == 0
    assert dark_area(render(person, pressed, 256), person) <= dark_area(render(person, Pose(), 256), person) + 20


def test_width_and_rounding_show_in_the_truth() -> None:
    person = Identity.sample(4)
    rest, wide, round_ = (ground_truth(person, p, 128) for p in (Pose(), Pose(width=1), Pose(rounding=1)))
    assert rest.width == pytest.approx(1.0)
    assert round_.width_px < 0.7 * rest.width_px
    assert wide.width_px > 1.1 * rest.width_px


def test_truth_scales_with_the_size() -> None:
    person, pose = Identity.sample(9), Pose(yaw=0.3, opening=0.6)
    small, large = ground_truth(person, pose, 128), ground_truth(person, pose, 256)
    assert np.allclose(np.array(small.face_box) * 2, large.face_box)
    assert large.opening_px == pytest.approx(2 * small.opening_px)


@pytest.mark.parametrize("seed", SEEDS)
def test_face_box_holds_what_moves_when_the_mouth_opens(seed: int) -> None:
    person = Identity.sample(seed)
    person = replace(person, extras=replace(person.extras, beard="none"), hair=replace(person.hair, style="crop"))
    open_ = Pose(opening=1.0)
    changed = np.abs(render(person, open_, 128).astype(int) - render(person, Pose(), 128)).max(axis=2) > 60
    rows, columns = np.nonzero(changed)
    left, top, right, bottom = ground_truth(person, open_, 128).face_box
    assert left <= columns.min()
    assert columns.max() <= right
    assert top <= rows.min()
    neck_shadow = 8
    assert rows.max() <= bottom + neck_shadow


def test_head_turns_over_a_still_background() -> None:
    person = Identity.sample(0)
    still, turned = render(person, Pose(), 128), render(person, Pose(yaw=0.4), 128)
    assert np.array_equal(still[:20, :20], turned[:20, :20])
    assert not np.array_equal(still[40:90, 40:90], turned[40:90, 40:90])


def test_splits_share_no_person() -> None:
    train = {identity_seed(index, "train") for index in range(0, 3 * TRAIN_IDENTITIES, 9973)}
    test = {identity_seed(index, "test") for index in range(0, 3 * TRAIN_IDENTITIES, 9973)}
    assert not train & test
