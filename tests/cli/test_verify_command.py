"""`emo-rt verify`, and the options of marks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emo_rt import VideoOptions, VideoWriter
from emo_rt.cli import demo, main, make_parser
from emo_rt.cli.options import read_options
from emo_rt.media.marking.options import MarkOptions


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.asarray(Image.open(demo.DEMO_PORTRAIT).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS))


def write(path: Path, picture: np.ndarray, **options: object) -> str:
    chosen = VideoOptions(**options)  # type: ignore[arg-type]
    with VideoWriter(path, width=256, height=256, fps=25, options=chosen) as writer:
        writer.write(np.repeat(picture[None], 10, axis=0))
    return str(path)


def test_for_people(picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.mp4", picture, watermark_payload=42)
    assert main(["verify", path]) == 0
    told = capsys.readouterr().out
    assert "as AI-generated" in told
    assert "made by emo_rt" in told
    assert "found, payload 42" in told


def test_for_programs(picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked = write(tmp_path / "a.mp4", picture, watermark_key="ours", mark_generated=False)
    assert main(["verify", marked, "--key", "ours", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"schema", "is_generated", "file", "metadata", "c2pa", "watermark"}
    assert report["is_generated"]
    assert report["metadata"] is None
    assert report["watermark"]["found"]
    assert report["watermark"]["payload"] == 0
    assert report["c2pa"]["state"] in ("absent", "unchecked")
    assert main(["verify", marked, "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["is_generated"]


def test_no_mark(picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.mp4", picture, watermark=False, mark_generated=False)
    assert main(["verify", path]) == 0
    assert "no mark was found, which proves nothing" in capsys.readouterr().out


def test_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "missing.mp4")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no video file")


@pytest.mark.parametrize("command", [["animate", "p.png", "v.wav", "-o", "o.mp4"], ["serve"]])
def test_options_of_marks(command: list[str]) -> None:
    given = ["--no-watermark", "--visible-label", "--watermark-payload", "5", "--c2pa-cert", "c", "--c2pa-key", "k"]
    args = make_parser().parse_args([*command, *given])
    expected = MarkOptions(watermark=False, visible_label=True, watermark_payload=5, c2pa_cert="c", c2pa_key="k")
    assert read_options(args, MarkOptions) == expected
