"""What Hallo-style models need of a portrait beside picture and face box: a face embedding and audio masks.

The **embedding** (InsightFace's ArcFace, not normalised) says who it is. The **audio masks** say where the sound acts:
on the whole picture around the face (pose), on the face, on the lips. EMO's own models need neither.

Boxes, constants and their order are those of Hallo's ``hallo/utils/util.py`` and ``hallo/datasets/image_processor.py``.
Coordinates of points and boxes are pixels, (x, y); "the square" is the part that is animated, at the model's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emo_rt.errors import InputError, PortraitError
from emo_rt.media.box import Box
from emo_rt.media.face_mesh import FACE_OVAL, OUTER_LIPS
from emo_rt.media.framing import Portrait
from emo_rt.media.picture import load_picture
from emo_rt.media.untrusted import NUMBERS, open_file
from emo_rt.model.aligned_face import ARCFACE_SIZE, ARCFACE_TEMPLATE, Similarity, five_points
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import AUDIO_REGIONS, Array, sites
from emo_rt.model.families.hallo_masks import blurred_map, profiles
from emo_rt.model.users_network import UsersNetwork
from emo_rt.schema.compound import Several
from emo_rt.schema.option import Outside

__all__ = ["FaceInputs", "face_inputs"]

FileOrArray: TypeAlias = str | Path | Array
"""A file, or what would be in it."""

MESH_SIZES = (468, 478)
"""Points of a face mesh, without and with irises."""

FACE_EXPANSION, LIPS_EXPANSION = 1.2, 2.0
"""The regions of the masks are so many times as wide and high as the boxes of silhouette and lips."""
LIPS_IN_FACE = Box(0.31, 0.675, 0.69, 0.815)
"""Where the lips are assumed without landmarks, in a face box with sides 1: the mean of five upright faces."""
FACE_KERNEL, LIPS_KERNEL = 51, 31
"""Sides of the Gaussian kernels, in pixels of the maps."""

EMBEDDING_HELP = (
    "give the face embedding as embedding=… / --face-embedding FILE.npy, a face-recognition model that computes it as "
    "embedding_model=… / --embedding-model glintr100.onnx, or do without: no_embedding=True / --no-face-embedding"
)
"""What a user can do when a model needs an embedding; part of the error messages."""


@dataclass(frozen=True, eq=False)
class FaceInputs:
    """What is known about a face, for models that take it (Hallo). Such models need one of the first three fields."""

    embedding: Annotated[FileOrArray | None, Outside("face_embedding", "FILE.npy")] = None
    """Embedding of the face, made by a recognition model. ``None`` = none.

    As that model gives it, not normalised: (E,) numbers or a ``.npy`` file of them."""
    embedding_model: Annotated[str | Path | None, Outside(placeholder="FILE.onnx")] = None
    """Recognition model that computes the embedding, like InsightFace's glintr100.onnx. Brings a licence of its own.
    ``None`` = none.

    Or ``w600k_r50.onnx``: (1, 3, 112, 112) float32 RGB in −1 … 1 → (1, E). Opened anew for each portrait."""
    no_embedding: Annotated[bool, Outside("no_face_embedding")] = False
    """Do without an embedding, at the cost of likeness.

    Zeros in its place: what Hallo does when it finds no face."""
    masks: Annotated[tuple[FileOrArray, FileOrArray, FileOrArray] | None, Several(("full", "face", "lip"))] = None
    """Three square pictures of where the sound acts, white = fully. ``None`` = made from the landmarks.

    On pose, face and lips: pictures of the animated square, of any size. Hallo's ``*_sep_background.png``,
    ``*_sep_face.png``, ``*_sep_lip.png``."""
    landmarks: Annotated[FileOrArray | None, Outside(placeholder="FILE.npy")] = None
    """MediaPipe face mesh, (468 or 478, 2) pixels of the upright picture. ``None`` = found, or estimated from a face
    box.

    Numbers, or a ``.npy`` file of them. What the built-in networks find; where the face's place is given instead, masks
    and alignment are estimated from its box."""

    def __post_init__(self) -> None:
        named = [name for name in _EMBEDDINGS if self.has(name)]
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} are given; expected one of {', '.join(_EMBEDDINGS)}")

    def has(self, name: str) -> bool:
        """Whether the field of that name says something."""
        value = getattr(self, name)
        return value is not None and value is not False

    def scaled(self, across: float, down: float) -> FaceInputs:
        """Of the same face in a picture that is ``across`` times as wide and ``down`` times as high.

        Raises :class:`InputError` for landmarks that cannot be used.
        """
        if self.landmarks is None or across == down == 1:
            return self
        return replace(self, landmarks=_mesh(self.landmarks) * (across, down))

    def silhouette(self) -> Box | None:
        """Box of the face's silhouette in pixels of the upright picture, if landmarks are given.

        Raises :class:`InputError` for landmarks that cannot be used.
        """
        return None if self.landmarks is None else _box_around(_mesh(self.landmarks)[list(FACE_OVAL)])


_EMBEDDINGS = ("embedding", "embedding_model", "no_embedding")
"""Fields of :class:`FaceInputs` that exclude each other."""


def face_inputs(
    portrait: Portrait, config: ModelConfig, given: FaceInputs | None = None, original: Array | None = None
) -> dict[str, Array]:
    """The portrait's inputs beside the picture, by tensor name, all float32.

    ``face_mask``: (1, channels, size, size), 1 in the face's box, expanded by 1.2. ``face_embedding``: (1, E).
    ``audio_mask.{level}``: (3, h·w) in 0 … 1, rows full, face, lip. ``original``: (H, W, 3), the upright picture that
    ``portrait`` was made of (default: its ``picture``).

    Raises :class:`InputError` where something is missing or cannot be used, and :class:`MissingDependencyError` where
    an embedding model is given and ONNX Runtime is not installed.
    """
    given = FaceInputs() if given is None else given
    if not any(given.has(name) for name in _EMBEDDINGS):
        raise InputError(f"the model {config.name} needs to know whose face it is; {EMBEDDING_HELP}")
    frame = _frame(portrait, portrait.picture if original is None else original)
    points = None if given.landmarks is None else _mesh(given.landmarks)
    regions = _regions(portrait, frame, points)
    maps = _region_maps(regions) if given.masks is None else _given_maps(given.masks)
    embedding = _embedding(portrait, frame, points, given, config.reference.face_embedding_dim)
    return {"face_mask": _face_mask(regions, config), "face_embedding": embedding, **_audio_masks(maps, config)}


def expanded_mask(portrait: Portrait, config: ModelConfig) -> Array:
    """``face_mask`` alone, from the portrait's face box."""
    return _face_mask(_regions(portrait, _frame(portrait, portrait.picture), None), config)


def refuse_all(given: FaceInputs, name: str) -> None:
    """Raise :class:`InputError` if anything is given. ``name``: of a model that takes nothing of it."""
    useless = [field.name for field in fields(FaceInputs) if given.has(field.name)]
    if useless:
        raise InputError(f"the model {name} takes no {', no '.join(useless)}: leave it out; Hallo models do")


def _face_mask(regions: _Regions, config: ModelConfig) -> Array:
    mask = np.outer(*profiles(regions.face, config.size)).astype(np.float32)
    return np.repeat(mask[None, None], config.locator.in_channels, axis=1)


# Where things are


class _Frame(NamedTuple):
    """The original picture, and where its points are in the square: at (x · zoom − left, y · zoom − top)."""

    original: NDArray[np.uint8]
    zoom: float
    left: float
    top: float


class _Regions(NamedTuple):
    """Expanded boxes in the square, in whole pixels, and the square's side."""

    face: Box
    lips: Box
    size: int


def _frame(portrait: Portrait, original: NDArray[np.uint8]) -> _Frame:
    before, after = original.shape[:2], portrait.picture.shape[:2]
    # Sides of 1 pixel less were cut to even numbers, not scaled. The longest side is the one that max_side sets.
    is_cut = all(0 <= old - new <= 1 for old, new in zip(before, after, strict=True))
    limited = 1.0 if is_cut else max(after) / max(before)
    zoom = portrait.pixels.shape[0] / portrait.crop.width
    return _Frame(original, limited * zoom, portrait.crop.left * zoom, portrait.crop.top * zoom)


def _mesh(source: FileOrArray) -> Array:
    """(468 or 478, 2) float64. Raises :class:`InputError`."""
    points = _numbers(source, "landmarks")
    if points.ndim != 2 or points.shape[0] not in MESH_SIZES or points.shape[1] != 2:
        raise InputError(f"landmarks have shape {points.shape}; expected (468, 2) or (478, 2): MediaPipe's face mesh")
    if points.min() >= -1 and points.max() <= 2:
        raise InputError(
            f"landmarks are {points.min():.2f} … {points.max():.2f}, which looks like parts of the picture's sides; "
            "expected pixels: multiply x by its width and y by its height"
        )
    return points


def _box_around(points: Array) -> Box:
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return Box(float(left), float(top), float(right), float(bottom))


def _regions(portrait: Portrait, frame: _Frame, points: Array | None) -> _Regions:
    """Boxes of face and lips, from the landmarks or else as usual parts of the portrait's face box."""
    size, face = portrait.pixels.shape[0], portrait.face
    if points is None:
        lips = LIPS_IN_FACE.scaled(face.width, face.height).shifted(face.left, face.top)
    else:
        here = (points * frame.zoom - (frame.left, frame.top)).clip(0, size)
        try:
            face, lips = _box_around(here[list(FACE_OVAL)]), _box_around(here[list(OUTER_LIPS)])
        except PortraitError as exc:
            raise InputError(
                "face or lips of the landmarks lie outside the square that is animated; expected pixels of this picture"
            ) from exc
    return _Regions(_expanded(face, FACE_EXPANSION, size), _expanded(lips, LIPS_EXPANSION, size), size)


def _expanded(box: Box, ratio: float, size: int) -> Box:
    """The box, ``ratio`` times as large around its middle and moved into the square; in whole pixels, as in Hallo."""
    left, right = _expanded_side(round(box.left), round(box.right), ratio, size)
    top, bottom = _expanded_side(round(box.top), round(box.bottom), ratio, size)
    return Box(left, top, right, bottom)


def _expanded_side(start: int, end: int, ratio: float, size: int) -> tuple[int, int]:
    half = max(1, math.floor((end - start) * ratio / 2))
    middle = (start + end) // 2
    middle = size // 2 if 2 * half >= size else min(max(middle, half), size - half)
    return max(middle - half, 0), min(middle + half, size)


# The masks


def _region_maps(regions: _Regions) -> list[NDArray[np.uint8]]:
    """Full, face and lip as (64, 64) uint8."""
    face = blurred_map(regions.face, regions.size, FACE_KERNEL)
    lips = blurred_map(regions.lips, regions.size, LIPS_KERNEL)
    return [255 - face, np.where(face > lips, face - lips, 0).astype(np.uint8), lips]


def _given_maps(masks: tuple[FileOrArray, ...]) -> list[NDArray[np.uint8]]:
    """Three masks as (n, n) uint8. Raises :class:`InputError`."""
    if not isinstance(masks, tuple | list) or len(masks) != len(AUDIO_REGIONS):
        raise InputError(f"masks are no list of three pictures; expected {', '.join(AUDIO_REGIONS)}")
    maps = []
    for region, mask in zip(AUDIO_REGIONS, masks, strict=True):
        try:
            picture = Image.fromarray(load_picture(mask)).convert("L")
        except PortraitError as exc:
            raise InputError(f"the {region} mask cannot be used: {exc}") from exc
        if picture.width != picture.height:
            raise InputError(f"the {region} mask has {picture.width}x{picture.height} pixels; expected a square")
        maps.append(np.array(picture))
    return maps


def _audio_masks(maps: list[NDArray[np.uint8]], config: ModelConfig) -> dict[str, Array]:
    """Three maps → ``audio_mask.{level}``: (3, h·w) float32 at each resolution with attention."""

    def flat(side: int) -> Array:
        resized = [Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR) for part in maps]
        return np.stack([np.asarray(part, np.float32).reshape(-1) / 255 for part in resized])

    levels = sorted({site.level for site in sites(config.unet) if site.attention})
    return {f"audio_mask.{level}": flat(config.latent_size >> level) for level in levels}


# The embedding


def _embedding(portrait: Portrait, frame: _Frame, points: Array | None, given: FaceInputs, length: int) -> Array:
    """(1, length) float32."""
    if given.embedding_model is not None:
        aligned = _aligned_face(portrait, frame, points)
        return _recognise(Path(given.embedding_model), aligned, length)
    if given.embedding is None:
        return np.zeros((1, length), np.float32)
    numbers = _numbers(given.embedding, "the face embedding")
    if numbers.shape not in ((length,), (1, length)):
        raise InputError(f"the face embedding has shape {numbers.shape}; this model expects ({length},)")
    return numbers.reshape(1, length).astype(np.float32)


def _aligned_face(portrait: Portrait, frame: _Frame, points: Array | None) -> NDArray[np.uint8]:
    """The face as recognition models are trained to see it: (112, 112, 3) uint8 RGB.

    With landmarks as InsightFace does with the points of its own detector; with a face box only, an approximation.
    """
    if points is None:
        place = Similarity.of_box(portrait.face.shifted(frame.left, frame.top).scaled(1 / frame.zoom))
    else:
        place = Similarity.of_points(five_points(points), ARCFACE_TEMPLATE)
    return place.crop(frame.original, ARCFACE_SIZE)


def _recognise(path: Path, face: NDArray[np.uint8], length: int) -> Array:
    """Run the model on (112, 112, 3) uint8 → (1, length) float32."""
    network = UsersNetwork(path, "embedding model")
    _check_model(path, network, length)
    picture = ((face.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
    found = network.run({network.inputs[0].name: picture})[0]
    if found.shape != (1, length) or not np.isfinite(found).all():
        raise InputError(f"the embedding model {path} gave shape {found.shape}; expected finite (1, {length})")
    return found.astype(np.float32)


def _check_model(path: Path, network: UsersNetwork, length: int) -> None:
    """Raise :class:`InputError` unless the model takes one aligned face and gives one embedding of that length."""
    nodes = [*network.inputs, *network.outputs]
    wanted = [(1, 3, ARCFACE_SIZE, ARCFACE_SIZE), (1, length)]
    if len(nodes) != 2 or not all(_fits(node, shape) for node, shape in zip(nodes, wanted, strict=True)):
        found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in nodes)
        raise InputError(
            f"the embedding model {path} has {found}; expected one tensor(float) {wanted[0]} → one {wanted[1]}, "
            "like InsightFace's glintr100.onnx"
        )


def _fits(node: Any, shape: tuple[int, ...]) -> bool:
    """Whether the tensor may have this shape; a name or nothing in its own shape stands for any number."""
    sides = [side if isinstance(side, int) else None for side in node.shape]
    same_rank = len(sides) == len(shape)
    return same_rank and node.type == "tensor(float)" and all(s in (None, w) for s, w in zip(sides, shape, strict=True))


def _numbers(source: FileOrArray, name: str) -> Array:
    """Finite numbers from an array or a ``.npy`` file, as float64. Raises :class:`InputError`."""
    if isinstance(source, str | Path):
        values, name = _load(Path(source)), f"{name} in {source}"
    else:
        values = np.asarray(source)
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise InputError(f"{name} are {values.dtype} of shape {values.shape}; expected finite numbers")
    return values.astype(np.float64)


def _load(path: Path) -> Array:
    try:
        with open_file(path, NUMBERS) as file:
            loaded = np.load(BufferedReader(file), allow_pickle=False)
    except InputError:
        raise
    except Exception as exc:  # NumPy raises nearly anything for a damaged header
        raise InputError(f"{path} cannot be read as a .npy file of numbers: {exc}") from exc
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} holds several arrays; expected a .npy file with one")
    return loaded
