"""Landmarks and blendshapes against Google's own runtime, on photographs.

Sampling as OpenCV samples gives 0.001 % of the face's width and 0.0006; the bounds leave room for other versions of
the runtimes. A sampling without OpenCV's rounding is at 0.2 % and 0.07.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from emo_rt.faces import FaceFinder
from emo_rt.faces.blendshapes import NAMES
from emo_rt.faces.networks import RUNTIMES
from emo_rt.media.face import Face
from tests.faces.face_pictures import GOLDEN, PHOTOGRAPHS, load, needs_golden

LANDMARKS, BLENDSHAPES = 0.0005, 0.003
"""Mean distance of the 478 points in widths of the face, z included; largest difference of a coefficient."""


@pytest.fixture(scope="module", params=RUNTIMES)
def finder(request: pytest.FixtureRequest) -> FaceFinder:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return FaceFinder(request.param)


def distance(face: Face, points: np.ndarray) -> float:
    """Mean over the points, in widths of the face."""
    return float(np.linalg.norm(face.landmarks - points, axis=1).mean() / np.ptp(points[:, 0]))


@needs_golden
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_equal_to_googles_runtime(finder: FaceFinder, name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    found = finder.find(load(PHOTOGRAPHS[name]))
    assert len(found) == len(golden["faces"])
    for wanted in golden["faces"]:
        points = np.array(wanted["landmarks"]) * [golden["width"], golden["height"], golden["width"]]
        face = min(found, key=lambda face: distance(face, points))
        assert distance(face, points) < LANDMARKS
        assert tuple(face.blendshapes) == NAMES == tuple(wanted["blendshapes"])
        assert max(abs(face.blendshapes[key] - wanted["blendshapes"][key]) for key in NAMES) < BLENDSHAPES
