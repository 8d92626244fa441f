"""`emo-rt faces`: text, JSON, the drawn picture, and what can go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emo_rt.cli import faces, main
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.faces.blendshapes import NAMES
from emo_rt.schema.kinds import Range


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    path = tmp_path / "green.png"
    Image.new("RGB", (96, 64), "green").save(path)
    return path


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces", str(DEMO_PORTRAIT)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "portrait.png: 512x512 pixels, 1 face"
    assert second.startswith("face 0")
    assert "yaw" in second


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces", str(DEMO_PORTRAIT), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["width"], report["height"]) == (512, 512)
    (face,) = report["faces"]
    assert set(face) == {"box", "score", "landmarks", "blendshapes", "pose"}
    points = np.array(face["landmarks"])
    assert points.shape == (478, 3)
    assert face["box"] == pytest.approx([*points[:468, :2].min(0), *points[:468, :2].max(0)], abs=0.01)
    assert tuple(face["blendshapes"]) == NAMES
    assert set(face["pose"]) == {"yaw", "pitch", "roll"}
    assert 0.99 < face["score"] <= 1


def test_nobody(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces", str(nobody), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"width": 96, "height": 64, "faces": []}
    assert main(["faces", str(nobody)]) == 0
    assert capsys.readouterr().out == "green.png: 96x64 pixels, no face found\n"


def test_places_are_those_of_the_upright_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image = Image.open(DEMO_PORTRAIT).convert("RGB").crop((0, 0, 512, 480))
    image.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif, quality=95)
    assert main(["faces", str(turned), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["width"], report["height"]) == (512, 480)
    assert report["faces"][0]["box"] == pytest.approx([127, 182, 372, 414], abs=4)


def test_places_are_those_of_the_whole_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "PIXELS", Range(1_024, 256 * 256))
    Image.open(DEMO_PORTRAIT).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    assert main(["faces", str(tmp_path / "a.jpg"), "--json", "-o", str(tmp_path / "drawn.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["width"], report["height"]) == (512, 512)
    assert report["faces"][0]["box"] == pytest.approx([127, 182, 372, 414], abs=6)
    assert np.min(report["faces"][0]["landmarks"], axis=0)[:2] == pytest.approx([127, 182], abs=6)
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (256, 256)


def test_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn.png"
    assert main(["faces", str(DEMO_PORTRAIT), "-o", str(out)]) == 0
    assert f"drawn in {out}" in capsys.readouterr().out
    drawn, original = (np.asarray(Image.open(path).convert("RGB")) for path in (out, DEMO_PORTRAIT))
    changed = (drawn != original).any(axis=2)
    assert 0.02 < changed.mean() < 0.2
    assert not changed[430:].any()
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.png"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["-o", "out.mp4"], 2, "it must end in .png, .jpg, .jpeg, .webp"),
        (["-o", "nowhere/out.png"], 1, "there is no folder nowhere"),
        (["-o", "here.png"], 1, "here.png exists; choose another name, or --overwrite"),
    ],
)
def test_wrong_targets(
    more: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.png").write_bytes(b"mine")
    assert main(["faces", str(DEMO_PORTRAIT), *more]) == code
    assert words in capsys.readouterr().err
    assert (tmp_path / "here.png").read_bytes() == b"mine"


def test_overwrite(tmp_path: Path, nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    assert main(["faces", str(DEMO_PORTRAIT), "-o", str(out), "--overwrite"]) == 0
    with Image.open(out) as drawn:
        assert drawn.size == (512, 512)
    assert main(["faces", str(nobody), "-o", str(nobody), "--overwrite"]) == 1
    assert "is the picture itself" in capsys.readouterr().err


def test_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces", str(tmp_path / "nothing.png")]) == 1
    assert "there is no picture" in capsys.readouterr().err
