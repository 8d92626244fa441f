"""Upright rectangles in a picture, and how a command line writes them."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal, TypeAlias

from emo_rt.checks import is_finite
from emo_rt.errors import PortraitError


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels; pixel (x, y) covers x … x+1 and y … y+1. May reach beyond the picture.

    Raises :class:`PortraitError` if a side is not finite, or right ≤ left or bottom ≤ top.
    """

    left: float
    """First column."""
    top: float
    """First row."""
    right: float
    """Column after the last."""
    bottom: float
    """Row after the last."""

    def __post_init__(self) -> None:
        if not all(is_finite(side) for side in astuple(self)):
            raise PortraitError(
                f"box {str(astuple(self))[:200]} has a side that is not a finite number; expected pixels"
            )
        if self.right <= self.left or self.bottom <= self.top:
            raise PortraitError(f"box {self} is empty; expected left < right and top < bottom, in pixels")

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read ``left,top,right,bottom``, as given on a command line. Raises :class:`PortraitError`."""
        try:
            left, top, right, bottom = (float(part) for part in text.split(","))
        except ValueError as exc:
            raise PortraitError(
                f"face box {text!r} cannot be read; expected left,top,right,bottom in pixels, like 412,172,612,352"
            ) from exc
        return cls(left, top, right, bottom)

    @property
    def width(self) -> float:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle, in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def scaled(self, across: float, down: float | None = None) -> Box:
        """The same place in a picture that is ``across`` times as wide and ``down`` (default: ``across``) as high."""
        down = across if down is None else down
        return Box(self.left * across, self.top * down, self.right * across, self.bottom * down)

    def widened(self, margin: float) -> Box:
        """With ``margin`` of its width and height added to each side."""
        across, down = margin * self.width, margin * self.height
        return Box(self.left - across, self.top - down, self.right + across, self.bottom + down)

    def shifted(self, right: float, down: float) -> Box:
        """Moved by that many pixels."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def clipped(self, width: float, height: float) -> Box:
        """The part inside a picture of that size. Raises :class:`PortraitError` if there is none."""
        return Box(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))

    def __str__(self) -> str:
        return ",".join(f"{side:g}" for side in astuple(self))


FaceBox: TypeAlias = Box | Literal["full"]
"""A box in pixels of the upright picture, or ``full``: look for no face, animate the largest centred square."""


def parse_face_box(text: str) -> FaceBox:
    """``full`` or ``left,top,right,bottom``, as given on a command line. Raises :class:`PortraitError`."""
    return "full" if text.strip() == "full" else Box.parse(text)
