"""Sampling: whole-number bilinear, no anti-aliasing, no half pixel, black outside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emo_rt.faces.align import Pixels, Square

RNG = np.random.default_rng(0)


def plain(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The four neighbours at a place rounded to a 32nd, one by one, half rounded up."""
    across, down = round(x * 32), round(y * 32)
    total = np.zeros(3)
    for column, row, weight in (
        (across // 32, down // 32, (32 - across % 32) * (32 - down % 32)),
        (across // 32 + 1, down // 32, across % 32 * (32 - down % 32)),
        (across // 32, down // 32 + 1, (32 - across % 32) * (down % 32)),
        (across // 32 + 1, down // 32 + 1, across % 32 * (down % 32)),
    ):
        if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
            total += weight * picture[row, column].astype(float)
    return np.floor(total / 1024 + 0.5)


@pytest.mark.parametrize("turn", [0.0, 0.4, -2.0])
def test_each_pixel_is_its_four_neighbours(turn: float) -> None:
    picture = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    square = Square(30.3, 22.7, 47.0, turn)
    found = square.sample(Pixels(picture), 16)
    for row in range(16):
        for column in range(16):
            right, down = (column / 16 - 0.5) * 47, (row / 16 - 0.5) * 47
            x = 30.3 + math.cos(turn) * right - math.sin(turn) * down
            y = 22.7 + math.sin(turn) * right + math.cos(turn) * down
            assert (found[row, column] == plain(picture, x, y)).all()


def test_the_letterbox_is_not_rounded_and_black() -> None:
    square = Square.letterbox(6, 3)
    assert (square.x, square.y, square.side) == (3, 1.5, 6)
    found = square.sample(Pixels(np.full((3, 6, 3), 200, np.uint8)), 6)
    assert found[:, 0, 0].tolist() == [0, 100, 200, 200, 100, 0]  # the picture lies between rows 1.5 and 4.5


def test_shrinking_averages_nothing() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    found = Square.letterbox(64, 64).sample(Pixels(stripes), 8)
    assert (found == 255).all()


def test_shares_become_pixels() -> None:
    square = Square(10, 20, 4, math.pi / 2)
    found = square.outward(np.array([[0.0, 0.0, 1.0], [1.0, 0.5, -0.5]]))
    assert found == pytest.approx(np.array([[12, 18, 4], [10, 22, -2]]))
