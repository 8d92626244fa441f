"""`emo-rt verify`, and the options of marks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import av
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
    assert "no mark was found, which says nothing" in capsys.readouterr().out


def test_what_a_file_says_cannot_command_the_terminal(
    picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor begin a row of its own, nor a second answer in JSON."""
    said = "AI-generated video \x1b[2J\x9b31m\u202egnp.exe\nC2PA  valid"
    path = tmp_path / "a\x1b[31m.mp4"
    shutil.move(write_with_metadata(tmp_path / "a.mp4", picture, said), path)
    assert main(["verify", str(path)]) == 0
    told = capsys.readouterr().out
    assert r"AI-generated video \u001b[2J\u009b31m\u202egnp.exe\u000aC2PA  valid" in told
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", told)
    assert len(told.splitlines()) == 4
    assert main(["verify", str(path), "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["metadata"] == said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", told)
    path.write_bytes(b"no video")
    assert main(["verify", str(path)]) == 1
    assert r"a\u001b[31m.mp4 cannot be read" in capsys.readouterr().err


def write_with_metadata(path: Path, picture: np.ndarray, comment: str) -> Path:
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "missing.mp4")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no video file")


@pytest.mark.parametrize("command", [["animate", "p.png", "v.wav", "-o", "o.mp4"], ["serve"]])
def test_options_of_marks(command: list[str]) -> None:
    given = ["--no-watermark", "--visible-label", "--watermark-payload", "5", "--c2pa-cert", "c", "--c2pa-key", "k"]
    args = make_parser().parse_args([*command, *given])
    expected = MarkOptions(watermark=False, visible_label=True, watermark_payload=5, c2pa_cert="c", c2pa_key="k")
    assert read_options(args, MarkOptions) == expected
