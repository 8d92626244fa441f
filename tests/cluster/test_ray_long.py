"""As :mod:`tests.batch.test_batch_long`, on a cluster: a thousand rows, and a thousand results."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from tests.batch.conftest import Manifest, events, results
from tests.batch.faults import running, seize, started, until
from tests.batch.test_batch_long import ROWS, check_videos, ended, thousand
from tests.cluster.test_ray_batch import line


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_thousand_rows(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    """Three of a hundred are bad; a worker and later the driver are killed while rows are in flight."""
    out, path = tmp_path / "out", manifest(*thousand(inputs))
    command = [*line(tiny_bundle, cluster, path, out), "--workers", "2"]
    with started(command) as driver:
        until(lambda: ended(out) > 200)
        worker = seize(out, lambda key: True)
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        until(lambda: ended(out) > 500)
        worker = seize(out, lambda key: True)
        assert worker is not None
        driver.kill()
        driver.wait()
        os.kill(worker, signal.SIGCONT)
        in_flight = len(running(out))
    assert 1 <= in_flight <= 2
    before = results(out)
    assert 500 < len(before) < ROWS
    with started(command) as driver:
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
