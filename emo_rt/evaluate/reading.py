"""What is read off a video, frame by frame, in one pass: landmarks, expression, pose, pixels, whose face it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.evaluate import pictures
from emo_rt.evaluate.deep3d import Deep3D
from emo_rt.evaluate.footage import Footage, Frame
from emo_rt.evaluate.i3d import I3D, ClipFeatures
from emo_rt.evaluate.identity import Recogniser, Vector
from emo_rt.evaluate.inception import Inception
from emo_rt.evaluate.onnx_network import NetworkFile
from emo_rt.evaluate.sound import loudness, silences
from emo_rt.evaluate.syncnet import SyncNet, face_crops
from emo_rt.faces import FaceFinder
from emo_rt.media.face import Face

Floats = NDArray[np.float64]

LOOKS_PER_S = 5.0
"""How often a face is recognised: it changes slowly, and the network is the most expensive part."""
UPPER_LIP, LOWER_LIP = 13, 14
"""Inner edge of the lips, in the middle."""
RIGHT_EYE, LEFT_EYE = 33, 263
"""Outer corners of the eyes."""
RIGID = (33, 133, 362, 263, 168, 6, 197, 4)
"""Points that move with the skull alone: corners of the eyes, and the ridge of the nose."""
LIDS = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
"""Six points per eye of the eye aspect ratio (Soukupová and Čech 2016), in that paper's order."""
FACE_ROOM = 0.1
"""Cells this share of the face's box beyond it count as face."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A video as curves. T frames; NaN where no face was found."""

    name: str
    """Of the video."""
    fps: float
    """Frames per second."""
    size: tuple[int, int]
    """Height and width of the frames."""
    landmarks: NDArray[np.float32]
    """(T, 478, 3) in pixels."""
    blendshapes: NDArray[np.float32]
    """(T, 51): all coefficients but ``_neutral``."""
    angles: Floats
    """(T, 3) yaw, pitch, roll in degrees."""
    sharpness: Floats
    """(T,) see :func:`emo_rt.evaluate.pictures.sharpness`."""
    face_change: Floats
    """(T,) mean change of luma inside the face's cells since the frame before, 0 … 255; NaN in the first."""
    cell_change: NDArray[np.float32]
    """(T, cells, cells) mean change of luma since the frame before; NaN in the first."""
    face_cells: NDArray[np.bool_]
    """(cells, cells) where the face was at any time."""
    embeddings: Mapping[str, Floats]
    """By recogniser, (T, d): NaN in frames that were not looked at."""
    inception: Floats | None
    """(T, d) features of whole frames, where there is a network for them."""
    clips: Floats | None
    """(n, 400) features of short clips, where there is a network for them."""
    coefficients: Floats | None
    """(T, 64) expression coefficients of a 3D face model, where there is a network for them."""
    sync: Floats | None
    """(windows, 31) SyncNet's distances by shift of the sound, where there is that network and a sound."""
    loudness: Floats | None
    """(T,) 0 … 1, where there is a sound."""
    video_s: float
    """Length of the picture."""
    audio_s: float | None
    """Length of the sound track."""

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) where there is a face."""
        return np.isfinite(self.sharpness)

    @property
    def eye_distance(self) -> Floats:
        """(T,) between the outer corners of the eyes, in space, in pixels: the unit of length."""
        return _length(self.landmarks[:, RIGHT_EYE] - self.landmarks[:, LEFT_EYE])

    @property
    def opening(self) -> Floats:
        """(T,) gap between the lips in eye distances."""
        return np.asarray(
            _length((self.landmarks[:, UPPER_LIP] - self.landmarks[:, LOWER_LIP])[:, :2]) / self.eye_distance
        )

    @property
    def rigid(self) -> Floats:
        """(T, n, 2) points of the skull in eye distances; the video's mean distance, so that its own noise is out."""
        known = self.eye_distance[self.found]
        unit = known.mean() if len(known) else np.nan
        return np.asarray(self.landmarks[:, list(RIGID), :2] / unit, np.float64)

    @property
    def eye_opening(self) -> Floats:
        """(T,) eye aspect ratio, mean of both eyes."""
        ratios = []
        for points in LIDS:
            p = self.landmarks[:, list(points), :2]
            upright = _length(p[:, 1] - p[:, 5]) + _length(p[:, 2] - p[:, 4])
            ratios.append(upright / (2 * _length(p[:, 0] - p[:, 3])))
        return np.asarray(np.mean(ratios, axis=0))

    @property
    def silent(self) -> NDArray[np.bool_] | None:
        """(T,) frames well inside a silence."""
        return None if self.loudness is None else silences(self.loudness)


def _length(vectors: NDArray[Any]) -> Floats:
    return np.asarray(np.linalg.norm(vectors.astype(np.float64), axis=-1))


@dataclass(frozen=True)
class Networks:
    """What looks at a video besides the built-in face networks."""

    recognisers: Mapping[str, Recogniser] = field(default_factory=dict)
    inception: Inception | None = None
    i3d: I3D | None = None
    deep3d: Deep3D | None = None
    syncnet: SyncNet | None = None

    @property
    def files(self) -> list[NetworkFile]:
        """Those that are there, with their hashes."""
        more = (self.inception, self.i3d, self.deep3d, self.syncnet)
        return [one.network for one in (*self.recognisers.values(), *more) if one is not None]


@dataclass
class Notes:
    """What is gathered while the frames pass."""

    networks: Networks
    every: int
    """Frames from one look at the identity to the next."""
    clips: ClipFeatures | None = None
    coefficients: list[Vector | None] = field(default_factory=list)
    features: list[Vector] = field(default_factory=list)
    faces: list[Face | None] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    changes: list[NDArray[np.float32]] = field(default_factory=list)
    cells: list[NDArray[np.bool_]] = field(default_factory=list)
    embeddings: dict[str, dict[int, Vector]] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    _before: pictures.Luma | None = None

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """Take one frame. Raises :class:`InputError` where its size is not that of the others."""
        height, width = frame.shape[:2]
        if self.size not in (None, (height, width)):
            raise InputError(f"a video changes from {self.size} to {(height, width)} pixels; expected one size")
        self.size = (height, width)
        face = faces[0] if faces else None
        self._look(frame, face)
        grey = pictures.luma(frame)
        changed = np.full_like(grey, np.nan) if self._before is None else np.abs(grey - self._before)
        self._before = grey
        self.changes.append(pictures.cell_means(changed))
        nothing = np.zeros((pictures.CELLS, pictures.CELLS), bool)
        self.cells.append(nothing if face is None else pictures.cells_of(face.box, height, width))
        self.sharpness.append(np.nan if face is None else pictures.sharpness(frame, face.box))
        if face is not None and len(self.faces) % self.every == 0:
            for name, recogniser in self.networks.recognisers.items():
                self.embeddings.setdefault(name, {})[len(self.faces)] = recogniser.embed(frame, face.landmarks)
        self.faces.append(face)

    def _look(self, frame: Frame, face: Face | None) -> None:
        """By the networks that the user has named."""
        if self.networks.inception is not None:
            self.features.append(self.networks.inception.features(frame))
        if self.clips is not None:
            self.clips.add(frame)
        if self.networks.deep3d is not None:
            seen = None if face is None else self.networks.deep3d.expression(frame, face.landmarks)
            self.coefficients.append(seen)


def read(footage: Footage, finder: FaceFinder, networks: Networks | None = None) -> Reading:
    """Look at every frame of a video once, and once more with SyncNet. The largest face of the first frame is followed.

    Raises :class:`InputError` for a video without frames or of changing size.
    """
    networks = networks or Networks()
    clips = None if networks.i3d is None else ClipFeatures(networks.i3d)
    notes = Notes(networks, max(1, round(footage.fps / LOOKS_PER_S)), clips)
    for frame, faces in _followed(footage, finder):
        notes.add(frame, faces)
    if notes.size is None:
        raise InputError(f"{footage.name} has no frame; expected a video")
    return _reading(footage, notes, notes.size)


def _sync(footage: Footage, notes: Notes) -> Floats | None:
    """A second pass: places are smoothed over time, which needs them all."""
    boxes = [None if face is None else face.box for face in notes.faces]
    if notes.networks.syncnet is None or footage.sound is None or not any(boxes):
        return None
    return notes.networks.syncnet.distances(face_crops(footage.frames(), boxes, footage.fps), footage.sound)


def _followed(footage: Footage, finder: FaceFinder) -> Iterator[tuple[Frame, list[Face]]]:
    """Each frame once, with its faces: ``follow`` pulls the frames, so they are kept for a moment."""
    kept: list[Frame] = []

    def passing() -> Iterator[Frame]:
        for frame in footage.frames():
            kept.append(frame)
            yield frame

    for faces in finder.follow(passing()):
        yield kept.pop(), faces


def _reading(footage: Footage, notes: Notes, size: tuple[int, int]) -> Reading:
    count, change, cells = len(notes.faces), np.stack(notes.changes), np.stack(notes.cells)
    weights = cells / np.maximum(cells.sum(axis=(1, 2), keepdims=True), 1)
    in_face = np.where(cells.any(axis=(1, 2)), (change * weights).sum(axis=(1, 2)), np.nan)
    wide = [pictures.cells_of(f.box.widened(FACE_ROOM), *size) for f in notes.faces if f is not None]
    return Reading(
        name=footage.name,
        fps=footage.fps,
        size=size,
        landmarks=_rows([f and f.landmarks for f in notes.faces], (478, 3)).astype(np.float32),
        blendshapes=_rows([f and list(f.blendshapes.values())[1:] for f in notes.faces], (51,)).astype(np.float32),
        angles=_rows([f and (f.pose.yaw, f.pose.pitch, f.pose.roll) for f in notes.faces], (3,)),
        sharpness=np.array(notes.sharpness),
        face_change=np.asarray(in_face, np.float64),
        cell_change=change,
        face_cells=np.any(wide, axis=0) if wide else np.zeros(cells.shape[1:], bool),
        embeddings={name: _scattered(found, count) for name, found in notes.embeddings.items()},
        inception=np.stack(notes.features) if notes.features else None,
        clips=None if notes.clips is None else notes.clips.features,
        coefficients=_rows(notes.coefficients, (64,)) if notes.coefficients else None,
        sync=_sync(footage, notes),
        loudness=None if footage.sound is None else loudness(footage.sound, count, footage.fps),
        video_s=footage.video_s,
        audio_s=footage.audio_s,
    )


def _rows(values: Sequence[Any], shape: tuple[int, ...]) -> Floats:
    """(T, *shape): NaN for ``None``."""
    nothing = np.full(shape, np.nan)
    return np.stack([nothing if value is None else np.asarray(value, np.float64) for value in values])


def _scattered(found: Mapping[int, Vector], count: int) -> Floats:
    rows = np.full((count, len(next(iter(found.values())))), np.nan)
    for index, vector in found.items():
        rows[index] = vector
    return rows
