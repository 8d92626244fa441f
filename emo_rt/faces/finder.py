"""All faces of a picture, or of a video's frames, with landmarks, expression and pose."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from emo_rt.faces.align import Pixels, Points, Square
from emo_rt.faces.blendshapes import read_blendshapes
from emo_rt.faces.detector import Detection, detect, overlaps
from emo_rt.faces.landmarks import (
    MIN_PRESENCE,
    Landmarks,
    crop_of_detection,
    crop_of_landmarks,
    depth_stretch,
    read_landmarks,
)
from emo_rt.faces.networks import Network, find_runtime, open_network
from emo_rt.faces.pose import head_pose
from emo_rt.faces.tiles import levels
from emo_rt.media.box import Box
from emo_rt.media.face import Face

MESH_POINTS = 468
"""Landmarks of the skin; those of the irises follow."""
SAME_FACE = 0.5
"""Landmarks whose boxes have more than this intersection over union are those of one face."""
SURE_SCORE, SURE_PRESENCE = 0.7, 0.9
"""What a face that only the second look finds must reach: more places are looked at, so more look like a face."""
SURE_LEVELS = 2
"""Sizes of tiles that are looked at in any case: half and a quarter of the picture."""
CONFIRMING_SIDE = 4.0
"""Side of the square in which it must be found once more, in longer sides of its box."""


class FaceFinder:
    """The three networks, opened when first needed. Safe to share between threads."""

    def __init__(self, runtime: str | None = None) -> None:
        """``runtime``: ``onnxruntime`` or ``openvino``; ``None`` = the one that is here.

        Raises :class:`MissingDependencyError` where neither is.
        """
        self.runtime = find_runtime() if runtime is None else runtime
        self._networks: dict[str, Network] = {}
        self._opening = threading.Lock()

    def find(self, picture: NDArray[np.uint8], *, small: bool = True) -> list[Face]:
        """All faces, the largest first. ``picture``: (H, W, 3) uint8 RGB, upright.

        Those that fill a tenth of the picture's longer side are found as Google's Face Landmarker finds them.
        ``small``: look a second time in overlapping tiles, for those that fill less.
        """
        pixels = Pixels(picture)
        found = self.first_look(pixels)
        if small:
            self._second_look(pixels, found)
        faces = [self.face(pixels, landmarks) for landmarks in found]
        return sorted(faces, key=lambda face: face.box.area, reverse=True)

    def detect(self, picture: NDArray[np.uint8]) -> list[Box]:
        """Boxes of all faces, the largest first: the protocol :class:`FaceDetector`."""
        return [face.box for face in self.find(picture)]

    def follow(self, frames: Iterable[NDArray[np.uint8]], faces: int = 1) -> Iterator[list[Face]]:
        """The faces of each frame of a video: each is looked for where it was before.

        ``faces``: how many to follow, the largest at first. A lost one moves those behind it up, a new one comes last.
        The detector runs again only while there are fewer. Frames: (H, W, 3) uint8 RGB.
        """
        crops: list[Square] = []
        for frame in frames:
            pixels = Pixels(frame)
            found = self._present(pixels, crops)
            if len(found) < faces:
                found = _distinct([*found, *sorted(self.first_look(pixels), key=_size, reverse=True)])[:faces]
            crops = [crop_of_landmarks(landmarks.points) for landmarks in found]
            yield [self.face(pixels, landmarks) for landmarks in found]

    def first_look(self, pixels: Pixels) -> list[Landmarks]:
        """Google's own pipeline: the detector on the whole picture, landmarks for each detection."""
        detections = detect(self._network("detector"), pixels)
        return self._present(pixels, [crop_of_detection(each) for each in detections])

    def face(self, pixels: Pixels, found: Landmarks) -> Face:
        """Expression and pose added to landmarks."""
        scores = read_blendshapes(self._network("blendshapes"), found.points)
        reported = found.points * [1, 1, depth_stretch(found.crop, pixels.width, pixels.height)]
        return Face(mesh_box(found.points), found.presence, reported, scores, head_pose(found.points))

    def _present(self, pixels: Pixels, crops: Iterable[Square]) -> list[Landmarks]:
        """The faces in the crops; two crops may show the same one."""
        every = [read_landmarks(self._network("landmarks"), pixels, crop) for crop in crops]
        return _distinct([landmarks for landmarks in every if landmarks.presence >= MIN_PRESENCE])

    def _second_look(self, pixels: Pixels, found: list[Landmarks]) -> None:
        """Add the faces that only tiles show. The smaller ones, four times as many each, only while that pays."""
        for level, squares in enumerate(levels(pixels.width, pixels.height)):
            before = len(found)
            for square in squares:
                self._look_at(pixels, square, found)
            if found and len(found) == before and level + 1 >= SURE_LEVELS:
                return

    def _look_at(self, pixels: Pixels, square: Square, found: list[Landmarks]) -> None:
        """Add the faces that the detector finds in one square."""
        for detection in detect(self._network("detector"), pixels, square):
            if any(_holds(landmarks.corners, detection) for landmarks in found):
                continue
            sure = self._confirmed(pixels, detection)
            if sure is not None and not _is_among(sure, found):
                found.append(sure)

    def _confirmed(self, pixels: Pixels, first: Detection) -> Landmarks | None:
        """The landmarks of a face that is found once more in a square of its own."""
        (x, y), side = first.corners.mean(axis=0).tolist(), float(np.ptp(first.corners, axis=0).max())
        again = detect(self._network("detector"), pixels, Square(x, y, CONFIRMING_SIDE * side))
        same = [each for each in again if _holds(first.corners, each)]  # boxes of small faces are rough
        if not same or same[0].score < SURE_SCORE:
            return None
        landmarks = read_landmarks(self._network("landmarks"), pixels, crop_of_detection(same[0]))
        return landmarks if landmarks.presence >= SURE_PRESENCE else None

    def _network(self, name: str) -> Network:
        with self._opening:
            if name not in self._networks:
                self._networks[name] = open_network(name, self.runtime)
            return self._networks[name]


@functools.cache
def default_finder() -> FaceFinder:
    """The one that the process shares. Raises :class:`MissingDependencyError` where nothing can run it."""
    return FaceFinder()


def mesh_box(points: Points) -> Box:
    """Extent of the skin, which the irises never leave."""
    skin = points[:MESH_POINTS, :2]
    (left, top), (right, bottom) = skin.min(axis=0).tolist(), skin.max(axis=0).tolist()
    return Box(left, top, right, bottom)


def _size(landmarks: Landmarks) -> float:
    return mesh_box(landmarks.points).area


def _distinct(every: Sequence[Landmarks]) -> list[Landmarks]:
    """Each face once: the first of those that overlap."""
    kept: list[Landmarks] = []
    for landmarks in every:
        if not _is_among(landmarks, kept):
            kept.append(landmarks)
    return kept


def _is_among(new: Landmarks, known: Iterable[Landmarks]) -> bool:
    return any(overlaps(new.corners, each.corners[None])[0] > SAME_FACE for each in known)


def _holds(corners: Points, detection: Detection) -> bool:
    """Whether the detection's middle lies in the box (2, 2)."""
    middle = detection.corners.mean(axis=0)
    return bool((corners[0] <= middle).all() and (middle <= corners[1]).all())
