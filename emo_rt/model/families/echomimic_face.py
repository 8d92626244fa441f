"""EchoMimic's face box, mask and crop, from the extent of the face mesh.

EchoMimic v1 finds faces with MTCNN (in a picture whose red and blue are swapped). Its box reaches higher than the mesh
and not quite down to the chin. The shares here are the means over seven faces of four photographs, on which MTCNN's own
boxes scatter by 5 % of a side around them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.box import Box
from emo_rt.model.families.hallo_masks import resized

IN_MESH_BOX = Box(0.015, -0.08, 0.965, 0.96)
"""Where MTCNN's box lies in the mesh's, with sides 1."""
MASK_GROWTH = 0.1
"""Share of the box's sides that the mask reaches beyond it, each way."""
CROP_GROWTH = 0.5
"""Share of the detector's box's sides that the crop reaches beyond that box, each way; not beyond the mask."""


def detector_box(mesh: Box) -> Box:
    """The box that MTCNN would give, in whole pixels."""
    shares = IN_MESH_BOX.scaled(mesh.width, mesh.height).shifted(mesh.left, mesh.top)
    return Box(round(shares.left), round(shares.top), round(shares.right), round(shares.bottom))


def grown(box: Box, share: float) -> Box:
    """Whole pixels are added on each side, rounded down."""
    across, down = math.floor(share * box.width), math.floor(share * box.height)
    return Box(box.left - across, box.top - down, box.right + across, box.bottom + down)


def face_mask(mesh: Box, width: int, height: int) -> NDArray[np.uint8]:
    """The mask of the whole picture: (height, width), 255 in the grown box, else 0.

    At the picture's border the box is cut. The original's slice would start below 0 there, and its mask be empty.
    """
    inside = grown(detector_box(mesh), MASK_GROWTH).clipped(width, height)
    mask = np.zeros((height, width), np.uint8)
    mask[int(inside.top) : int(inside.bottom), int(inside.left) : int(inside.right)] = 255
    return mask


def crop_box(mesh: Box, width: int, height: int) -> Box:
    """The square that is animated, whole pixels: the detector's box with room around it, cut to the picture, then to a
    square with its shorter side around its middle."""
    wide = grown(detector_box(mesh), CROP_GROWTH).clipped(width, height)
    side = min(wide.width, wide.height)
    left = wide.left + (wide.width - side) // 2
    top = wide.top + (wide.height - side) // 2
    return Box(left, top, left + side, top + side)


def square_mask(mesh: Box, crop: Box, picture: tuple[int, int], size: int) -> NDArray[np.float32]:
    """The part of :func:`face_mask` in a square of the picture, as the network takes it: (size, size) float32, 0 … 1.

    Resized linearly without averaging: its edges are soft. ``picture``: width and height. What lies outside of the
    picture is 0.
    """
    inside = face_mask(mesh, *picture)
    rows, columns = inside.max(axis=1) / 255, inside.max(axis=0) / 255
    down = _part(rows, int(crop.top), int(crop.bottom))
    across = _part(columns, int(crop.left), int(crop.right))
    return np.outer(resized(down, size), resized(across, size)).astype(np.float32)


def _part(profile: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    places = np.arange(start, stop)
    known = (places >= 0) & (places < len(profile))
    return np.where(known, profile[places.clip(0, len(profile) - 1)], 0.0)
