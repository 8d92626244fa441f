"""Where faces are: BlazeFace (short range), its anchors, and the merging of what overlaps.

Finds faces from about a tenth of the square that it is shown. Numbers are those of Google's Face Landmarker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emo_rt.faces.align import Pixels, Points, Square
from emo_rt.faces.networks import Network

SIDE = 128
"""Pixels of the network's picture."""
GRIDS = ((16, 2), (8, 6))
"""Cells along a side, and anchors in the middle of each cell: 512 + 384 of them."""
KEY_POINTS = 6
"""The person's right eye and left eye, nose, mouth, right ear and left ear."""
MIN_SCORE = 0.5
"""Least probability of a face."""
SAME_FACE = 0.5
"""Boxes with more than this intersection over union are one face. 0.3 puts blendshapes off by up to 0.34."""
LARGEST_LOGIT = 80.0
"""Where logits are cut before the sigmoid."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A place that looks like a face."""

    corners: Points
    """(2, 2): left and top, right and bottom, in pixels of the picture; the box is upright."""
    key_points: Points
    """(6, 2): :data:`KEY_POINTS`, in pixels of the picture."""
    score: float
    """Probability, 0 … 1."""


def detect(network: Network, picture: Pixels, square: Square | None = None) -> list[Detection]:
    """Faces in an upright square of the picture (default: around all of it), most probable first.

    ``network``: the one called ``detector``.
    """
    square = square or Square.letterbox(picture.width, picture.height)
    outputs = network((square.sample(picture, SIDE) / 127.5 - 1)[None].astype(np.float32))
    logits = outputs["logits"].reshape(-1).astype(np.float64)
    scores = 1 / (1 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)))
    likely = np.flatnonzero(scores >= MIN_SCORE)
    numbers = outputs["boxes"].reshape(-1, 4 + 2 * KEY_POINTS).astype(np.float64)[likely] / SIDE
    points = _points(numbers, ANCHORS[likely])
    merged = merge(points, scores[likely])
    return [_detection(square, points, score) for points, score in merged]


def _points(numbers: Points, anchors: Points) -> Points:
    """(n, 16) centre, size and key points, measured from the anchors → (n, 2 + 6, 2) corners and key points."""
    pairs = numbers.reshape(-1, 2 + KEY_POINTS, 2)
    centres, halves = pairs[:, 0] + anchors, pairs[:, 1] / 2
    corners = np.stack([centres - halves, centres + halves], axis=1)
    return np.concatenate([corners, pairs[:, 2:] + anchors[:, None]], axis=1)


def _detection(square: Square, points: Points, score: float) -> Detection:
    placed = square.outward(points)
    return Detection(placed[:2], placed[2:], score)


def anchors() -> Points:
    """(896, 2): the middles of the cells, as shares of the square."""
    parts = []
    for cells, each in GRIDS:
        middles = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        parts.append(np.repeat(grid, each, axis=0))
    return np.concatenate(parts)


ANCHORS = anchors()


def merge(points: Points, scores: Points) -> list[tuple[Points, float]]:
    """Weighted non-maximum suppression: one face is the mean of all boxes that overlap its best, weighted by score.

    ``points``: (n, 8, 2), the first two are corners. Returns points (8, 2) and the best score of each face, best first.
    """
    waiting = np.argsort(-scores, kind="stable")
    faces = []
    while len(waiting):
        best = waiting[0]
        same = overlaps(points[best, :2], points[waiting, :2]) > SAME_FACE
        same[0] = True  # also an empty box is its own face
        group = waiting[same]
        faces.append((np.average(points[group], axis=0, weights=scores[group]), float(scores[best])))
        waiting = waiting[~same]
    return faces


def overlaps(corners: Points, others: Points) -> Points:
    """Intersection over union of one box (2, 2) with each of (n, 2, 2): (n,)."""
    start, end = np.maximum(corners[0], others[:, 0]), np.minimum(corners[1], others[:, 1])
    shared = np.maximum(end - start, 0).prod(axis=1)
    whole = (corners[1] - corners[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - shared
    ratio: Points = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return ratio
