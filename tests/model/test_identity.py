"""Face embedding and audio masks: computed, given, and refused; up to a video of a model in the manner of Hallo."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from emo_rt import AnimateOptions, Animator, Box, Bundle, FaceInputs, InputError
from emo_rt.cli import demo, main
from emo_rt.device.registry import open_backend
from emo_rt.faces.locate import locate
from emo_rt.media.face_mesh import FACE_OVAL, OUTER_LIPS
from emo_rt.media.framing import Portrait, prepare_portrait
from emo_rt.media.picture import load_picture
from emo_rt.model.aligned_face import ARCFACE_TEMPLATE, FIVE_POINTS
from emo_rt.model.contract import Array
from emo_rt.model.families.registry import family_of
from emo_rt.model.identity import face_inputs
from emo_rt.runtime.loaded_model import LoadedModel
from tests.conftest import hallo_tiny, shared_file
from tests.evaluate.random_networks import KEPT, POINTS, golden, smooth_picture

RATE, FRAME = 16_000, 640
NO_EMBEDDING = FaceInputs(no_embedding=True)
CONFIG = replace(hallo_tiny(), size=512)
"""The size of the original; nothing is run."""


def picture(height: int = 512, width: int = 512, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def portrait_of(face: Box, height: int = 512, width: int = 512) -> Portrait:
    return prepare_portrait(picture(height, width), 512, face_box=face)


def mesh(face: Box, lips: Box, count: int = 478) -> Array:
    """Silhouette and lips that touch all sides of the boxes; eyes, nose and mouth where a face has them."""
    points = np.full((count, 2), face.centre)
    for group, box in ((FACE_OVAL, face), (OUTER_LIPS, lips)):
        angles = np.linspace(0, 2 * np.pi, len(group), endpoint=False)
        around = np.stack([np.cos(angles), np.sin(angles)], 1)
        points[list(group)] = np.array(box.centre) + around * (box.width / 2, box.height / 2)
        for index, corner in zip(group, ((box.left, box.top), (box.right, box.bottom)), strict=False):
            points[index] = corner
    return points


@pytest.fixture(scope="module")
def hallo(hallo_bundle: Bundle) -> Iterator[Animator]:
    with Animator(LoadedModel(hallo_bundle, open_backend("onnxruntime", "cpu", threads=1))) as animator:
        yield animator


def frames_of(animator: Animator, face: FaceInputs, **options: Any) -> Array:
    avatar = animator.prepare(picture(64, 64), face_box=Box(16, 14, 48, 50), face=face)
    sound = 0.1 * np.random.default_rng(1).standard_normal(7 * FRAME, np.float32)
    return animator.animate(avatar, sound, sample_rate=RATE, **{"steps": 2, **options}).numpy()


def recogniser(path: Path, length: int = 8, side: int | str = 112, channels: int = 3, inputs: int = 1) -> Path:
    """A face-recognition model that gives means of stripes of each channel: (1, 3, 112, 112) → (1, length)."""
    faces = [
        helper.make_tensor_value_info(f"input.{i}", TensorProto.FLOAT, ["batch", channels, side, side])
        for i in range(inputs)
    ]
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", length])
    weights = np.zeros((channels, 112, 112, length), np.float32)
    for i in range(length):
        weights[i % channels, i * 112 // length : (i + 1) * 112 // length, :, i] = 1 / 1000
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, (channels * 112 * 112, length), weights.ravel()),
        helper.make_tensor("flat", TensorProto.INT64, (2,), [1, channels * 112 * 112]),
    ]
    nodes = [
        helper.make_node("Reshape", ["input.0", "flat"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "recogniser", faces, [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


# Masks


def original_map(box: Box, size: int, kernel: int) -> Array:
    """A box as Hallo's preparation draws it, with OpenCV."""
    drawn = np.zeros((size, size), np.uint8)
    drawn[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
    soft = cv2.GaussianBlur(cv2.resize(drawn, (64, 64)), (kernel, kernel), 0)
    return np.asarray(cv2.normalize(soft, None, 0, 255, cv2.NORM_MINMAX))  # type: ignore[call-overload]


def original_masks(face: Box, lips: Box, size: int, sides: list[int]) -> list[Array]:
    soft_face, soft_lips = original_map(face, size, 51), original_map(lips, size, 31)
    maps = [255 - soft_face, cv2.subtract(soft_face, soft_lips), soft_lips]
    pictures = [[Image.fromarray(part).resize((n, n), Image.Resampling.BILINEAR) for part in maps] for n in sides]
    return [np.stack([np.asarray(part).reshape(-1) / 255 for part in level]) for level in pictures]


def expanded(box: Box, ratio: float) -> Box:
    """A box far from the borders, around its middle."""
    (x, y), across, down = box.centre, box.width * ratio / 2, box.height * ratio / 2
    return Box(x - across, y - down, x + across, y + down)


@pytest.mark.parametrize(
    ("face", "lips"),
    [
        (Box(150, 100, 350, 360), Box(200, 290, 300, 330)),
        (Box(180, 140, 300, 320), Box(210, 260, 270, 300)),
        (Box(100, 110, 400, 400), Box(160, 300, 320, 360)),
    ],
)
@pytest.mark.parametrize("size", [512, 256])
def test_masks_are_those_of_the_original(face: Box, lips: Box, size: int) -> None:
    config, scale = replace(CONFIG, size=size), size / 512
    portrait = prepare_portrait(picture(size, size), size, face_box="full")
    points = mesh(face, lips) * scale
    found = face_inputs(portrait, config, FaceInputs(no_embedding=True, landmarks=points))
    sides = [size // 4, size // 8]
    regions = expanded(face, 1.2).scaled(scale), expanded(lips, 2.0).scaled(scale)
    for level, expected in enumerate(original_masks(*regions, size, sides)):
        mask = found[f"audio_mask.{level}"]
        assert mask.dtype == np.float32
        assert mask.shape == (3, sides[level] ** 2)
        np.testing.assert_allclose(mask, expected, atol=2 / 255)
    drawn = np.zeros((size, size), np.float32)
    box = regions[0]
    drawn[round(box.top) : round(box.bottom), round(box.left) : round(box.right)] = 1
    np.testing.assert_array_equal(found["face_mask"], np.stack([drawn] * 3)[None])


def centre_of(weights: Array) -> tuple[float, float]:
    side = round(weights.size**0.5)
    y, x = np.mgrid[:side, :side].reshape(2, -1) + 0.5
    return float((weights * x).sum() / weights.sum() / side), float((weights * y).sum() / weights.sum() / side)


def test_without_landmarks_the_lips_are_in_the_lower_part_of_the_face() -> None:
    face = Box(150, 100, 350, 360)
    found = face_inputs(portrait_of(face), CONFIG, NO_EMBEDDING)
    full, cheeks, lips = found["audio_mask.0"]
    x, y = centre_of(lips)
    assert x == pytest.approx(face.centre[0] / 512, abs=0.02)
    assert y == pytest.approx((face.top + 0.77 * face.height) / 512, abs=0.02)
    assert centre_of(cheeks)[1] < y
    assert (full[lips > 0.9] < 0.3).all()
    assert (found["face_mask"] > 0).sum() == pytest.approx(3 * 1.44 * face.width * face.height, rel=0.03)


@pytest.mark.parametrize("face", [Box(0, 0, 200, 260), Box(300, 240, 512, 512), Box(0, 0, 512, 512)], ids=str)
def test_masks_of_a_face_at_the_border_stay_inside(face: Box) -> None:
    found = face_inputs(portrait_of(face), CONFIG, NO_EMBEDDING)
    for name in ("audio_mask.0", "audio_mask.1"):
        assert found[name].min() >= 0
        assert found[name].max() == 1
        x, y = centre_of(found[name][2])
        assert 0 < x < 1
        assert 0.3 < y < 1


def test_landmarks_are_followed_through_crop_and_scale() -> None:
    """A picture that is scaled down, cut and resized; its masks are where those of the square alone are."""
    face, lips = Box(900, 500, 1300, 1000), Box(1000, 830, 1200, 920)
    original = picture(1500, 2400)
    portrait = prepare_portrait(original, 512, face_box=face, max_side=1200)
    found = face_inputs(portrait, CONFIG, FaceInputs(no_embedding=True, landmarks=mesh(face, lips)), original)
    x, y = centre_of(found["audio_mask.0"][2])
    expected = lips.scaled(0.5).shifted(-portrait.crop.left, -portrait.crop.top).scaled(1 / portrait.crop.width)
    assert (x, y) == pytest.approx(expected.centre, abs=0.02)
    box = expanded(portrait.face, 1.2)
    assert np.flatnonzero(found["face_mask"][0, 0].any(0))[[0, -1]] == pytest.approx([box.left, box.right], abs=3)


def test_landmarks_take_the_place_of_the_face_box(hallo: Animator) -> None:
    face, lips = Box(16, 14, 48, 50), Box(24, 40, 40, 44)
    given = FaceInputs(no_embedding=True, landmarks=mesh(face, lips, 468))
    one = hallo.prepare(picture(80, 96), face=given)
    other = hallo.prepare(picture(80, 96), face_box=face, face=given)
    assert one.portrait.face == other.portrait.face
    assert one.portrait.crop == other.portrait.crop


def test_masks_are_taken_as_pictures_and_files(tmp_path: Path) -> None:
    portrait = portrait_of(Box(150, 100, 350, 360))
    pictures = [np.full((64, 64), 10 * n, np.uint8) for n in (1, 2, 3)]
    pictures[2][:32] = 200
    files = []
    for region, array in zip(("full", "face", "lip"), pictures, strict=True):
        files.append(tmp_path / f"{region}.png")
        Image.fromarray(array).save(files[-1])
    kinds: tuple[Any, ...] = (
        tuple(pictures),
        tuple(files),
        tuple(map(str, files)),
        tuple(p / np.float32(255) for p in pictures),
    )
    for masks in kinds:
        found = face_inputs(portrait, CONFIG, FaceInputs(no_embedding=True, masks=masks))["audio_mask.0"]
        np.testing.assert_allclose(found[0], 10 / 255)
        np.testing.assert_allclose(found[2].reshape(128, 128)[[0, -1], 0], [200 / 255, 30 / 255], atol=1e-6)


# The embedding


def test_with_landmarks_the_face_is_turned_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of five dots, turned, scaled and moved: the dots come out at the places of the template."""
    turn = 3.0 * np.exp(0.3j)
    places = turn * (np.array(ARCFACE_TEMPLATE) @ (1, 1j)) + (60 + 20j)
    dots = np.zeros((512, 512, 3), np.uint8)
    points = np.full((478, 2), 250.0)
    points[list(FACE_OVAL)] = mesh(Box(80, 60, 420, 470), Box(1, 1, 2, 2))[list(FACE_OVAL)]
    for group, place in zip(FIVE_POINTS, places, strict=True):
        cv2.circle(dots, (round(place.real), round(place.imag)), 8, (255, 255, 255), -1)
        points[list(group)] = place.real, place.imag
    seen: list[Array] = []

    def watch(path: Path, face: Array, length: int) -> Array:
        seen.append(face)
        return np.zeros((1, length), np.float32)

    monkeypatch.setattr("emo_rt.model.identity._recognise", watch)
    portrait = prepare_portrait(dots, 512, face_box="full")
    face_inputs(portrait, CONFIG, FaceInputs(embedding_model=tmp_path / "x.onnx", landmarks=points))
    assert seen[0].shape == (112, 112, 3)
    for x, y in ARCFACE_TEMPLATE:
        assert seen[0][round(y), round(x)].min() > 200
    assert (seen[0] > 128).mean() < 0.05


def test_the_face_that_the_model_sees_is_insightfaces_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """To one level of 255: half a pixel to one side and half a level darker is another embedding."""
    seen: list[Array] = []

    def watch(path: Path, face: Array, length: int) -> Array:
        seen.append(face)
        return np.zeros((1, length), np.float32)

    monkeypatch.setattr("emo_rt.model.identity._recognise", watch)
    points = mesh(Box(60, 60, 200, 200), Box(105, 150, 155, 175))
    for group, place in zip(FIVE_POINTS, POINTS["frame"], strict=True):
        points[list(group)] = place
    portrait = prepare_portrait(smooth_picture("frame"), 512, face_box="full")
    face_inputs(portrait, CONFIG, FaceInputs(embedding_model="x.onnx", landmarks=points))
    apart = np.abs(seen[0][::KEPT, ::KEPT].ravel() - np.array(golden("arcface")["crop"]))
    assert apart.max() <= 1
    assert apart.mean() <= 0.02


def test_the_model_sees_the_face_region_in_rgb(tmp_path: Path) -> None:
    """A red face of 96 x 96 pixels, its middle 13 pixels below that of the blue rest."""
    scene = np.zeros((400, 600, 3), np.uint8)
    scene[..., 2] = 255
    scene[100:300, 200:400] = (255, 0, 0)
    portrait = prepare_portrait(scene, 512, face_box=Box(200, 100, 400, 300))
    given = FaceInputs(embedding_model=recogniser(tmp_path / "r.onnx", length=3))
    found = face_inputs(portrait, replace(CONFIG, reference=replace(CONFIG.reference, face_embedding_dim=3)), given)
    red, green, blue = 1000 * found["face_embedding"][0]  # sums over rows 0 … 36, 37 … 73 and 74 … 111
    assert red == pytest.approx(2 * 16 * 96 - 37 * 112, abs=150)  # red from row 21 on, in 96 columns
    assert green == pytest.approx(-37 * 112, abs=1)
    assert blue == pytest.approx(38 * 112 - 2 * 38 * 96, abs=150)


def test_embeddings_reach_the_video(hallo: Animator, tmp_path: Path) -> None:
    vector = np.random.default_rng(2).standard_normal(8)
    np.save(tmp_path / "face.npy", vector)
    zeros = frames_of(hallo, NO_EMBEDDING)
    by_array = frames_of(hallo, FaceInputs(embedding=vector))
    by_file = frames_of(hallo, FaceInputs(embedding=tmp_path / "face.npy"))
    by_model = frames_of(hallo, FaceInputs(embedding_model=recogniser(tmp_path / "r.onnx")))
    assert zeros.shape == (7, 32, 32, 3)
    np.testing.assert_array_equal(by_array, by_file)
    np.testing.assert_array_equal(zeros, frames_of(hallo, FaceInputs(embedding=np.zeros((1, 8)))))
    for one, other in ((zeros, by_array), (zeros, by_model), (by_array, by_model)):
        assert not np.array_equal(one, other)


def test_masks_and_landmarks_reach_the_video(hallo: Animator) -> None:
    black = np.zeros((64, 64), np.uint8)
    one = frames_of(hallo, NO_EMBEDDING)
    assert not np.array_equal(one, frames_of(hallo, FaceInputs(no_embedding=True, masks=(black, black, black))))
    points = mesh(Box(20, 10, 40, 40), Box(26, 30, 34, 34))
    assert not np.array_equal(one, frames_of(hallo, FaceInputs(no_embedding=True, landmarks=points)))


def test_warmup_needs_no_face(hallo: Animator) -> None:
    hallo.warmup(AnimateOptions(steps=3))


# What is refused


ASK = r"embedding=….*--face-embedding FILE\.npy.*--embedding-model glintr100\.onnx.*--no-face-embedding"


@pytest.mark.parametrize(
    "given", [None, FaceInputs(), FaceInputs(landmarks=mesh(Box(9, 9, 60, 60), Box(9, 9, 60, 60)))]
)
def test_a_model_that_needs_an_embedding_asks_for_it(hallo: Animator, given: FaceInputs | None) -> None:
    with pytest.raises(InputError, match=ASK):
        hallo.prepare(picture(64, 64), face_box="full", face=given)


def test_only_one_embedding_is_taken() -> None:
    with pytest.raises(InputError, match=r"embedding and no_embedding are given; expected one of"):
        FaceInputs(embedding=np.zeros(8), no_embedding=True)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (NO_EMBEDDING, "no no_embedding"),
        (FaceInputs(embedding=np.zeros(8)), "no embedding"),
        (FaceInputs(embedding_model="x.onnx", landmarks=np.ones((468, 2))), "no embedding_model, no landmarks"),
        (FaceInputs(masks=(np.zeros((64, 64)),) * 3), "no masks"),
    ],
)
def test_a_model_in_the_manner_of_emo_refuses(tiny_animator: Animator, given: FaceInputs, names: str) -> None:
    with pytest.raises(InputError, match=f"the model tiny takes {names}: leave it out"):
        tiny_animator.prepare(picture(64, 64), face_box="full", face=given)


def test_a_model_in_the_manner_of_emo_takes_nothing(tiny_animator: Animator) -> None:
    tiny_animator.prepare(picture(64, 64), face_box="full", face=FaceInputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": np.zeros(7)}, r"has shape \(7,\); this model expects \(8,\)"),
        ({"embedding": np.zeros((2, 8))}, r"has shape \(2, 8\)"),
        ({"embedding": np.full(8, np.nan)}, "expected finite numbers"),
        ({"embedding": np.array(["a"] * 8)}, "expected finite numbers"),
        ({"embedding": "nowhere.npy"}, "there is no file nowhere.npy"),
        ({"no_embedding": True, "masks": (np.zeros((64, 64)),)}, "no list of three pictures"),
        ({"no_embedding": True, "masks": (np.zeros((64, 64)),) * 2 + ("no.png",)}, "lip mask cannot be used.*no.png"),
        ({"no_embedding": True, "masks": (np.zeros((64, 48)),) * 3}, "full mask has 48x64 pixels; expected a square"),
        ({"no_embedding": True, "landmarks": np.zeros((68, 2))}, r"\(68, 2\); expected \(468, 2\) or \(478, 2\)"),
        ({"no_embedding": True, "landmarks": np.ones((468, 3))}, r"\(468, 3\)"),
        ({"no_embedding": True, "landmarks": np.full((468, 2), 0.5)}, "multiply x by its width"),
        ({"no_embedding": True, "landmarks": np.full((468, 2), 9000.0)}, "outside the square"),
        ({"embedding_model": "nowhere.onnx"}, r"there is no embedding model nowhere\.onnx"),
    ],
)
def test_inputs_that_cannot_be_used_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, FaceInputs(**change))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"length": 9}, r"\[1, 9\]; expected one tensor\(float\) \(1, 3, 112, 112\) → one \(1, 8\)"),
        ({"side": 96}, r"\['batch', 3, 96, 96\]"),
        ({"inputs": 2}, r"input\.1"),
        ({"channels": 1}, r"\['batch', 1, 112, 112\]"),
    ],
)
def test_embedding_models_of_another_shape_are_refused(tmp_path: Path, shape: dict[str, int], message: str) -> None:
    given = FaceInputs(embedding_model=recogniser(tmp_path / "r.onnx", **shape))
    with pytest.raises(InputError, match=message):
        face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, given)


@pytest.mark.parametrize("field", ["embedding", "landmarks", "embedding_model"])
def test_files_of_another_kind_are_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"no such thing")
    needed: dict[str, Any] = {} if field.startswith("embedding") else {"no_embedding": True}
    with pytest.raises(InputError, match=r"file\.bin"):
        face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, FaceInputs(**{field: path, **needed}))


def test_files_of_numbers_hold_one_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", np.zeros(8), np.ones(8))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{")
    for name, message in {"two.npz": "holds several arrays", "cut.npy": r"cannot be read as a \.npy file"}.items():
        with pytest.raises(InputError, match=message):
            face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, FaceInputs(embedding=tmp_path / name))


def test_eyes_nose_and_mouth_in_one_place_are_no_face(tmp_path: Path) -> None:
    """Scaled onto the template they would give any size and angle."""
    points = mesh(Box(150, 100, 350, 360), Box(200, 280, 300, 330))
    points[[point for group in FIVE_POINTS for point in group]] = 250
    given = FaceInputs(embedding_model=recogniser(tmp_path / "model.onnx"), landmarks=points)
    with pytest.raises(InputError, match="eyes, nose and mouth of the landmarks are all in one place"):
        face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, given)


def test_an_embedding_model_that_fails_is_named(tmp_path: Path) -> None:
    path = recogniser(tmp_path / "model.onnx", side="side")  # any size, it says; its weights are for one
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(helper.make_tensor("flat", TensorProto.INT64, (2,), [1, 7]))
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"the embedding model .* failed"):
        face_inputs(portrait_of(Box(150, 100, 350, 360)), CONFIG, FaceInputs(embedding_model=path))


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + b"''''abc".ljust(118))
    (tmp_path / "archive.npy").write_bytes(b"PK\x03\x04" + bytes(40))
    for name in ("header", "archive"):
        with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
            face_inputs(portrait_of(Box(9, 9, 99, 99)), CONFIG, FaceInputs(embedding=tmp_path / f"{name}.npy"))
    with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
        face_inputs(portrait_of(Box(9, 9, 99, 99)), CONFIG, FaceInputs(embedding=tmp_path / "object.npy"))


# The command line


def animate(bundle: Bundle, tmp_path: Path, *more: object) -> list[str]:
    out = ["-o", str(tmp_path / "out.mp4"), "--face-box", "full", "--steps", "1", "--threads", "1", "-q"]
    return ["animate", str(demo.DEMO_PORTRAIT), str(short_voice(tmp_path)), "--bundle", str(bundle.path), *out,
            *map(str, more)]  # fmt: skip


def short_voice(folder: Path) -> Path:
    with wave.open(str(folder / "voice.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(4 * FRAME))
    return folder / "voice.wav"


def test_the_command_takes_everything_from_files(
    hallo_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(demo.DEMO_PORTRAIT) as image:
        width, height = image.size
    face = Box(0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height)
    np.save(tmp_path / "mesh.npy", mesh(face, Box(0.4 * width, 0.6 * height, 0.6 * width, 0.7 * height)))
    masks = [tmp_path / f"{name}.png" for name in ("full", "face", "lip")]
    for path in masks:
        Image.fromarray(np.full((64, 64), 99, np.uint8)).save(path)
    files = ["--landmarks", tmp_path / "mesh.npy", "--masks", ",".join(map(str, masks))]
    more = ["--embedding-model", recogniser(tmp_path / "r.onnx"), *files]
    assert main(animate(hallo_bundle, tmp_path, *more)) == 0, capsys.readouterr().err
    assert (tmp_path / "out.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 1, "--no-face-embedding"),
        (["--face-embedding", "nowhere.npy"], 1, "there is no file nowhere.npy"),
        (["--no-face-embedding", "--embedding-model", "x.onnx"], 2, "not allowed with argument"),
        (["--no-face-embedding", "--masks", "a.png,b.png"], 2, "expected three names of files: full,face,lip"),
    ],
)
def test_the_command_says_what_is_wrong(
    hallo_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    assert main(animate(hallo_bundle, tmp_path, *more)) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert not (tmp_path / "out.mp4").exists()


def test_a_real_face_has_its_lips_in_the_lip_mask() -> None:
    """In that picture the lips are in columns 235 … 283 and rows 255 … 278 of the square of 512 pixels."""
    path = shared_file("media/portrait_woman.png")
    original = load_picture(path)
    given = family_of(CONFIG).with_landmarks(NO_EMBEDDING, locate(original).landmarks)
    assert given is not None
    portrait = prepare_portrait(original, 512, face_box=Box(402.56, 102.4, 627.84, 366.08))
    found = face_inputs(portrait, CONFIG, given, original)["audio_mask.0"]
    lips = found[2].reshape(128, 128)
    assert lips[64:70, 59:71].min() > 0.8
    assert lips[40:48].max() < 0.5
