"""Faces in pictures and videos: several, small, none, drawn; tracking; both runtimes."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw

from emo_rt.errors import BackendError, MissingDependencyError, PortraitError
from emo_rt.faces import FaceFinder, default_finder, networks
from emo_rt.faces.detector import detect
from emo_rt.faces.tiles import SMALLEST_TILE, levels
from emo_rt.media.face import Face
from tests.faces.face_pictures import PHOTOGRAPHS, PORTRAIT, load, needs_golden, pasted

DRAWN = Image.open(PORTRAIT).convert("RGB")
"""The package's own portrait, a drawing of 512x512 pixels with one face."""


def middle(face: Face) -> tuple[float, float]:
    return face.box.centre


class TestFind:
    def test_a_drawn_portrait(self) -> None:
        (face,) = default_finder().find(load(PORTRAIT))
        assert face.score > 0.99
        assert face.landmarks.shape == (478, 3)
        assert middle(face) == pytest.approx((250, 298), abs=10)
        assert abs(face.pose.yaw) < 10

    def test_largest_first(self) -> None:
        large, small = DRAWN, DRAWN.resize((256, 256))
        picture = pasted((small, (0, 0)), (large, (256, 0)), size=(768, 512))
        first, second = default_finder().find(picture)
        assert first.box.width > 1.5 * second.box.width
        assert first.box.left > 256 > second.box.right

    def test_small_faces_need_the_second_look(self) -> None:
        picture = pasted((DRAWN.resize((80, 80)), (700, 300)), size=(1200, 900))
        assert default_finder().find(picture, small=False) == []
        (face,) = default_finder().find(picture)
        assert middle(face) == pytest.approx((739, 347), abs=4)

    def test_the_second_look_doubles_no_face(self) -> None:
        picture = pasted((DRAWN, (100, 100)), (DRAWN.resize((100, 100)), (900, 500)), size=(1100, 700))
        assert len(default_finder().find(picture)) == 2

    def test_a_face_at_the_edge_reaches_out(self) -> None:
        picture = np.ascontiguousarray(load(PORTRAIT)[:, 200:])
        (face,) = default_finder().find(picture)
        assert face.box.left < 0 < face.box.right

    def test_a_tilted_head(self) -> None:
        upright = default_finder().find(load(PORTRAIT))[0]
        turned = np.asarray(DRAWN.rotate(-25, Image.Resampling.BICUBIC, fillcolor=(90, 120, 90)))
        (face,) = default_finder().find(turned)
        assert face.pose.roll - upright.pose.roll == pytest.approx(25, abs=3)
        assert face.pose.yaw == pytest.approx(upright.pose.yaw, abs=8)

    def test_the_protocol_of_detectors_gives_boxes(self) -> None:
        finder = default_finder()
        assert finder.detect(load(PORTRAIT)) == [finder.find(load(PORTRAIT))[0].box]

    @pytest.mark.parametrize("kind", ["black", "noise", "stripes", "a house", "one pixel"])
    def test_things_have_no_face(self, kind: str) -> None:
        assert default_finder().find(thing(kind)) == []

    @needs_golden
    @pytest.mark.parametrize("name", ["portrait_man", "portrait_woman"])
    def test_a_shirt_has_no_face(self, name: str) -> None:
        assert default_finder().find(load(PHOTOGRAPHS[name])[450:]) == []

    @pytest.mark.parametrize(
        "picture", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 4))]
    )
    def test_only_pictures(self, picture: np.ndarray) -> None:
        with pytest.raises(PortraitError, match=r"expected uint8 \(H, W, 3\)"):
            default_finder().find(picture)

    def test_threads_can_share_it(self) -> None:
        finder, results = FaceFinder(), []
        work = [threading.Thread(target=lambda: results.append(finder.find(load(PORTRAIT)))) for _ in range(3)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert [len(faces) for faces in results] == [1, 1, 1]
        assert all((faces[0].landmarks == results[0][0].landmarks).all() for faces in results)


def thing(kind: str) -> np.ndarray:
    if kind == "one pixel":
        return np.zeros((1, 1, 3), np.uint8)
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    picture = Image.new("RGB", (600, 600))
    pen = ImageDraw.Draw(picture)
    if kind == "stripes":
        for x in range(0, 600, 40):
            pen.rectangle((x, 0, x + 20, 600), fill=(200, 180, 40))
    if kind == "a house":
        pen.rectangle((0, 0, 600, 600), fill=(130, 180, 230))
        pen.rectangle((150, 250, 450, 550), fill=(190, 90, 60))
        pen.polygon(((120, 250), (300, 100), (480, 250)), fill=(90, 40, 30))
        for x in (190, 350):
            pen.rectangle((x, 300, x + 60, 360), fill=(230, 230, 160))
        pen.rectangle((270, 430, 330, 550), fill=(60, 40, 30))
    return np.asarray(picture)


class TestFollow:
    def moving(self, count: int) -> list[np.ndarray]:
        return [pasted((DRAWN.resize((300, 300)), (20 + 12 * step, 60)), size=(640, 480)) for step in range(count)]

    def test_the_crop_follows_without_the_detector(self, monkeypatch: pytest.MonkeyPatch) -> None:
        runs: list[int] = []

        def counted(*arguments: object) -> object:
            runs.append(1)
            return detect(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr("emo_rt.faces.finder.detect", counted)
        places = [middle(faces[0])[0] for faces in default_finder().follow(self.moving(6))]
        assert len(runs) == 1
        assert np.diff(places) == pytest.approx([12] * 5, abs=2)

    def test_a_face_that_is_gone_is_looked_for_again(self) -> None:
        nothing = np.zeros((480, 640, 3), np.uint8)
        frames = [*self.moving(2), nothing, nothing, *self.moving(2)]
        assert [len(faces) for faces in default_finder().follow(frames)] == [1, 1, 0, 0, 1, 1]

    def test_two_faces_keep_their_places(self) -> None:
        small, large = DRAWN.resize((250, 250)), DRAWN.resize((300, 300))
        frames = [
            pasted((large, (0, 20 + 10 * step)), (small, (350, 100 - 10 * step)), size=(640, 480)) for step in range(4)
        ]
        every = list(default_finder().follow(frames, faces=2))
        assert [len(faces) for faces in every] == [2] * 4
        sides = [[middle(face)[0] < 320 for face in faces] for faces in every]
        assert sides == [sides[0]] * 4

    def test_two_crops_that_meet_are_one_face(self) -> None:
        large = DRAWN.resize((400, 400))
        frames = [pasted((large, (0, 40)), (large, (240 - 120 * step, 40)), size=(640, 480)) for step in range(3)]
        assert len(list(default_finder().follow(frames, faces=2))[-1]) == 1

    def test_no_second_face_is_made_up(self) -> None:
        assert [len(faces) for faces in default_finder().follow(self.moving(3), faces=2)] == [1, 1, 1]


@needs_golden
def test_a_small_face_in_a_small_picture_is_found() -> None:
    """The half of such a picture would be smaller than the smallest tile."""
    head = Image.fromarray(load(PHOTOGRAPHS["astronaut"])).crop((150, 0, 330, 200))
    ground = Image.new("RGB", (470, 470), (90, 120, 140))
    ground.paste(head.resize((72, 80)), (300, 40))
    assert len(default_finder().find(np.asarray(ground))) == 1


class TestRuntimes:
    def test_both_agree(self) -> None:
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
        (ours,), (theirs,) = (FaceFinder(runtime).find(load(PORTRAIT)) for runtime in networks.RUNTIMES)
        assert np.abs(ours.landmarks - theirs.landmarks).max() < 0.05
        assert max(abs(ours.blendshapes[name] - theirs.blendshapes[name]) for name in ours.blendshapes) < 1e-3

    def test_openvino_where_there_is_no_onnx_runtime(self) -> None:
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
        code = (
            "import sys; sys.modules['onnxruntime'] = None; import numpy as np; from PIL import Image;"
            "from emo_rt.faces import FaceFinder; finder = FaceFinder();"
            f"picture = np.asarray(Image.open({str(PORTRAIT)!r}).convert('RGB'));"
            "print(finder.runtime, len(finder.find(picture)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["openvino", "1"]

    def test_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for package in networks.RUNTIMES:
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=r"emo_rt\[cpu\].*--face-box left,top,right,bottom"):
            FaceFinder()

    def test_a_broken_file_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
        monkeypatch.setattr(networks, "asset", lambda name: PORTRAIT)
        with pytest.raises(BackendError, match=r"portrait\.png cannot be loaded"):
            networks.open_network("detector")

    def test_importing_loads_no_runtime(self) -> None:
        code = "import sys, emo_rt.faces; sys.exit(bool({'onnxruntime', 'openvino', 'cv2'} & set(sys.modules)))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", [(1920, 1080), (1000, 4000), (300, 300), (490, 480), (9000, 2000)])
def test_tiles_cover_the_picture(size: tuple[int, int]) -> None:
    width, height = size
    every = list(levels(width, height))
    for squares in every:
        covered = np.zeros((height, width), bool)
        for tile in squares:
            assert tile.side >= SMALLEST_TILE
            left, top = round(tile.x - tile.side / 2), round(tile.y - tile.side / 2)
            covered[max(top, 0) : top + round(tile.side), max(left, 0) : left + round(tile.side)] = True
        assert covered.all()
    assert len(every) == {1920: 3, 1000: 4, 300: 1, 490: 1, 9000: 4}[width]
