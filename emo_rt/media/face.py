"""Where the face is: :class:`Box`, the :class:`FaceDetector` protocol and a detector that works offline.

A face box reaches from the upper forehead to the chin and from cheek to cheek, ears and hair left out: the extent of
MediaPipe's face mesh, with which EMO and Hallo made the face masks of their training data. Detectors of one's own
should return boxes with this meaning, because the framing of :mod:`emo_rt.media.portrait` builds on it.
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import FaceNotFoundError, MissingDependencyError, PortraitError

__all__ = ["Box", "CascadeDetector", "FaceBox", "FaceDetector", "default_detector", "locate_face", "parse_face_box"]

FaceBox: TypeAlias = "Box | Literal['full']"
"""A box in pixels of the upright picture, or ``full``: look for no face, animate the largest centred square."""

logger = logging.getLogger(__name__)

MIN_FACE = 8
"""Smallest width and height of a face, in pixels."""
OVERRIDE = "give the face's place with face_box / --face-box left,top,right,bottom (pixels), or 'full'"
"""What a user can do when no face was found or no detector is installed; part of the error messages."""


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
        if not all(math.isfinite(side) for side in astuple(self)):
            raise PortraitError(f"box {self} has a side that is not a finite number; expected pixels")
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


class FaceDetector(Protocol):
    """What :func:`emo_rt.media.portrait.prepare_portrait` needs in order to find faces."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Box]:
        """Face boxes (upper forehead to chin, cheek to cheek), best first, in pixels of ``picture``.

        ``picture``: (H, W, 3) uint8 RGB. No face gives an empty list.
        """
        ...


def default_detector() -> FaceDetector:
    """The detector that ships with the extra ``emo_rt[face]``: :class:`CascadeDetector`.

    Raises :class:`MissingDependencyError` where the extra is not installed.
    """
    return CascadeDetector()


def parse_face_box(text: str) -> FaceBox:
    """``full`` or ``left,top,right,bottom``, as given on a command line. Raises :class:`PortraitError`."""
    return "full" if text.strip() == "full" else Box.parse(text)


def locate_face(picture: NDArray[np.uint8], given: Box | None, detector: FaceDetector | None) -> Box:
    """The ``given`` box, or else the largest face that ``detector`` finds (:func:`default_detector` if none is given).

    ``picture``: (H, W, 3) uint8 RGB, upright. The result lies inside it and has 8x8 pixels at least.
    Raises :class:`PortraitError` if the given box does not, :class:`FaceNotFoundError` if no face is found,
    :class:`MissingDependencyError` if a detector is needed and not installed.
    """
    size = f"{picture.shape[1]}x{picture.shape[0]}"
    if given is None:
        faces = _inside((detector or default_detector()).detect(picture), picture)
        if not faces:
            raise FaceNotFoundError(f"no face found in the picture of {size} pixels; {OVERRIDE}")
    else:
        faces = _inside([given], picture)
        if not faces:
            raise PortraitError(
                f"face box {given} has less than {MIN_FACE}x{MIN_FACE} pixels inside the picture of {size}; "
                "expected left,top,right,bottom in pixels of the upright picture"
            )
    largest = max(faces, key=lambda face: face.width * face.height)
    if len(faces) > 1:
        logger.info("%d faces found; animating the largest, %s (face_box chooses another)", len(faces), largest)
    return largest


def _inside(boxes: list[Box], picture: NDArray[np.uint8]) -> list[Box]:
    """The parts inside the picture that are large enough for a face."""
    height, width = picture.shape[:2]
    overlapping = [box for box in boxes if box.left < width and box.top < height and min(box.right, box.bottom) > 0]
    clipped = [box.clipped(width, height) for box in overlapping]
    return [box for box in clipped if min(box.width, box.height) >= MIN_FACE]


class _Pass(NamedTuple):
    """One search of the whole picture."""

    side: int
    """The picture's longest side is limited to this, in pixels."""
    tilt: int
    """The picture is turned by this many degrees first."""
    votes: int
    """Overlapping hits that make a face. The usual 5 gives false alarms in tilted or large pictures."""


# Upright faces first; the rest runs only when nothing was found: heads tilted to either side, then small faces.
_PASSES = (_Pass(640, 0, 5), _Pass(640, 18, 8), _Pass(640, -18, 8), _Pass(1600, 0, 8))
_SMALLEST_FACE = 20
"""Side of the cascade's training window, in pixels."""
_SMALLEST_SIDE = 320
"""Smaller pictures are enlarged to this, in pixels, so that their faces fill the window."""
_STEP = 1.1
"""Ratio of neighbouring face sizes in a search."""
_FACE_IN_HIT = Box(0.06, 0.0, 0.94, 1.03)
"""The face box in a hit of the cascade (a square, side 1) that holds a bit of either ear and ends above the chin."""


class CascadeDetector:
    """Faces by OpenCV 4's Haar cascade ``frontalface_alt``: offline, on the CPU, in a fraction of a second.

    Finds faces that look at the camera, tilted by up to some 25°; not profiles and not faces that are upside down.
    Boxes come largest first. Safe to share between threads. Raises :class:`MissingDependencyError` where OpenCV is not
    installed or has no cascades (OpenCV 5 dropped them).
    """

    def __init__(self) -> None:
        self._cv2 = _import_opencv()
        path = Path(self._cv2.data.haarcascades) / "haarcascade_frontalface_alt.xml"
        self._cascade = self._cv2.CascadeClassifier(str(path))
        self._lock = threading.Lock()  # a cv2.CascadeClassifier keeps state during a search
        if self._cascade.empty():
            raise MissingDependencyError(f"OpenCV's face cascade {path.name} cannot be read; {_INSTALL}, or {OVERRIDE}")

    def detect(self, picture: NDArray[np.uint8]) -> list[Box]:
        """Face boxes, largest first. ``picture``: (H, W, 3) uint8 RGB."""
        grey = self._cv2.cvtColor(np.ascontiguousarray(picture), self._cv2.COLOR_RGB2GRAY)
        for search in _PASSES:
            hits = self._search(grey, search)
            if hits:
                return sorted(hits, key=lambda box: box.width, reverse=True)
        return []

    def _search(self, grey: NDArray[np.uint8], search: _Pass) -> list[Box]:
        scale = min(max(1.0, _SMALLEST_SIDE / max(grey.shape)), search.side / max(grey.shape))
        scaled = self._normalised(grey, scale)
        height, width = scaled.shape
        turn = self._cv2.getRotationMatrix2D((width / 2, height / 2), search.tilt, 1.0)
        if search.tilt:
            scaled = self._cv2.warpAffine(scaled, turn, (width, height), borderMode=self._cv2.BORDER_REPLICATE)
        smallest = (_SMALLEST_FACE, _SMALLEST_FACE)
        with self._lock:
            hits = self._cascade.detectMultiScale(scaled, _STEP, search.votes, 0, smallest)
        back = self._cv2.invertAffineTransform(turn)
        boxes = [_face_of_hit(back, *(float(number) for number in hit)) for hit in hits]
        return [box.scaled(1 / scale) for box in boxes]

    def _normalised(self, grey: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        """Resized, with local contrast evened out: dark and washed-out faces look like any other."""
        size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
        method = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_CUBIC
        resized = grey if scale == 1 else self._cv2.resize(grey, size, interpolation=method)
        even: NDArray[np.uint8] = self._cv2.createCLAHE(2.0, (8, 8)).apply(resized)
        return even


def _face_of_hit(back: NDArray[np.float64], left: float, top: float, side: float, _: float) -> Box:
    """The upright face box of a hit in the turned picture; ``back``: (2, 3), turned → upright pixels."""
    x, y = back @ (left + side / 2, top + side / 2, 1.0)
    return _FACE_IN_HIT.scaled(side).shifted(float(x) - side / 2, float(y) - side / 2)


_INSTALL = "install the extra: pip install 'emo_rt[face]'"


def _import_opencv() -> Any:
    """The module ``cv2``, with cascades."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as exc:
        raise MissingDependencyError(f"finding faces needs OpenCV 4; {_INSTALL}, or {OVERRIDE}") from exc
    if not hasattr(cv2, "CascadeClassifier"):
        raise MissingDependencyError(
            f"finding faces needs OpenCV 4, but {cv2.__version__} is installed; {_INSTALL}, or {OVERRIDE}"
        )
    return cv2
