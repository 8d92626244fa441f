"""Reports say what was measured, by what, and what was not; the command writes them whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt.cli import main
from emo_rt.errors import InputError, OutputError
from emo_rt.evaluate import METRICS, Against, Estimate, Footage, Report, evaluate, of_frames
from emo_rt.evaluate.assessment import Eyes
from emo_rt.evaluate.identity import ArcFaceRecogniser
from emo_rt.evaluate.page import GROUPS, report_page
from emo_rt.evaluate.report import PAPER, number, shown
from emo_rt.media.audio import open_audio
from emo_rt.media.video_file import VideoOptions, VideoWriter

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "emo_rt" / "assets" / "portrait.png"
FRAMES = 10


def still(name: str = "a|b.mp4") -> Footage:
    """The demo's portrait, trembling, with a tone."""
    from PIL import Image

    picture = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((160, 160)))
    frames = np.stack([np.roll(picture, index % 3, axis=1) for index in range(FRAMES)])
    tone = np.sin(np.arange(FRAMES * 640) / 10).astype(np.float32) * 0.5
    return of_frames(name, frames, 25, tone)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files."""
    folder = tmp_path_factory.mktemp("videos")
    footage = still()
    assert footage.sound is not None
    frames = np.stack(list(footage.frames()))
    for name in ("one", "two"):
        audio = open_audio(footage.sound, 16_000)
        with VideoWriter(
            folder / f"{name}.mp4", width=160, height=160, fps=25, audio=audio, options=VideoOptions()
        ) as w:
            w.write(frames)
    return folder


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate([still()], Against(portrait=PORTRAIT))


def test_a_report_says_what_and_by_what(report: Report) -> None:
    data = json.loads(report.json())
    assert data["schema"] == 1
    assert set(data["metrics"]) == set(METRICS)
    assert all(metric["definition"] and metric["source"] for metric in data["metrics"].values())
    assert all(len(network["sha256"]) == 64 for network in data["networks"])
    values = data["rows"][0]["values"]
    assert values["face_found"]["value"] == 100
    assert values["f_sim"] == {"missing": "needs an ArcFace network: --arcface FILE.onnx"}
    assert data["settings"]["portrait"] == "portrait.png"


def test_names_cannot_break_a_table(report: Report) -> None:
    rows = [line for line in report.markdown().splitlines() if line.startswith("| a")]
    assert rows[0].startswith("| a\\|b.mp4 |")


def test_what_one_row_has_is_measured(report: Report) -> None:
    """The first row lacks it, the second has it: the table must not say that nobody measured it."""
    row = report.rows[0]
    other = replace(row, name="other", values={**row.values, "fid": Estimate(3.0, 3.0, 3.0, 9)})
    text = replace(report, rows=[row, other]).markdown()
    assert "`fid` is not measured" not in text
    assert "`fvd` is not measured" in text


def test_numbers_for_people() -> None:
    assert [number(v) for v in (0, 0.00001, -0.0004, 0.1234, 0.9996, 1.234, 9.999, 12.34, 1234.5)] == [
        "0", "0", "-0.0004", "0.123", "1.00", "1.23", "10.0", "12.3", "1234",
    ]  # fmt: skip


def test_an_interval_without_width_is_not_shown() -> None:
    assert shown(Estimate(0.00001, 0.0, 0.00002, 5)) == "0"
    assert shown(Estimate(1.0, 0.9, 1.1, 5)) == "1.00 (0.900 … 1.10)"


def test_every_measure_is_on_the_page_and_in_the_documentation() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(METRICS)
    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in text] == []


def test_a_page_is_one_file_that_asks_for_nothing(report: Report) -> None:
    page = report_page(report, PORTRAIT)
    assert "data:video/mp4;base64," in page
    assert "data:image/jpeg;base64," in page
    assert page.count("</script>") == 2, "data must not end its script"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_rows_of_folders(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name: tmp_path / f"report.{name}" for name in ("json", "md", "html")}
    options = ["--json", str(outputs["json"]), "--markdown", str(outputs["md"]), "--html", str(outputs["html"])]
    command = ["evaluate", str(videos), "--against", str(videos), "--truth", str(videos), *options, "-q"]
    assert main(command) == 0
    data = json.loads(outputs["json"].read_text(encoding="utf-8"))
    kinds = [(row["name"], row["kind"], row["videos"]) for row in data["rows"]]
    assert kinds == [
        ("one.mp4", "video", 1), ("two.mp4", "video", 1), ("all videos", "set", 2),
        (videos.name, "against", 2), (videos.name, "truth", 2),
    ]  # fmt: skip
    own, other = data["rows"][2]["values"], data["rows"][3]["values"]
    assert own == other
    assert "20 samples" in own["e_fid_blendshapes"]["missing"]
    assert list(tmp_path.iterdir()) != []
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_nothing_is_written_where_a_report_cannot_be_made(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page comes last, and is what can fail: it encodes videos."""

    def fail(*_: Any) -> str:
        raise OutputError("a video cannot be encoded")

    monkeypatch.setattr("emo_rt.evaluate.page.report_page", fail)
    outputs = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md"), "--html", str(tmp_path / "a")]
    assert main(["evaluate", str(videos / "one.mp4"), *outputs, "-q"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_of_other_systems_are_looked_for_first(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not after minutes of work on one's own videos."""
    assert main(["evaluate", str(videos / "one.mp4"), "--against", "nowhere"]) == 1
    told = capsys.readouterr().err
    assert "there is no folder nowhere" in told
    assert "looking at" not in told


def test_a_video_without_a_portrait_in_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(PORTRAIT.read_bytes())
    report = evaluate([still("one.mp4")], Against(portrait=tmp_path))
    assert report.rows[0].values["identity"] == "the folder of portraits has none named one"


SYSTEMS = ("wav2lip", "sadtalker", "dreamtalk", "makeittalk", "diffused_heads", "hallo")
"""Those that the issue of the paper's table names, in that order."""


def test_six_systems_have_a_row_each_in_the_order_given(tmp_path: Path) -> None:
    """With stand-ins for their videos, each trembling more than the one before."""
    portrait = next(iter(still().frames()))
    for place, name in enumerate(("ours", *SYSTEMS)):
        (tmp_path / name).mkdir()
        frames = np.stack([np.roll(portrait, (index % 3) * (1 + place), axis=1) for index in range(8)])
        with VideoWriter(tmp_path / name / "video.mp4", width=160, height=160, fps=25) as writer:
            writer.write(frames)
    names = [str(tmp_path / name) for name in SYSTEMS]
    outputs = ["--json", str(tmp_path / "table.json"), "--markdown", str(tmp_path / "table.md")]
    assert main(["evaluate", str(tmp_path / "ours"), "--against", *names, *outputs, "-q"]) == 0
    rows = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["name"], row["kind"]) for row in rows[1:]] == [(name, "against") for name in SYSTEMS]
    assert len({tuple(row["values"]) for row in rows}) == 1, "the same measures, in the same order"
    for row in rows:
        jitter = row["values"]["jitter"]
        assert jitter["low"] < jitter["value"] < jitter["high"]
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("**")[1] for line in lines if line.startswith("| **")] == list(SYSTEMS)


def test_measures_of_the_paper_come_first_in_its_order(report: Report) -> None:
    found = {name: Estimate(2.0, 1.0, 3.0, 9) for name in reversed(PAPER)}
    row = replace(report.rows[0], name="ours", values={**report.rows[0].values, **found})
    lines = replace(report, rows=[row]).markdown().splitlines()
    assert lines[2] == "| | FID ↓ | LSE-C (SyncNet's confidence) ↑ | F-SIM ↑ | FVD ↓ | E-FID ↓ |"
    assert lines[4] == "| ours |" + " 2.00 (1.00 … 3.00) |" * 5
    assert report.markdown().startswith("| |"), "none of them was measured"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["evaluate"], 2, "there is nothing to evaluate"),
        (["evaluate", "nowhere.mp4"], 1, "there is no video file nowhere.mp4"),
        (["evaluate", "a.mp4", "--html", "nowhere/report.html"], 1, "there is no folder nowhere"),
        (["evaluate", "a.mp4", "--clip-frames", "0"], 2, "expected an integer, 1 or more"),
        (["evaluate", "--regression", "nowhere", "demo"], 2, "there is nothing to compare"),
        (["evaluate", "a.mp4", "--regression", "demo", "demo"], 2, "leave it out"),
        (["evaluate", "a.mp4", "--i3d", "nowhere.onnx"], 1, "--i3d expects an ONNX file"),
        (["evaluate", "a.mp4", "--expect", "equal"], 2, "--expect is for the gate"),
        (["evaluate", "a.mp4", "--least-psnr", "50"], 2, "--least-psnr is for the gate"),
        (["evaluate", "a.mp4", "--seed", "3"], 2, "--seed is for the gate"),
        (["evaluate", "--regression", "a.mp4", "b.mp4", "--threads", "1"], 2, "--threads is for a model"),
        (["evaluate", "a.mp4", "--json", "-", "--markdown", "-"], 2, "two reports shall go to -"),
        (["evaluate", "a.mp4", "--html", "x.html", "--markdown", "x.html"], 2, "two reports shall go to x.html"),
        (["evaluate", "a.mp4", "--html", ".", "--overwrite"], 1, ". is a folder"),
        (["evaluate", "--regression", "demo", "demo", "--against", "x"], 2, "--against adds rows"),
        (["evaluate", "--regression", "demo", "demo:fast"], 2, "--portrait and --voice"),
    ],
)
def test_wrong_calls_say_what_to_do(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert words in capsys.readouterr().err


def test_a_portrait_without_a_face_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="no face was found"):
        evaluate([still()], Against(portrait=tmp_path / "black.png"))


def test_f_sim_is_the_cosine_of_the_embeddings(tmp_path: Path) -> None:
    """With a random network of ArcFace's layout, against the same computed by hand."""
    from tests.model.test_identity import recogniser

    path = tmp_path / "arcface.onnx"
    recogniser(path, 8)
    footage, eyes = still(), Eyes(path)
    report = evaluate([footage], Against(portrait=PORTRAIT, arcface=path))
    assert [one.file for one in report.networks][-1] == "arcface.onnx"
    facts, reading = eyes.portrait(PORTRAIT), eyes.read(footage)
    seen = reading.embeddings["arcface"]
    seen = seen[np.isfinite(seen[:, 0])]
    assert len(seen) == 2  # five looks a second
    own = facts.embeddings["arcface"]
    expected = np.mean([float(one @ own) / (np.linalg.norm(one) * np.linalg.norm(own)) for one in seen])
    value = report.rows[0].values["f_sim"]
    assert not isinstance(value, str)
    assert value.value == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="there is no network"):
        ArcFaceRecogniser(tmp_path / "nowhere.onnx")
