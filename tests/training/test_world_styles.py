"""Styles: each is its own, and one is kept out of training."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from training.world import Clip, Identity, Pose, render
from training.world.identity import KEPT_OUT, STYLES
from training.world.speech import silence

POSE = Pose(opening=0.4, smile=0.3)


def test_people_of_the_seed_have_every_style_but_the_one_kept_out() -> None:
    assert {Identity.sample(seed).style for seed in range(80)} == set(STYLES)


@pytest.mark.parametrize(("first", "second"), list(combinations((*STYLES, KEPT_OUT), 2)))
def test_styles_can_be_told_apart(first: str, second: str) -> None:
    pictures = [render(Identity.sample(45, style), POSE, 96).astype(int) for style in (first, second)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 3


def test_a_style_changes_no_proportion() -> None:
    people = [Identity.sample(7, style) for style in (*STYLES, KEPT_OUT)]
    assert len({person.face for person in people}) == 1
    assert len({person.hair.style for person in people}) == 1


def test_a_print_has_two_inks_and_paper() -> None:
    """All its colours lie on the two lines from ink to ink to paper."""
    picture = render(Identity.sample(3, KEPT_OUT), POSE, 64).reshape(-1, 3).astype(float)
    spread = np.linalg.svd(picture - picture.mean(axis=0), compute_uv=False)
    assert spread[2] < 0.02 * spread[0]


def test_training_never_sees_the_style_kept_out() -> None:
    with pytest.raises(ValueError, match="kept out"):
        Identity.sample_split(0, "train", KEPT_OUT)
    with pytest.raises(ValueError, match="kept out"):
        Clip.spoken(0, silence(0.4), style=KEPT_OUT)
    assert Clip.spoken(0, silence(0.4), split="test", style=KEPT_OUT).identity.style == KEPT_OUT


def test_an_unknown_style_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="painted"):
        Identity.sample(0, "baroque")
