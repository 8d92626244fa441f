"""What the helper process loads once, so that no child has to: it would search for it within its limits, each time."""

from __future__ import annotations

from PIL import Image

from emo_rt.serve import decoder

__all__ = ["decoder"]

Image.init()  # all of Pillow's formats: 30 ms of processor time
