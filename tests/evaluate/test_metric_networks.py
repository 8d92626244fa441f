"""The converted networks compute what the public implementations compute, on random weights of the same layout."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emo_rt.errors import CheckpointError, ConfigError, InputError
from emo_rt.evaluate import of_frames
from emo_rt.evaluate.assessment import Eyes, measured
from emo_rt.evaluate.cepstra import cepstra
from emo_rt.evaluate.context import ARCFACE, Context, PortraitFacts
from emo_rt.evaluate.deep3d import Deep3D, aligned_crop
from emo_rt.evaluate.fid import fvd, joined_clips
from emo_rt.evaluate.i3d import EVERY, FRAMES, I3D, ClipFeatures
from emo_rt.evaluate.inception import Inception
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS
from emo_rt.evaluate.syncnet import SyncNet, best_shift, face_crops, lse_c, lse_d, shifted_distances, smoothed_places
from emo_rt.media.box import Box
from tests.evaluate.random_networks import KEPT, golden, random_input, random_sound, random_weights

pytest.importorskip("onnx", reason="the converter needs onnx: pip install 'emo_rt[export]'")

from emo_rt.export.metrics.deep3d import deep3d
from emo_rt.export.metrics.i3d import i3d
from emo_rt.export.metrics.inception import inception
from emo_rt.export.metrics.syncnet import syncnet

RNG = np.random.default_rng(0)
MEAN_FACE = RNG.normal(0, 1, (68, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All four, of random weights."""
    folder, made = tmp_path_factory.mktemp("networks"), {}
    builders: dict[str, Any] = {"inception": inception, "i3d": i3d, "syncnet": syncnet}
    builders["deep3d"] = lambda weights: deep3d(weights, MEAN_FACE)
    for name, build in builders.items():
        made[name] = folder / f"{name}.onnx"
        made[name].write_bytes(build(random_weights(golden(name)["shapes"])).SerializeToString())
    return made


def assert_near(found: Any, expected: Any) -> None:
    """To 1e-4 of the largest number: folding batch norms into kernels rounds a little."""
    expected = np.asarray(expected)
    assert np.shape(np.reshape(found, -1)) == expected.shape
    assert np.abs(np.reshape(found, -1) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_inception_is_pytorch_fids(files: dict[str, Path]) -> None:
    network = Inception(files["inception"])
    frames = np.round(random_input("frame", (2, 3, 120, 90), 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)
    assert_near([network.features(frame)[::KEPT] for frame in frames], golden("inception")["features"])


def test_i3d_is_the_public_one(files: dict[str, Path]) -> None:
    (found,) = I3D(files["i3d"]).run(clip=random_input("clip", (1, 3, 16, 224, 224), -1, 1))
    assert_near(found[:, ::KEPT], golden("i3d")["features"])


def test_syncnet_is_the_public_one(files: dict[str, Path]) -> None:
    lips, sound = random_input("lips", (2, 3, 5, 224, 224), 0, 255), random_input("sound", (2, 1, 13, 20), -20, 20)
    seen, heard = SyncNet(files["syncnet"]).run(lips=lips, sound=sound)
    assert_near(seen[:, ::KEPT], golden("syncnet")["seen"])
    assert_near(heard[:, ::KEPT], golden("syncnet")["heard"])


def test_coefficients_of_a_face_are_deep3dfacerecons(files: dict[str, Path]) -> None:
    (found,) = Deep3D(files["deep3d"]).run(picture=random_input("face", (1, 3, 224, 224), 0, 1))
    assert_near(found, golden("deep3d")["features"])


def test_the_crop_is_deep3dfacerecons() -> None:
    expected = golden("deep3d")
    picture = np.round(random_input("portrait", (180, 240, 3), 0, 255)).astype(np.uint8)
    points, space = (np.reshape(expected[name], (5, -1)) for name in ("points", "space"))
    assert_near(aligned_crop(picture, points, space)[::KEPT, ::KEPT, 0], expected["crop"])


def test_cepstra_are_those_of_python_speech_features() -> None:
    assert_near(cepstra(random_sound(1.5)), golden("syncnet")["cepstra"])


def test_lse_is_that_of_syncnet_python() -> None:
    one, other = (random_input(part, (40, 24), 0, 1).astype(np.float64) for part in ("one", "other"))
    means = shifted_distances(one, other).mean(axis=0)
    shift = best_shift(means)
    assert_near([lse_d(means, shift), lse_c(means, shift)], golden("syncnet")["lse"])


def test_lse_gets_worse_the_more_windows_do_not_fit() -> None:
    true = RNG.normal(0, 1, (60, 64))
    worse = []
    for grade in range(5):
        heard = np.where((np.arange(60) % 5 < grade)[:, None], RNG.normal(0, 1, true.shape), true)
        worse.append(shifted_distances(true, heard).mean(axis=0))
    assert list(np.diff([lse_d(one, best_shift(one)) for one in worse]) > 0) == [True] * 4
    assert list(np.diff([lse_c(one, best_shift(one)) for one in worse]) < 0) == [True] * 4


def test_windows_are_those_of_the_public_code(files: dict[str, Path]) -> None:
    """`min(frames, sound) - 5` of them: each needs its frames, its sound, and one frame more."""
    network = SyncNet(files["syncnet"])
    crops = [np.full((224, 224, 3), 20 * index, np.uint8) for index in range(8)]
    assert network.distances(crops, np.zeros(640 * 20, np.float32)).shape == (3, 31)
    assert network.distances(crops * 2, np.zeros(640 * 7 + 9, np.float32)).shape == (2, 31)
    assert network.distances(crops[:5], np.zeros(640 * 20, np.float32)).shape == (0, 31)


def test_crops_come_25_times_a_second_and_follow_the_face() -> None:
    frames = [np.full((60, 80, 3), index, np.uint8) for index in range(60)]
    boxes = [None if index % 7 == 3 else Box(20, 10, 60, 50) for index in range(60)]
    for fps, wanted in ((25.0, 60), (50.0, 30), (30.0, 50), (12.5, 120)):
        found = list(face_crops(frames, boxes, fps))
        assert abs(len(found) - wanted) <= 1, fps
        assert found[0].shape == (224, 224, 3)
    assert smoothed_places(boxes) == pytest.approx(np.tile([40, 30, 20], (60, 1)))
    assert face_crops(frames[:1], boxes[:1], 25).__next__()[-1, 112, 0] == 110, "outside the picture it is grey"


def test_clips_start_every_eighth_frame(files: dict[str, Path]) -> None:
    clips = ClipFeatures(I3D(files["i3d"]))
    for _ in range(FRAMES - 1):
        clips.add(np.zeros((8, 8, 3), np.uint8))
    assert clips.features is None
    for _ in range(EVERY + 1):
        clips.add(np.zeros((8, 8, 3), np.uint8))
    assert clips.features is not None
    assert clips.features.shape == (2, 400)


@pytest.mark.slow
def test_a_report_has_what_the_networks_measure(files: dict[str, Path]) -> None:
    """On a face that trembles, with random weights; hashes of all files are told."""
    from PIL import Image

    from tests.evaluate.test_reports import PORTRAIT

    eyes = Eyes(i3d=files["i3d"], syncnet=files["syncnet"], deep3d=files["deep3d"])
    picture = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((160, 160)))
    frames = np.stack([np.roll(picture, index % 3, axis=1) for index in range(17)])
    sound = RNG.normal(0, 0.1, 9 * 640).astype(np.float32)  # shorter than the video: four windows
    reading = eyes.read(of_frames("trembling", frames, 25, sound))
    assert [network.file for network in eyes.networks][-3:] == ["i3d.onnx", "deep3d.onnx", "syncnet.onnx"]
    assert reading.sync is not None
    assert len(reading.sync) == 4
    assert reading.coefficients is not None
    assert np.isfinite(reading.coefficients).all()
    for name in ("lse_c", "lse_d"):
        assert isinstance(measured(METRICS[name], [reading], Context()), Estimate)
    context = Context(true_clips=joined_clips([reading]), true_coefficients=reading.coefficients)
    assert "needs 800 or more" in str(fvd([reading], context))
    assert "needs 128 or more" in str(measured(METRICS["e_fid"], [reading], context))
    many = Context(true_coefficients=RNG.normal(0, 1, (200, 64)))
    assert "needs 128 or more" in str(measured(METRICS["e_fid"], [reading], many))
    assert isinstance(measured(METRICS["e_fid"], [reading] * 8, many), Estimate)


def test_distances_of_sets_rise_in_five_grades() -> None:
    """With features of few dimensions, moved by known lengths."""
    true = RNG.normal(0, 1, (60, 5))
    context = Context(true_frames=true, true_clips=true)
    for grade in range(5):
        moved: Any = SimpleNamespace(inception=true + grade, clips=true + grade, fps=25.0)
        for name in ("fid", "fvd"):
            found = measured(METRICS[name], [moved], context)
            assert isinstance(found, Estimate)
            assert found.value == pytest.approx(5 * grade**2, abs=1e-6)


def read_of(**curves: Any) -> Any:
    """Three seconds with a face, of which no more was read."""
    return SimpleNamespace(name="drawn", fps=25.0, found=np.ones(75, bool), **curves)


def test_e_fid_rises_in_five_grades() -> None:
    true = RNG.normal(0, 1, (200, 8))
    context, found = Context(true_coefficients=true), []
    for grade in range(5):
        value = measured(METRICS["e_fid"], [read_of(coefficients=true[:75] + grade)], context)
        assert isinstance(value, Estimate)
        found.append(value.value)
    assert list(np.diff(found) > 0) == [True] * 4


def test_f_sim_falls_in_five_grades() -> None:
    """Embeddings that turn away from the portrait's: the cosine of the angle."""
    portrait = PortraitFacts({ARCFACE: np.array([1.0, 0.0])})
    context = Context(portrait_of=lambda name: portrait)
    for angle in np.linspace(0, 1, 5):
        seen = np.tile([np.cos(angle), np.sin(angle)], (75, 1))
        value = measured(METRICS["f_sim"], [read_of(embeddings={ARCFACE: seen})], context)
        assert isinstance(value, Estimate)
        assert value.value == pytest.approx(np.cos(angle))


def test_other_networks_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="is i3d; expected syncnet"):
        SyncNet(files["i3d"])


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = random_weights({**golden("syncnet")["shapes"], "netcnnlip.4.weight": [256, 95, 1, 5, 5]})
    with pytest.raises(CheckpointError, match="do not fit"):
        syncnet(weights)
    with pytest.raises(CheckpointError, match=r"backbone\.conv1\.weight is missing"):
        deep3d({}, MEAN_FACE)


@pytest.mark.slow
def test_the_converter_reads_public_files(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from emo_rt.export.metrics.convert import convert, main

    weights = random_weights(golden("syncnet")["shapes"])
    torch.save({name: torch.from_numpy(one) for name, one in weights.items()}, tmp_path / "syncnet_v2.model")
    out = convert("syncnet", tmp_path / "syncnet_v2.model", tmp_path / "syncnet.onnx")
    assert out.read_bytes() == syncnet(weights).SerializeToString(deterministic=True)
    with pytest.raises(ConfigError, match="--mean-face"):
        convert("deep3d", tmp_path / "syncnet_v2.model", tmp_path / "deep3d.onnx")
    assert main(["i3d", str(tmp_path / "syncnet_v2.model"), "-o", str(tmp_path / "i3d.onnx")]) == 1
    assert not (tmp_path / "i3d.onnx").exists()
