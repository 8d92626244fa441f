"""As :mod:`tests.batch.test_batch_long`, on a cluster: a thousand rows, and a thousand results."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle
from tests.batch.conftest import Manifest
from tests.batch.test_batch_long import check_two_kills, thousand
from tests.cluster.test_ray_batch import line


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_thousand_rows(tiny_bundle: Bundle, cluster: Any, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", manifest(*thousand(inputs))
    command = [*line(tiny_bundle, cluster, path, out), "--workers", "2"]
    check_two_kills(command, out, lambda worker: os.kill(worker, signal.SIGCONT))
