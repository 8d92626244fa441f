"""The real cuda-core keeps to CUDA's rules with us: its checks run in a process of their own, which has the card."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.card.build import environment

CHECKS = Path(__file__).with_name("cuda_core_on_card.py")
ROOT = CHECKS.parents[2]


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="needs cuda-core")
def test_cuda_core_on_the_card(card_folder: Path, bundle_cache: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-header", str(CHECKS)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(card_folder, CARD_DEVICES="2"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
