"""Faces drawn over their picture: boxes with their index, contours and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.media.face import Face
from emo_rt.media.face_mesh import RINGS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

BOX, RING, POINT = (255, 176, 0), (0, 214, 255), (255, 255, 255)
"""Colours: distinct for colour-blind eyes, and against skin."""
LINE = 1 / 150
"""Width of lines, in widths of the face."""
LABEL = 1 / 6
"""Height of the index, in heights of the face."""


def draw_faces(picture: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
    """A copy of the picture (H, W, 3) uint8 RGB with all faces drawn; the index of each is its ``face_index``."""
    from PIL import ImageDraw  # late: `import emo_rt` needs no pen

    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for index, face in enumerate(faces):
        _draw(pen, index, face)
    return np.array(image)


def _draw(pen: Pen, index: int, face: Face) -> None:
    from PIL import ImageFont

    box, flat = face.box, face.landmarks[:, :2]
    width = max(1, round(LINE * box.width))
    for x, y in np.rint(flat).astype(int).tolist():
        pen.rectangle((x, y, x + width - 1, y + width - 1), fill=POINT)
    for ring in RINGS:
        places = [tuple(point) for point in flat[[*ring, ring[0]]].tolist()]
        pen.line(places, fill=RING, width=width, joint="curve")
    pen.rectangle((box.left, box.top, box.right, box.bottom), outline=BOX, width=2 * width)
    height = max(10, round(LABEL * box.height))
    above = box.top - 2 * width >= height  # else inside, so that it is always seen
    corner = (box.left, box.top - 2 * width) if above else (box.left + 4 * width, box.top + 3 * width)
    pen.text(
        corner, str(index), fill=BOX, font=ImageFont.load_default(height), anchor="ld" if above else "la",
        stroke_width=width, stroke_fill=(0, 0, 0),
    )  # fmt: skip
