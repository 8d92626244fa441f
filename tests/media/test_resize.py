"""Resizing squares: equal to Pillow's bicubic filter."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from emo_rt.media.resize import SquareResizer
from tests.media.portraits import waves


def off(square: np.ndarray, side: int) -> np.ndarray:
    """By how much each pixel differs from Pillow's."""
    expected = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
    found = SquareResizer(len(square), side)(square)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    return np.abs(found.astype(int) - expected)


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "side"), [(64, 20), (64, 63), (64, 64), (97, 11)])
def test_what_is_not_enlarged_is_equal(size: int, side: int) -> None:
    assert not off(noise(size), side).any()


@pytest.mark.parametrize(("size", "side"), [(64, 65), (64, 100), (64, 512), (97, 300), (33, 1001), (256, 700)])
def test_smooth_pictures_are_equal_within_1(size: int, side: int) -> None:
    """Of 255, but for 1 pixel in 5,000, which two roundings take to 2."""
    difference = off(waves(size, size), side)
    assert (difference > 1).mean() < 2e-4
    assert difference.max() <= 2


@pytest.mark.parametrize(("size", "side"), [(64, 100), (64, 512), (128, 700)])
def test_white_noise_is_the_worst_case(size: int, side: int) -> None:
    """swscale's steps of 1/65536 pixel add up to 0.01 pixel, where neighbours differ by up to 255."""
    inside = slice(side // 16, -(side // 16))  # without the edge, where swscale repeats pixels
    difference = off(noise(size), side)
    assert difference[inside, inside].max() <= 8
    assert difference.mean() < 0.5


def test_exact_where_steps_are_whole() -> None:
    """Twice as large: 32768/65536 is no rounding."""
    assert not off(noise(64), 128)[4:-4, 4:-4].any()
