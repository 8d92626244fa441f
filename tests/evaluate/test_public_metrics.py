"""FID's distance, FID of pictures, F-SIM, SSIM and PSNR are those of public packages, on small random weights.

What pytorch-fid, torchmetrics and insightface give is in the golden files: see :mod:`tests.evaluate.random_networks`.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emo_rt.evaluate.assessment import measured
from emo_rt.evaluate.context import ARCFACE, Context, PortraitFacts
from emo_rt.evaluate.fid import fid
from emo_rt.evaluate.frechet import Normal, distance
from emo_rt.evaluate.identity import ArcFaceRecogniser
from emo_rt.evaluate.inception import Inception
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS
from emo_rt.evaluate.pictures import psnr, ssim
from emo_rt.model.aligned_face import ARCFACE_SIZE, ARCFACE_TEMPLATE, FIVE_POINTS, Similarity
from tests.evaluate.random_networks import (
    KEPT,
    POINTS,
    feature_sets,
    golden,
    large_face,
    picture_sets,
    random_input,
    small_arcface,
    small_inception,
    smooth_picture,
)

onnx: Any = pytest.importorskip("onnx", reason="the small networks are written by onnx: pip install 'emo_rt[export]'")

NEAR = 1e-4


def mesh(points: Any) -> Any:
    """(478, 2): the mesh points of eyes, nose and mouth at five places."""
    landmarks = np.zeros((478, 2))
    for group, point in zip(FIVE_POINTS, points, strict=True):
        landmarks[list(group)] = point
    return landmarks


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> ArcFaceRecogniser:
    path = tmp_path_factory.mktemp("arcface") / "arcface.onnx"
    onnx.save(small_arcface(), str(path))
    return ArcFaceRecogniser(path)


def test_the_distance_is_pytorch_fids() -> None:
    made, true = map(Normal.of, feature_sets())
    assert float(distance(made, true)) == pytest.approx(golden("frechet")["distance"][0], rel=NEAR)


def test_fid_of_pictures_is_torchmetrics(tmp_path: Path) -> None:
    onnx.save(small_inception(), str(tmp_path / "inception.onnx"))
    network = Inception(tmp_path / "inception.onnx")
    made, true = (np.stack([network.features(one) for one in frames]) for frames in picture_sets())
    reading: Any = SimpleNamespace(inception=made, fps=25.0)
    found = measured(METRICS["fid"], [reading], Context(true_frames=true))
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(golden("frechet")["fid"][0], rel=NEAR)
    assert found.low < found.value < found.high
    assert "10 or more" in str(fid([reading], Context(true_frames=true[:9])))


def test_ssim_and_psnr_are_torchmetrics() -> None:
    one, other = (smooth_picture(name) for name in POINTS)
    assert ssim(one, other) == pytest.approx(golden("frechet")["ssim"][0], abs=NEAR)
    assert psnr(one, other) == pytest.approx(golden("frechet")["psnr"][0], rel=NEAR)


def test_the_embedding_of_a_crop_is_insightfaces(recogniser: ArcFaceRecogniser) -> None:
    """A picture whose points lie where they belong is its own crop."""
    chip = np.round(random_input("chip", (112, 112, 3), 0, 255)).astype(np.uint8)
    expected = np.array(golden("arcface")["chip"])
    found = recogniser.embed(chip, mesh(ARCFACE_TEMPLATE))
    assert np.abs(found - expected / np.linalg.norm(expected)).max() <= NEAR


def test_the_crop_is_insightfaces() -> None:
    """To one level of 255 in few pixels: OpenCV rounds what it looks up in another way than NumPy."""
    pictures = {"crop": (smooth_picture("frame"), np.array(POINTS["frame"])), "large": large_face()}
    for name, (picture, points) in pictures.items():
        found = Similarity.of_points(points, ARCFACE_TEMPLATE).crop(picture, ARCFACE_SIZE)
        apart = np.abs(found[::KEPT, ::KEPT].ravel() - np.array(golden("arcface")[name]))
        assert apart.max() <= 1, name
        assert apart.mean() <= 0.02, name


def test_f_sim_is_insightfaces(recogniser: ArcFaceRecogniser) -> None:
    """Alignment, network and cosine."""
    seen = {name: recogniser.embed(smooth_picture(name), mesh(points)) for name, points in POINTS.items()}
    portrait = PortraitFacts({ARCFACE: seen["portrait"]})
    reading: Any = SimpleNamespace(
        name="frame", fps=25.0, found=np.ones(1, bool), embeddings={ARCFACE: seen["frame"][None]}
    )
    found = measured(METRICS["f_sim"], [reading], Context(portrait_of=lambda name: portrait))
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(golden("arcface")["f_sim"][0], abs=NEAR)
