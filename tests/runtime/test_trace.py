"""A trace is a valid file of Chrome's trace format, also on the CPU, and the command line writes one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emo_rt import Animator, Bundle, OutputError, Trace
from emo_rt.cli import main
from emo_rt.cli.demo import DEMO_PORTRAIT, DEMO_VOICE
from emo_rt.device.nvtx import marked


def test_times_are_microseconds_from_the_first_span() -> None:
    trace = Trace()
    trace.add("step", "denoise", 10.5, 0.25, clip=1)
    trace.add("clip", "denoise", 10.0, 0.5, clip=1)
    trace.add("decode", "decode", 10.75, 0.125)
    names, *_ = trace.to_dict()["traceEvents"]
    assert names == {"ph": "M", "name": "thread_name", "pid": 0, "tid": 0, "args": {"name": "denoise"}}
    spans = [event for event in trace.to_dict()["traceEvents"] if event["ph"] == "X"]
    assert [(span["name"], span["tid"], span["ts"], span["dur"]) for span in spans] == [
        ("clip", 0, 0.0, 5e5), ("step", 0, 5e5, 2.5e5), ("decode", 1, 7.5e5, 1.25e5),
    ]  # fmt: skip
    assert spans[0]["args"] == {"clip": 1}


def test_an_empty_trace_is_a_file_too(tmp_path: Path) -> None:
    Trace().save(tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the trace"):
        Trace().save(tmp_path / "nowhere" / "trace.json")


def test_a_run_on_the_cpu_is_traced(tiny_animator: Animator) -> None:
    trace = Trace()
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    avatar = tiny_animator.prepare(picture, face_box="full")
    sound = np.zeros(2 * 4 * 640, np.float32)
    tiny_animator.animate(avatar, sound, sample_rate=16_000, steps=2, trace=trace, paste_back=True).numpy()
    events = [event for event in trace.to_dict()["traceEvents"] if event["ph"] == "X"]
    assert {event["name"] for event in events} == {"audio", "clip", "step", "decode", "paste"}
    assert [event["args"]["clip"] for event in events if event["name"] == "step"] == [0, 1]


def test_the_command_line_writes_a_trace(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    arguments = [str(DEMO_PORTRAIT), str(DEMO_VOICE), "-o", str(tmp_path / "a.mp4"), "--face-box", "full", "-q"]
    arguments += ["--bundle", str(tiny_bundle.path)]
    assert main(["animate", *arguments, "--steps", "1", "--threads", "1", "--trace", str(out)]) == 0
    assert len(json.loads(out.read_text())["traceEvents"]) > 10


def test_profiler_ranges_are_optional() -> None:
    with marked("step"):
        pass
