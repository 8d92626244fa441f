"""The benchmark of live sessions, by the real clock with a small model: what it counts, not how fast that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.benchmarks import live
from tests.live_sessions import LADDER, with_short_ladder

PARTS = ("waiting", "queueing", "hearing", "denoising", "decoding", "buffered")
FRAMES = 8


def test_it_measures_a_session(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = with_short_ladder(tiny_bundle.path, tmp_path / "bundle")
    command = ["--bundle", str(bundle), "--device", "cpu", "--threads", "1", "--presets", "best", "--frames"]
    assert live.main([*command, str(FRAMES)]) == 0
    line, result = capsys.readouterr().out.splitlines()
    assert line.startswith("best × 1: ")
    (row,) = json.loads(result)["rows"]
    assert (row["preset"], row["sessions"], row["frames"]) == ("best", 1, FRAMES)
    assert row["rungs_at_the_end"][0] in LADDER
    assert row["pusher_late_s"] >= 0
    assert set(row["seconds_per_clip"]) == set(row["held"]) == set(LADDER)
    (latency,) = row["latency_s"]
    assert set(latency) == {"total", *PARTS}
    for percentile in ("p50", "p90", "p99"):
        parts = [latency[part][percentile] for part in PARTS]
        assert min(parts) >= 0
        assert max(parts) <= latency["total"][percentile]
    assert sum(latency[part]["p50"] for part in PARTS) > 0
