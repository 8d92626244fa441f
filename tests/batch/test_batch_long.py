"""A thousand rows, three of a hundred bad, a worker and the driver killed: a thousand results."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.files import sha256_of
from tests.batch.conftest import Manifest, events, results, row, write_voice
from tests.batch.faults import running, seize, started, until

ROWS = 1000
PORTRAITS, VOICES = 10, 4


def thousand(inputs: Path) -> list[dict[str, Any] | str]:
    """Every 33rd row is bad, in one of three ways."""
    for number in range(PORTRAITS):
        (inputs / f"p{number}.png").write_bytes(DEMO_PORTRAIT.read_bytes() + bytes([number]))
    for number in range(VOICES):
        write_voice(inputs / f"v{number}.wav", 0.12, seed=number)
    rows: list[dict[str, Any] | str] = []
    for number in range(1, ROWS + 1):
        good = row(f"r{number}", portrait=f"p{number % PORTRAITS}.png", voice=f"v{number % VOICES}.wav")
        bad = [good | {"portrait": "none.png"}, good | {"steps": -1}, "{oops"][number // 33 % 3]
        rows.append(good if number % 33 or number > 990 else bad)
    return rows


def ended(out: Path) -> int:
    try:
        return (out / "results.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_thousand_rows(tiny_bundle: Bundle, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", manifest(*thousand(inputs))
    line = [str(path), "-o", str(out), "--bundle", str(tiny_bundle.path), "--device", "cpu", "--workers", "2"]
    check_two_kills(line, out)


def check_two_kills(line: list[str], out: Path, afterwards: Callable[[int], None] = lambda worker: None) -> None:
    """A worker and later the driver are killed while rows are in flight; the command again, and a thousand results.

    ``afterwards``: is given the worker that was stopped when the driver was killed.
    """
    with started(line) as driver:
        until(lambda: ended(out) > 200)
        worker = seize(out, lambda key: True)
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        until(lambda: ended(out) > 500)
        worker = seize(out, lambda key: True)
        assert worker is not None
        driver.kill()
        driver.wait()
        afterwards(worker)
        in_flight = len(running(out))
    assert 1 <= in_flight <= 2
    before = results(out)
    assert 500 < len(before) < ROWS
    with started(line) as driver:
        said, complaint = driver.communicate()
    assert driver.returncode == 1, complaint
    found = results(out)
    assert len(found) == ROWS
    assert Counter(result["status"] for result in found.values()) == {"ok": 970, "failed": 30}
    assert all(found[name] == result for name, result in before.items()), said
    check_videos(out, found)
    kinds = Counter(event["event"] for event in events(out))
    assert (kinds["died"], kinds["lost"], kinds["result"]) == (1, in_flight, ROWS)
    assert Counter(result["attempts"] for result in found.values())[2] == 1 + in_flight


def check_videos(out: Path, found: dict[str, dict[str, Any]]) -> None:
    """Whole, and no other file; the same inputs gave the same video."""
    good = [result for result in found.values() if result["status"] == "ok"]
    hashes = {f"videos/{file.name}": sha256_of(file) for file in (out / "videos").iterdir()}
    assert hashes == {result["output"]: result["sha256"] for result in good}
    by_voice = {(result["row"] % VOICES, result["sha256"]) for result in good}
    assert len(by_voice) == VOICES, json.dumps(sorted(by_voice))
