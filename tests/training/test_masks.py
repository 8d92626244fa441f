"""Masks of the face locator: they fit the way that a head goes."""

from __future__ import annotations

import numpy as np
import pytest

from training.masks import box_mask, draw_mask


def test_masks_fit_the_way_of_the_head() -> None:
    still = np.tile(np.array([0.3, 0.2, 0.7, 0.9], np.float32), (12, 1))
    moving = still + np.linspace(-0.1, 0.1, 12, dtype=np.float32)[:, None] * (1, 0, 1, 0)
    rng = np.random.default_rng(0)
    shares = {name: np.array([draw_mask(rng, box.astype(np.float32), 64).mean() for _ in range(400)])
              for name, box in (("still", still), ("moving", moving))}  # fmt: skip
    assert np.quantile(shares["still"], 0.4) == pytest.approx(0.4 * 0.7, abs=0.03)
    assert np.quantile(shares["moving"], 0.4) == pytest.approx(0.6 * 0.7, abs=0.03)
    assert 0.1 < np.mean(shares["moving"] == 1) < 0.25
    assert 0 < np.mean(shares["still"] == 1) < 0.09


def test_a_box_outside_the_picture_is_cut() -> None:
    assert box_mask(np.array([-0.5, -0.2, 0.5, 1.4]), 32).mean() == pytest.approx(0.5)
