"""Which sizes a video of a picture can have: the model's square, or the whole picture, scaled down."""

from __future__ import annotations

from typing import Any

from emo_rt.serve.errors import ApiError

LARGEST = 1920
"""Longest side of a video, unless ``max_side`` says otherwise."""


def whole_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Size of the video of a whole picture: scaled down to ``max_side`` and cut to even sides."""
    scale = min(1.0, max_side / max(width, height))
    return round(width * scale) // 2 * 2, round(height * scale) // 2 * 2


def options_for(size: tuple[int, int], picture: tuple[int, int], square: int, *, is_fixed: bool) -> dict[str, Any]:
    """The options that give a video of ``size``. Raises :class:`ApiError` where it cannot be had.

    ``is_fixed``: the picture is an avatar's, and was scaled when that was made.
    """
    if size == (square, square):
        return {"paste_back": False}
    if is_fixed and size == picture:
        return {"paste_back": True}
    max_side = max(size)
    for side in (max_side, max_side + 1) if not is_fixed else ():  # an odd side is cut to an even one
        if whole_size(*picture, side) == size:
            return {"paste_back": True, "max_side": side}
    largest = whole_size(*picture, LARGEST)
    less = "" if is_fixed else " or less with the picture's own proportions"
    message = (
        f"size is {size[0]}x{size[1]}; expected {square}x{square}, the model's own, or {largest[0]}x{largest[1]}{less}"
    )
    raise ApiError(400, "invalid_size", message, param="size")


def likely_size(options: dict[str, Any], picture: tuple[int, int], square: int) -> str:
    """What the size will be unless the face fills the picture."""
    if options.get("paste_back") is False:
        return f"{square}x{square}"
    width, height = whole_size(*picture, options.get("max_side", LARGEST))
    return f"{width}x{height}"
