"""The command line: what it writes, what it prints, how it fails and how it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import pty
from pathlib import Path

import pytest
from PIL import Image

from emo_rt import Animator, Bundle
from emo_rt.cli import animate as animate_command
from emo_rt.cli import demo, main, make_parser, terminal
from emo_rt.media.video_file import probe
from emo_rt.memory import peak_memory
from tests.cli.commands import Animate, failure

pytestmark = pytest.mark.usefixtures("opened_once")


class TestAnimate:
    def test_writes_a_video_and_a_receipt(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out.mp4"
        assert main(animate("-o", out)) == 0
        found, printed = probe(out), capsys.readouterr()
        assert (found.frames, found.width, found.codecs) == (10, 32, ("h264", "aac"))
        first, second = printed.out.splitlines()
        assert first.startswith(f"{out}: 10 frames, 0.40 s at 25 fps, 32x32, ")
        assert second.startswith("made with onnxruntime on cpu in ")
        assert "real-time factor" in second
        assert printed.err.count("\n") == 1
        assert "untrained" in printed.err

    def test_quiet_prints_no_receipt(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(animate("-o", tmp_path / "out.mp4", "-q")) == 0
        assert capsys.readouterr().out == ""

    def test_options_reach_the_run_and_the_encoder(
        self, animate: Animate, tmp_path: Path, tiny_animator: Animator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Animator, "load", lambda *_, **__: contextlib.nullcontext(tiny_animator))  # once for all
        videos = {}
        for name, more in {
            "plain": [],
            "same": [],
            "seed": ["--seed", "7"],
            "solver": ["--solver", "unipc"],
            "mode": ["--mode", "fast"],
            "guidance": ["--guidance", "1"],
            "interval": ["--guidance-interval", "0.5,1"],
            "head room": ["--head-room", "inf"],
            "long sound": ["--max-audio", "inf"],
            "speed": ["--speed", "1.5"],
            "crf": ["--crf", "40"],
            "unmarked": ["--no-generated-mark"],
        }.items():
            videos[name] = tmp_path / f"{name}.mp4"
            assert main(animate("-o", videos[name], *more)) == 0
        content = {name: path.read_bytes() for name, path in videos.items()}
        assert content.pop("same") == content.pop("long sound") == content["plain"]
        assert content.pop("mode") == content["solver"], "the mode's solver, and the steps that were given"
        assert len(set(content.values())) == len(content)
        assert "AI-generated" in probe(videos["plain"]).metadata["comment"]
        assert "comment" not in probe(videos["unmarked"]).metadata

    def test_whole_picture_or_only_the_square(self, animate: Animate, tmp_path: Path) -> None:
        wide = tmp_path / "wide.png"
        Image.new("RGB", (200, 100), "grey").save(wide)
        sizes = {}
        for name, more in {"whole": [], "square": ["--no-paste-back"], "small": ["--max-side", "100"]}.items():
            out = tmp_path / f"{name}.mp4"
            assert main(animate("-o", out, *more, portrait=wide, box="80,20,120,70")) == 0
            sizes[name] = (probe(out).width, probe(out).height)
        assert sizes == {"whole": (200, 100), "square": (32, 32), "small": (100, 50)}

    def test_frames_beside_the_video(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, frames = tmp_path / "out.mp4", tmp_path / "frames"
        assert main(animate("-o", out, "--frames-dir", frames)) == 0
        assert (probe(out).frames, len(list(frames.glob("*.png")))) == (10, 10)
        assert str(frames) in capsys.readouterr().out

    def test_frames_alone(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(animate("--frames-dir", tmp_path / "frames")) == 0
        assert len(list((tmp_path / "frames").iterdir())) == 10
        assert capsys.readouterr().out.startswith(f"{tmp_path / 'frames'}: 10 frames")

    def test_existing_video_is_kept_unless_told(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out.mp4"
        out.write_text("precious")
        assert "--overwrite" in failure(capsys, animate("-o", out), 1)
        assert out.read_text() == "precious"
        assert main(animate("-o", out, "--overwrite")) == 0
        assert probe(out).frames == 10

    def test_never_overwrites_its_own_input(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out.mp4"
        assert main(animate("-o", out)) == 0
        capsys.readouterr()
        before = out.read_bytes()
        assert "own input" in failure(capsys, animate("-o", out, "--overwrite", audio=out), 1)
        assert "own input" in failure(capsys, animate("-o", tmp_path / "b.mp4", "--trace", out, audio=out), 1)
        assert out.read_bytes() == before


class TestFailures:
    def test_missing_inputs(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out.mp4"
        assert "no picture" in failure(capsys, animate("-o", out, portrait=tmp_path / "no.png"), 1)
        assert "no sound file" in failure(capsys, animate("-o", out, audio=tmp_path / "no.wav"), 1)
        assert not out.exists()

    def test_unreadable_inputs(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = tmp_path / "text.txt"
        text.write_text("not a picture, not a sound")
        assert "read as a picture" in failure(capsys, animate("-o", tmp_path / "a.mp4", portrait=text), 1)
        assert "read as sound" in failure(capsys, animate("-o", tmp_path / "a.mp4", audio=text), 1)

    def test_a_sound_that_is_too_long(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = failure(capsys, animate("-o", tmp_path / "a.mp4", "--max-audio", "0.3"), 1)
        assert "longer than 0.3 s (it has 0.4 s or more)" in line
        assert "max_audio_s is 0.0; expected more than 0" in failure(
            capsys, animate("--max-audio", "0", "-o", "a.mp4"), 2
        )

    def test_no_face(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        empty = tmp_path / "empty.png"
        Image.new("RGB", (96, 96), "green").save(empty)
        line = failure(capsys, animate("-o", tmp_path / "a.mp4", portrait=empty, box=""), 1)
        assert "no face found" in line
        assert "--face-box" in line

    def test_missing_folders(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        nowhere = tmp_path / "nowhere"
        assert "no folder" in failure(capsys, animate("-o", nowhere / "a.mp4"), 1)
        assert "no folder" in failure(capsys, animate("--frames-dir", nowhere / "frames"), 1)

    def test_frames_folder_is_not_emptied(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = failure(capsys, animate("-o", tmp_path / "a.mp4", "--overwrite", "--frames-dir", tmp_path), 1)
        assert "not an empty folder" in line
        assert not (tmp_path / "a.mp4").exists()

    @pytest.mark.parametrize(
        ("more", "word"),
        [
            ([], "-o OUT.mp4"),
            (["-o", "a.avi"], ".mp4"),
            (["-o", "a.mp4", "--device", "gpu"], "one of auto, cpu, cuda, cuda:N"),
            (["-o", "a.mp4", "--steps", "0"], "1 to 1000"),
            (["-o", "a.mp4", "--steps", "many"], "--steps"),
            (["-o", "a.mp4", "--mode", "best"], "one of quality, balanced, fast, realtime"),
            (["-o", "a.mp4", "--guidance-interval", "0.5"], "two numbers"),
            (["-o", "a.mp4", "--guidance-interval", "0.8,0.2"], "0 ≤ first < last ≤ 1"),
            (["-o", "a.mp4", "--deep-cache", "2"], "export it with --deep-cache"),
            (["-o", "a.mp4", "--head-room", "-1"], "0 or more"),
            (["-o", "a.mp4", "--guidance", "-1"], "0 … 50"),
            (["-o", "a.mp4", "--speed", "nan"], "0 … 3"),
            (["-o", "a.mp4", "--motion-scale", "1,2"], "pose,face,lips"),
            (["-o", "a.mp4", "--face-box", "1,2,3"], "left,top,right,bottom"),
            (["-o", "a.mp4", "--crf", "99"], "0 to 51"),
            (["-o", "a.mp4", "--threads", "0"], "1 to 1024"),
            (["-o", "a.mp4", "--frobnicate"], "--frobnicate"),
        ],
    )
    def test_wrong_values(
        self, animate: Animate, more: list[str], word: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert word in failure(capsys, animate(*more), 2)

    def test_unavailable_device(self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "cpu" in failure(capsys, animate("-o", tmp_path / "a.mp4", "--backend", "tensorrt"), 1)

    def test_unusable_bundles(self, bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no bundle" in failure(capsys, ["info", str(tmp_path)], 1)
        manifest = bundle_copy / "emo_rt.json"
        content = json.loads(manifest.read_text(encoding="utf-8"))
        manifest.write_text(json.dumps({**content, "schema": 99}), encoding="utf-8")
        assert "update emo_rt" in failure(capsys, ["info", str(bundle_copy)], 1)
        manifest.write_text(json.dumps(content), encoding="utf-8")
        weights = next((bundle_copy / "graphs").glob("*.bin"))
        weights.write_bytes(b"\1" + weights.read_bytes()[1:])
        assert "hash" in failure(capsys, ["info", str(bundle_copy)], 1)

    def test_a_bug_is_one_line_with_a_hint(
        self, animate: Animate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(_: object) -> None:
            raise RuntimeError("first line\nsecond line")

        monkeypatch.setattr(animate_command, "run", broken)
        line = failure(capsys, animate("-o", "a.mp4"), 1)
        assert "RuntimeError: first line second line" in line
        assert "--debug" in line
        assert main(animate("-o", "a.mp4", "--debug")) == 1
        traceback = capsys.readouterr().err
        assert traceback.startswith("Traceback")
        assert "--debug shows" not in traceback


class TestProgress:
    def test_no_bar_without_a_terminal(
        self, animate: Animate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(animate("-o", tmp_path / "a.mp4")) == 0
        seen = capsys.readouterr().err
        assert "\r" not in seen
        assert "animating" not in seen

    @pytest.mark.parametrize(("more", "drawn"), [((), True), (("-q",), False)])
    def test_bar_on_a_terminal(self, animate: Animate, tmp_path: Path, more: tuple[str, ...], drawn: bool) -> None:
        screen, side = pty.openpty()
        try:
            with open(side, "w", encoding="utf-8") as terminal_side, contextlib.redirect_stderr(terminal_side):
                assert main(animate("-o", tmp_path / "a.mp4", *more)) == 0
                terminal_side.write("end")
                terminal_side.flush()
                seen = os.read(screen, 100_000).decode().removesuffix("end")
        finally:
            os.close(screen)
        assert ("animating [" in seen) is drawn
        assert ("100 %" in seen) is drawn
        assert not drawn or seen.endswith("\r")

    def test_words(self) -> None:
        assert [terminal.size(n) for n in (0, 999, 2_155_744, 3_000_000_000)] == [
            "0 bytes",
            "999 bytes",
            "2.2 MB",
            "3.0 GB",
        ]
        assert [terminal.duration(s) for s in (4.84, 725, 7380)] == ["4.8 s", "12 min 05 s", "2 h 03 min"]
        assert (peak_memory() or 0) > 10_000_000


class TestDemo:
    def test_receipt(
        self, bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without looking for a face: the demo knows where it is. README's first command runs the packaged model."""
        monkeypatch.setattr("emo_rt.runtime.preparation.locate", None)
        bundle_copy.rename(tmp_path / "demo")  # a folder of that name goes before it
        monkeypatch.chdir(tmp_path)
        out = tmp_path / "demo.mp4"
        assert main(["demo", "-o", str(out), "--steps", "1", "--threads", "1"]) == 0
        found, printed = probe(out), capsys.readouterr()
        assert found.audio_duration_s is not None
        assert abs(found.video_duration_s - found.audio_duration_s) <= 0.5 / found.fps
        first, *rows = printed.out.splitlines()
        assert first.startswith(f"{out}: {found.frames} frames")
        receipt = {row[:11].strip(): row[13:] for row in rows}
        untrained = Bundle.open("demo").is_untrained
        assert list(receipt) == [
            "backend",
            "time",
            "stages",
            "solver loop",
            "peak memory",
            *(["picture"] * untrained),
            "next",
        ]
        assert receipt["backend"] == "onnxruntime on cpu"
        assert all(stage in receipt["stages"] for stage in ("audio", "clip", "step", "decode"))
        assert receipt["next"].startswith("emo-rt animate ")
        assert ("untrained" in printed.err) is untrained

    def test_assets_are_small(self) -> None:
        assert demo.DEMO_PORTRAIT.stat().st_size < 200_000
        assert demo.DEMO_VOICE.stat().st_size < 200_000


class TestInfo:
    def test_for_people(self, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(tiny_bundle.path)]) == 0
        text = capsys.readouterr().out
        for words in (
            "32x32 pixels, 25 fps",
            "every hash verified",
            "40 steps",
            "Apache-2.0",
            "untrained",
            "allowed 1e-04",
        ):
            assert words in text
        assert all(name in text for name in tiny_bundle.graphs)

    def test_for_programs(self, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(tiny_bundle.path), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["schema"] == 1
        assert report["bytes"] == tiny_bundle.size_bytes
        assert report["parity"]["worst"]["relative"] <= report["parity"]["worst"]["bound"]
        graphs = {graph["name"]: graph for graph in report["graphs"]}
        assert list(graphs) == list(tiny_bundle.graphs)
        assert graphs["step"]["inputs"] == len(tiny_bundle.graphs["step"].inputs)
        assert {f"graphs/{name}" for name in graphs["step"]["weight_files"]} < set(tiny_bundle.files)
        assert graphs["step"]["variant"] == report["presets"]["quality"]["variant"] == "base"

    def test_bundle_that_was_not_compared(self, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        manifest = bundle_copy / "emo_rt.json"
        content = json.loads(manifest.read_text(encoding="utf-8"))
        manifest.write_text(json.dumps({**content, "parity": []}), encoding="utf-8")
        assert main(["info", str(bundle_copy)]) == 0
        assert "not compared with torch" in capsys.readouterr().out


class TestHelp:
    @pytest.mark.parametrize("name", ["demo", "animate", "export", "build", "info", "doctor", "bench"])
    def test_every_option_says_its_default(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        (commands,) = (action.choices for action in make_parser()._actions if isinstance(action.choices, dict))
        taking = [action for action in commands[name]._actions if action.option_strings and action.nargs != 0]
        with_default = [action for action in taking if action.default is not None]
        assert [action.dest for action in with_default if "(default: " not in str(action.help)] == []
        assert main([name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "None" not in text
        for value in (action.default for action in with_default if "(default: %(default)s" in str(action.help)):
            assert f"(default: {value}" in text

    def test_alone_prints_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "emo-rt demo" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        from emo_rt import __version__

        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"emo-rt {__version__}\n"
