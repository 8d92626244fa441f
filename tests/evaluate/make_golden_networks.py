"""Writes ``tests/evaluate/golden``: see :mod:`tests.evaluate.random_networks`. Only for who has the public code."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from emo_rt.evaluate.pictures import luma
from tests.evaluate.random_networks import (
    ARCFACE,
    FIVE,
    GOLDEN,
    KEPT,
    PIXELS,
    POINTS,
    feature_sets,
    large_face,
    picture_sets,
    random_input,
    random_sound,
    random_weights,
    small_arcface,
    smooth_picture,
)


def filled(network: Any) -> dict[str, list[int]]:
    """Put the random weights into a public network. Returns the shapes."""
    import torch

    shapes = {n: list(t.shape) for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    network.load_state_dict({n: torch.from_numpy(w) for n, w in random_weights(shapes).items()}, strict=False)
    network.eval()
    return shapes


def write(name: str, shapes: dict[str, list[int]], **outputs: Any) -> None:
    kept = {key: [float(f"{v:.8g}") for v in np.asarray(value).reshape(-1)] for key, value in outputs.items()}
    text = json.dumps({"shapes": shapes, **kept}, separators=(",", ":"))
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def inception(_: Path | None) -> None:
    import torch
    from pytorch_fid import inception as public

    with (
        mock.patch.object(public, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torch.nn.Module, "load_state_dict", return_value=None),
    ):
        network = public.fid_inception_v3()
    shapes = filled(network)
    with mock.patch.object(public, "fid_inception_v3", return_value=network):
        whole = public.InceptionV3([3]).eval()
    frames = np.round(random_input("frame", (2, 3, 120, 90), 0, 255)).astype(np.float32)
    features = whole(torch.from_numpy(frames) / 255)[0]
    write("inception", shapes, features=features.detach()[:, ::KEPT, 0, 0])


def i3d(folder: Path) -> None:
    import torch

    sys.path.insert(0, str(folder))
    network = importlib.import_module("pytorch_i3d").InceptionI3d(400)
    shapes = filled(network)
    logits = network(torch.from_numpy(random_input("clip", (1, 3, 16, 224, 224), -1, 1))).mean(dim=2)
    write("i3d", shapes, features=logits.detach()[:, ::KEPT])


def syncnet(folder: Path) -> None:
    """Both networks, the coefficients of a sound, and what ``SyncNetInstance.evaluate`` makes of distances."""
    import python_speech_features
    import torch

    sys.path.insert(0, str(folder))
    network = importlib.import_module("SyncNetModel").S()
    shapes = filled(network)
    seen = network.forward_lip(torch.from_numpy(random_input("lips", (2, 3, 5, 224, 224), 0, 255)))
    heard = network.forward_aud(torch.from_numpy(random_input("sound", (2, 1, 13, 20), -20, 20)))
    with mock.patch.dict(sys.modules, cv2=mock.MagicMock()):
        pairwise = importlib.import_module("SyncNetInstance").calc_pdist
    one, other = (torch.from_numpy(random_input(part, (40, 24), 0, 1)) for part in ("one", "other"))
    means = torch.stack(pairwise(one, other, vshift=15), 1).mean(1)
    least = means.min()
    write(
        "syncnet",
        shapes,
        seen=seen.detach()[:, ::KEPT],
        heard=heard.detach()[:, ::KEPT],
        cepstra=python_speech_features.mfcc(random_sound(1.5), 16_000),
        lse=[float(least), float(means.median() - least)],
    )


def deep3d(folder: Path) -> None:
    """The network, and the place and size of an aligned crop."""
    import torch
    from PIL import Image

    sys.path.insert(0, str(folder))
    names = ("cv2", "skimage", "kornia", "kornia.geometry", "models.arcface_torch", "models.arcface_torch.backbones")
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in names}):
        sys.modules["numpy"].VisibleDeprecationWarning = DeprecationWarning  # type: ignore[attr-defined]
        network = importlib.import_module("models.networks").define_net_recon("resnet50")
        public = importlib.import_module("util.preprocess")
    place = public.POS
    shapes = filled(network)
    found = network(torch.from_numpy(random_input("face", (1, 3, 224, 224), 0, 1)))
    picture = np.round(random_input("portrait", (180, 240, 3), 0, 255)).astype(np.uint8)
    points = np.array([[90.0, 70], [140, 66], [118, 98], [97, 122], [140, 119]])
    space = random_input("space", (5, 3), -0.1, 0.1).astype(np.float64) + FIVE
    flipped = np.stack([points[:, 0], 180 - 1 - points[:, 1]], axis=1)
    with mock.patch.object(public, "POS", lambda *a: (place(*a)[0].ravel(), place(*a)[1])):  # for NumPy 2
        _, crop, *_ = public.align_img(Image.fromarray(picture), flipped, space)
    pixels = np.asarray(crop)[::KEPT, ::KEPT, 0]
    write("deep3d", shapes, features=found.detach()[:, 80:144], crop=pixels, points=points, space=space)


def arcface(_: Path | None) -> None:
    """InsightFace's alignment, embeddings and similarity, of a small network of ArcFace's layout."""
    import tempfile
    from types import SimpleNamespace

    import onnx
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX
    from insightface.utils import face_align

    with tempfile.TemporaryDirectory() as folder:
        onnx.save(small_arcface(), f"{folder}/arcface.onnx")
        public = ArcFaceONNX(f"{folder}/arcface.onnx")
        pictures = {name: smooth_picture(name)[..., ::-1] for name in POINTS}
        places = {name: np.array(points, np.float32) for name, points in POINTS.items()}
        crops = {name: face_align.norm_crop(pictures[name], places[name]) for name in POINTS}
        chip = np.round(random_input("chip", (112, 112, 3), 0, 255)).astype(np.uint8)
        embeddings = {name: public.get(pictures[name], SimpleNamespace(kps=places[name])) for name in POINTS}
        write(
            "arcface",
            {name: list(shape) for name, shape in ARCFACE.items()},
            large=face_align.norm_crop(*large_face())[::KEPT, ::KEPT],
            crop=crops["frame"][::KEPT, ::KEPT, ::-1],
            chip=public.get_feat(chip[..., ::-1]),
            f_sim=[public.compute_sim(embeddings["portrait"], embeddings["frame"])],
        )


def frechet(_: Path | None) -> None:
    """pytorch-fid's distance; torchmetrics' FID of pictures by a small network, its SSIM and PSNR."""
    import torch
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
    from torchmetrics.image.fid import FrechetInceptionDistance

    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in ("torchvision", "torchvision.transforms")}):
        public = importlib.import_module("pytorch_fid.fid_score")

    facts = [(one.mean(axis=0), np.cov(one, rowvar=False)) for one in feature_sets()]

    class Network(torch.nn.Module):
        num_features = 5

        def forward(self, pixels: Any) -> Any:
            kernel, bias = (torch.from_numpy(one) for one in random_weights(PIXELS).values())
            seen = torch.nn.functional.conv2d(pixels.float() / 127.5 - 1, kernel, bias, stride=3)
            return seen.relu().mean(dim=(2, 3))

    fid = FrechetInceptionDistance(feature=Network()).set_dtype(torch.float64)
    for is_real, frames in zip((False, True), picture_sets(), strict=True):
        fid.update(torch.from_numpy(frames).permute(0, 3, 1, 2), real=is_real)
    one, other = (torch.from_numpy(luma(smooth_picture(name)).astype(np.float64))[None, None] for name in POINTS)
    _, similarity = StructuralSimilarityIndexMeasure(data_range=255.0, return_full_image=True)(one, other)
    write(
        "frechet",
        {name: list(shape) for name, shape in PIXELS.items()},
        distance=[public.calculate_frechet_distance(*facts[0], *facts[1])],
        fid=[float(fid.compute())],
        ssim=[float(similarity[INNER].mean())],
        psnr=[float(PeakSignalNoiseRatio(data_range=255.0)(*(torch.from_numpy(smooth_picture(n)) for n in POINTS)))],
    )


INNER = (..., slice(5, -5), slice(5, -5))
"""Where the window fits; torchmetrics' own mean has a mirrored border in it."""
PARTS = {
    "inception": inception, "i3d": i3d, "syncnet": syncnet, "deep3d": deep3d, "arcface": arcface, "frechet": frechet,
}  # fmt: skip


def main() -> None:
    """Write the files of some parts, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    for name in ("syncnet", "i3d", "deep3d"):
        parser.add_argument(f"--{name}", type=Path, help="checkout of the public code")
    given = parser.parse_args()
    GOLDEN.mkdir(exist_ok=True)
    for part in given.parts:
        PARTS[part](getattr(given, part, None))


if __name__ == "__main__":
    main()
