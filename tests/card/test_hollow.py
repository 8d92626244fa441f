"""A hollow bundle has the graphs of a real one, and no weights on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.device.onnxruntime_cuda import onnxruntime_memory
from emo_rt.export.onnx_export import ExportOptions
from tests.card.hollow import hollow_bundle


@pytest.mark.slow
def test_a_hollow_bundle_takes_the_memory_of_a_real_one(tiny_bundle: Bundle, tmp_path: Path) -> None:
    options = ExportOptions(guidance=(True, False), check=False)
    hollow = hollow_bundle(tiny_bundle.config, tmp_path / "hollow", options)
    assert hollow.graphs == tiny_bundle.graphs
    for name in hollow.graphs:
        made, real = onnxruntime_memory(hollow, name), onnxruntime_memory(tiny_bundle, name)
        assert made.running == real.running
        # of equal tensors the tracer keeps one: 3 kB of a tiny graph's 54, nothing to speak of at full size
        assert made.weights == pytest.approx(real.weights, rel=0.1)
    stored = sum(file.stat().st_blocks * 512 for file in (hollow.path / "graphs").glob("*.bin"))
    assert stored < sum(file.stat().st_size for file in (hollow.path / "graphs").glob("*.bin"))
