"""`emo-rt bench` and what it measures with: structure, sane relations and words; never how long something takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from emo_rt import Bundle, ConfigError
from emo_rt.benchmarks import bench, chart, cold_start, harness, overhead, report, scaling, streaming, throughput
from emo_rt.benchmarks.subject import Setting, Subject
from emo_rt.cli import main
from emo_rt.errors import InputError, OutputError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.runtime.clips import clip_sounds

pytestmark = pytest.mark.usefixtures("opened_once")
SHORT = {"steps": 2, "rounds": 1, "clips": 2, "threads": 1}


@pytest.fixture(scope="module")
def subject(tiny_bundle: Bundle) -> Iterator[Subject]:
    with Subject(Setting(bundle=str(tiny_bundle.path), **SHORT)) as found:  # type: ignore[arg-type]
        yield found


@pytest.fixture(scope="module")
def result(subject: Subject) -> dict[str, Any]:
    """Every scenario but the processes of the cold start, in plain values."""
    return asdict(bench.measure(subject.setting, tuple(name for name in bench.SCENARIOS if name != "cold_start")))


class TestHarness:
    def test_samples(self) -> None:
        samples = harness.Samples((3.0, 1.0, 2.0))
        assert (samples.median, samples.percentile(0), samples.percentile(100)) == (2.0, 1.0, 3.0)
        assert samples.spread().repetitions == 3

    def test_measure_warms_up(self) -> None:
        calls: list[int] = []
        samples = harness.measure(lambda: calls.append(1), rounds=3, warmup=2)
        assert (len(calls), len(samples.seconds)) == (5, 3)

    def test_interleaved_alternates(self) -> None:
        order: list[str] = []
        rounds = harness.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
        assert order == ["a", "b", "b", "a"]
        assert [set(times) for times in rounds] == [{"a", "b"}] * 2

    def test_environment_names_no_folder(self) -> None:
        stamp = harness.environment(3)
        assert stamp["threads"] == 3
        assert stamp["gemm_gflops"] > 0
        assert stamp["cpu"]
        assert str(Path.home()) not in json.dumps(stamp)

    def test_commit_is_that_of_the_checkout(self) -> None:
        found = harness.commit()
        assert found is None or re.fullmatch(r"[0-9a-f]{12}(-dirty)?", found)

    def test_peak_memory_is_that_of_the_block(self) -> None:
        with harness.PeakMemory() as memory:
            np.ones(50_000_000, np.uint8).sum()
        with harness.PeakMemory() as later:
            pass
        assert memory.value is None or later.value is None or memory.value > later.value + 30_000_000

    def test_files_that_are_no_results(self, tmp_path: Path) -> None:
        file = tmp_path / "r.json"
        with pytest.raises(InputError, match="cannot read"):
            harness.read_result(file, "bench")
        for content, word in (
            ("[]", "no result"),
            ('{"benchmark": "work"}', "no result"),
            ('{"benchmark": "bench", "schema": 99}', "schema 99"),
        ):
            file.write_text(content)
            with pytest.raises(InputError, match=word):
                harness.read_result(file, "bench")
        with pytest.raises(OutputError, match="cannot write"):
            harness.write_result(tmp_path / "no" / "r.json", {})


class TestScenarios:
    def test_result_is_json_with_a_schema(self, result: dict[str, Any], tiny_bundle: Bundle) -> None:
        assert json.loads(json.dumps(result)) == result
        assert (result["benchmark"], result["schema"]) == ("bench", harness.SCHEMA)
        assert result["speedup_vs_torch"] is None
        assert result["runtime_overhead"] == result["scenarios"]["overhead"]["overhead"]
        assert str(tiny_bundle.path) not in json.dumps(result)
        assert all("peak_rss_bytes" in scenario for scenario in result["scenarios"].values())

    def test_latency(self, result: dict[str, Any]) -> None:
        found = result["scenarios"]["latency"]
        assert 0 < found["min_s"] <= found["median_s"] <= found["p90_s"] <= found["max_s"]
        assert found["real_time_factor"] == pytest.approx(found["median_s"] / 0.16)

    def test_stream(self, result: dict[str, Any]) -> None:
        found = result["scenarios"]["stream"]
        assert found["clips"] == 2
        assert found["frames"] == 8
        assert found["clip_p50_s"] <= found["clip_p90_s"] <= found["clip_p99_s"]
        assert 0 <= found["late_frames"] <= 4

    def test_late_frames_are_counted_from_the_first(self) -> None:
        assert streaming.late_frames([5.0, 5.1, 5.2], [4, 4, 4], fps=25) == 0
        assert streaming.late_frames([5.0, 5.2, 5.3], [4, 4, 4], fps=25) == 1
        assert streaming.late_frames([5.0, 9.0], [4, 4], fps=25) == 4

    def test_audio_needed_is_what_the_first_clip_waits_for(self, subject: Subject) -> None:
        """The first clip is made once so much sound has come, and not one frame sooner."""
        config, sounds, received = subject.config, clip_sounds(subject.config), 0
        while not sounds.waiting:
            sounds.push(np.zeros(AUDIO_SAMPLE_RATE // config.fps, np.float32))
            received += 1
        assert streaming.audio_needed(config) == pytest.approx(received / config.fps)

    def test_stages_and_graphs(self, result: dict[str, Any]) -> None:
        found = result["scenarios"]["stages"]
        assert list(found["seconds"]) == ["reference", "audio", "clip", "step", "decode", "paste", "encode"]
        assert min(found["seconds"].values()) > 0
        assert found["graphs"]["step"]["runs"] == 2
        assert found["graphs"]["vae_decoder"]["runs"] == 2
        assert {"vae_encoder", "reference", "audio_encoder", "clip"} <= set(found["graphs"])

    def test_overhead_replays_the_launches_of_a_clip(self, result: dict[str, Any]) -> None:
        found = result["scenarios"]["overhead"]
        assert found["launches"] == 1 + 1 + 2 + 2  # audio, clip, steps, decoder batches
        assert found["smallest"] <= found["overhead"] <= found["largest"] < 1
        assert 0 < found["outside_graphs"] < 1
        assert set(found["slower_in_the_runtime"]) == {"audio_encoder", "clip", "step", "vae_decoder"}

    def test_a_replay_gives_the_same_pictures(self, subject: Subject) -> None:
        assert subject.recorder is not None
        with subject.recorder.recording() as recording:
            before = subject.animate().numpy().copy()
        recording.replay()
        assert len(recording.launches) == len(recording.graphs) == len(recording.seconds)
        assert np.array_equal(subject.animate().numpy(), before)

    def test_throughput_and_avatars(self, result: dict[str, Any]) -> None:
        offline = result["scenarios"]["throughput"]
        assert offline["frames"] == 8
        assert offline["frames_per_second"] == pytest.approx(8 / offline["wall_s"])
        rows = result["scenarios"]["avatars"]["rows"]
        assert [row["avatars"] for row in rows] == list(throughput.AVATARS)
        assert all(row["slowest_s"] <= row["wall_s"] for row in rows)

    def test_cold_start_in_a_fresh_process(self, subject: Subject) -> None:
        found = asdict(cold_start.cold_start(subject.setting, repetitions=1))
        assert set(cold_start.PHASES) < set(found)
        assert sum(found[name] for name in cold_start.PHASES) < found["process_s"]

    def test_no_recorder_no_overhead(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subject, "recorder", None)
        with pytest.raises(ConfigError, match="CPU only"):
            overhead.runtime_overhead(subject)


class TestReport:
    def test_tables(self, result: dict[str, Any]) -> None:
        text = report.as_text(result)
        for words in ("one clip, median", "Where the time of one clip goes", "Several avatars at once", "the ceiling"):
            assert words in text
        assert re.search(r"A video is made [\d.]+ times (faster|slower) than it plays \(25 fps\)\.", text)
        markdown = report.as_markdown(result)
        assert "| one clip, median | " in markdown
        rows = [line for line in markdown.splitlines() if line.startswith("|")]
        assert all(row.endswith("|") for row in rows)

    def test_compared_with_an_earlier_result(self, result: dict[str, Any]) -> None:
        earlier = json.loads(json.dumps(result))
        earlier["scenarios"]["latency"]["median_s"] *= 2
        earlier["scenarios"]["throughput"]["frames_per_second"] *= 2
        earlier["setting"]["steps"] = 40
        del earlier["scenarios"]["stream"]
        text = report.as_text(result, earlier)
        assert re.search(r"one clip, median .* 0\.50  better", text)
        assert re.search(r"video file: speed .* 0\.50  worse", text)
        assert re.search(r"time to the first frame .* -      -\n", text)
        assert "Not the same in both results: steps is 2, it was 40." in text

    @pytest.mark.parametrize(("value", "words"), [(2.0, "2.00 s"), (0.0456, "45.6 ms"), (0.00045, "0.450 ms")])
    def test_seconds(self, value: float, words: str) -> None:
        assert report.seconds(value) == words

    @pytest.mark.parametrize("ending", chart.FORMATS)
    def test_charts(self, result: dict[str, Any], tmp_path: Path, ending: str) -> None:
        file, bars = tmp_path / f"stages{ending}", report.stage_bars(result)
        chart.write(file, [*bars, ("a & b", 0.0)])
        text = file.read_text(encoding="utf-8")
        assert (ending == ".html") == text.startswith("<!doctype html>")
        drawing = ElementTree.fromstring(text[text.index("<svg") :])
        found = drawing.findall(f".//*[@fill='{chart.BAR}']")
        widths = [float(bar.attrib["width"]) for bar in found]
        longest = max(seconds for _, seconds in bars)
        room = chart.WIDTH - chart.LABEL - chart.VALUE
        assert widths == pytest.approx([max(room * seconds / longest, 1) for _, seconds in bars] + [1], abs=0.1)
        assert "a & b" in [text.text for text in drawing.iter() if text.text]


class TestCommand:
    def test_writes_everything(self, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = {name: tmp_path / f"out.{name}" for name in ("json", "markdown")}
        command = ["bench", "--bundle", str(tiny_bundle.path), "--quick", "--only", "latency,stages", "--threads", "1"]
        outputs = [f"--{name}={path}" for name, path in files.items()]
        assert main([*command, *outputs, "--chart", str(tmp_path / "out.svg")]) == 0
        printed = capsys.readouterr()
        assert "one clip, median" in printed.out
        assert printed.err.splitlines()[0] == "measuring: the machine"
        assert set(json.loads(files["json"].read_text())["scenarios"]) == {"latency", "stages"}
        assert (tmp_path / "out.svg").exists()
        assert main([*command, "--compare", str(files["json"]), "-q"]) == 0
        printed = capsys.readouterr()
        assert "ratio = now / before" in printed.out
        assert printed.err == ""

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--only", "speed"], "some of latency, stream"),
            (["--rounds", "0"], "1 to 1000"),
            (["--clips", "1"], "2 to 10000"),
            (["--fps", "0"], "more than 0"),
            (["--steps", "0"], "1 to 1000"),
            (["--against", "diffusers"], "torch"),
            (["--chart", "a.pdf"], ".html, .svg"),
            (["--chart", "a.svg", "--only", "latency"], "add stages"),
        ],
    )
    def test_wrong_values(self, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", *arguments]) == 2
        assert word in capsys.readouterr().err

    def test_needs_no_torch(self, tiny_bundle: Bundle) -> None:
        """But says how to get it where it is asked for."""
        program = (
            "import sys\n"
            "for name in ('torch', 'diffusers', 'transformers', 'onnx_ir'): sys.modules[name] = None\n"
            "from emo_rt.cli import main\n"
            "command = ['bench', '--bundle', sys.argv[1], '--quick', '-q']\n"
            "print('code', main([*command, '--only', 'latency']), file=sys.stderr)\n"
            "print('code', main([*command, '--against', 'torch']), file=sys.stderr)"
        )
        base = [sys.executable, "-c", program, str(tiny_bundle.path)]
        done = subprocess.run(base, capture_output=True, text=True, check=True)
        first, message, last = done.stderr.splitlines()
        assert (first, last) == ("code 0", "code 1")
        assert "pip install 'emo_rt[export]'" in message


class TestScaling:
    def test_sections(self, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scaling, "export", lambda config, folder: str(tiny_bundle.path))  # exports take a minute
        options = scaling._parser().parse_args(["--quick", "--steps", "2", "--threads", "1"])
        found = scaling.run(replace(scaling._plan(options), lengths=(1.0,)))
        assert list(found.sections) == list(scaling.SECTIONS)
        (row,) = found.sections["length"]
        assert isinstance(row, scaling.Length)
        assert row.frames == 25
        assert row.wall_predicted > 0
        assert scaling.tables(found).count("## ") == 4

    def test_wrong_arguments(self) -> None:
        for arguments in (["--only", "colour"], ["--steps", "0"], ["--lengths", "0"]):
            with pytest.raises(SystemExit) as caught:
                scaling.main(arguments)
            assert caught.value.code == 2
