"""Whose face it is: networks that turn an aligned face into an embedding.

Without any download of our own: dlib's ResNet, whose weights come with the package ``face_recognition_models`` (extra
``evaluate``; public domain). With a file that the user names: any ArcFace network as ONNX (InsightFace's
``w600k_r50.onnx``, ``glintr100.onnx``, …), which gives F-SIM. Each brings a licence of its own.
"""

from __future__ import annotations

from importlib import import_module, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import MissingDependencyError
from emo_rt.evaluate.onnx_network import NetworkFile, OnnxNetwork
from emo_rt.faces.align import Points
from emo_rt.model.aligned_face import ARCFACE_SIZE, ARCFACE_TEMPLATE, Similarity, five_points

Vector = NDArray[np.float64]

DLIB_SIZE, DLIB_PADDING = 150, 0.25
"""Side of dlib's face chip in pixels, and its margin as a share of the inner part."""
DLIB_POINTS = (263, 362, 33, 133, 2)
"""Mesh points of dlib's five: corners of the eyes, outer first, the person's left eye first; then below the nose."""
DLIB_TEMPLATE = ((0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278))
"""Where they belong in the inner part (dlib's mean face)."""
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
NEEDS_DLIB = "dlib and face_recognition_models are not installed: pip install 'emo_rt[evaluate]'"


class Recogniser(Protocol):
    """Aligns and embeds a face."""

    network: NetworkFile
    """What computes it."""

    def embed(self, frame: NDArray[np.uint8], landmarks: Points) -> Vector:
        """The embedding (d,) of one face. ``frame``: (H, W, 3); ``landmarks``: (478, 2 or 3) in its pixels."""
        ...


class DlibRecogniser:
    """128 numbers; a Euclidean distance above 0.6 is somebody else (dlib's own threshold)."""

    def __init__(self) -> None:
        """Raises :class:`MissingDependencyError`."""
        found = util.find_spec("face_recognition_models")  # importing it would need pkg_resources
        if found is None or not found.submodule_search_locations or util.find_spec("dlib") is None:
            raise MissingDependencyError(NEEDS_DLIB)
        dlib: Any = import_module("dlib")
        path = Path(found.submodule_search_locations[0]) / "models" / DLIB_FILE
        self.network = NetworkFile.of("dlib ResNet face recognition v1 (face_recognition_models)", path)
        self._network: Any = dlib.face_recognition_model_v1(str(path))

    def embed(self, frame: NDArray[np.uint8], landmarks: Points) -> Vector:
        """(128,)."""
        margin = DLIB_PADDING / (1 + 2 * DLIB_PADDING)
        template = (np.array(DLIB_TEMPLATE) / (1 + 2 * DLIB_PADDING) + margin) * DLIB_SIZE
        place = Similarity.of_points(landmarks[list(DLIB_POINTS), :2], template)
        chip = place.crop(frame, DLIB_SIZE, averaged=True)
        return np.asarray(self._network.compute_face_descriptor(chip), np.float64)


class ArcFaceRecogniser(OnnxNetwork):
    """An ArcFace network: (1, 3, 112, 112) float32 RGB in −1 … 1 → (1, d), compared by cosine similarity."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`InputError` for a file that cannot be used, :class:`MissingDependencyError`."""
        super().__init__(path, "ArcFace")

    def embed(self, frame: NDArray[np.uint8], landmarks: Points) -> Vector:
        """(d,) of length 1."""
        chip = Similarity.of_points(five_points(landmarks), ARCFACE_TEMPLATE).crop(frame, ARCFACE_SIZE)
        vector = self.run_one(((chip.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None])
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))
