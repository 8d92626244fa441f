"""Anchors and the merging of overlapping boxes."""

from __future__ import annotations

import numpy as np
import pytest

from emo_rt.faces.align import Pixels, Square
from emo_rt.faces.detector import ANCHORS, detect, merge, overlaps


def boxes(*sides: tuple[float, float, float, float]) -> np.ndarray:
    """Left, top, right, bottom → (n, 8, 2); all key points lie in the left upper corner."""
    corners = np.array(sides, float).reshape(-1, 2, 2)
    return np.concatenate([corners, np.repeat(corners[:, :1], 6, axis=1)], axis=1)


def test_anchors() -> None:
    assert ANCHORS.shape == (896, 2)
    assert ANCHORS[:4].tolist() == [[0.03125, 0.03125]] * 2 + [[0.09375, 0.03125]] * 2
    assert ANCHORS[512:519].tolist() == [[0.0625, 0.0625]] * 6 + [[0.1875, 0.0625]]
    assert ANCHORS[-1].tolist() == [0.9375, 0.9375]


def test_overlap() -> None:
    corners = boxes((0, 0, 2, 2), (1, 0, 3, 2), (5, 5, 6, 6), (0, 0, 2, 2), (0, 0, 0, 0))[:, :2]
    assert overlaps(corners[0], corners) == pytest.approx([1, 1 / 3, 0, 1, 0])


def test_overlapping_boxes_become_their_weighted_mean() -> None:
    points = boxes((0, 0, 10, 10), (2, 0, 12, 10), (50, 50, 60, 60))
    (far, far_score), (near, near_score) = merge(points, np.array([0.6, 0.9, 0.95]))
    assert (far_score, near_score) == (0.95, 0.9)
    assert far[:2].tolist() == [[50, 50], [60, 60]]
    assert near[:2] == pytest.approx(np.array([[1.2, 0], [11.2, 10]]))
    assert near[2:] == pytest.approx(np.array([[1.2, 0]] * 6))


def test_half_an_overlap_is_two_faces() -> None:
    points = boxes((0, 0, 3, 1), (1, 0, 4, 1))  # intersection over union is exactly 0.5
    assert len(merge(points, np.array([0.9, 0.8]))) == 2


def test_boxes_without_area_do_not_hang() -> None:
    assert len(merge(boxes((1, 1, 1, 1), (1, 1, 1, 1)), np.array([0.9, 0.8]))) == 2


def test_extreme_logits_and_places() -> None:
    """One anchor speaks; its numbers are 128ths of the square, measured from the anchor."""
    logits = np.full((1, 896, 1), -1e9, np.float32)
    logits[0, 512] = 1e9
    numbers = np.zeros((1, 896, 16), np.float32)
    numbers[0, 512, :4] = [0, 0, 64, 32]
    numbers[0, 512, 4:6] = [12.8, -12.8]
    picture = Pixels(np.zeros((100, 200, 3), np.uint8))
    (found,) = detect(lambda _: {"logits": logits, "boxes": numbers}, picture, Square(100, 50, 200))
    assert found.score == 1
    assert found.corners == pytest.approx(np.array([[-37.5, -62.5], [62.5, -12.5]]))
    assert found.key_points[0] == pytest.approx([32.5, -57.5])
