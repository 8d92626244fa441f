"""The benchmark of the watermark."""

from __future__ import annotations

from PIL import Image

from emo_rt.benchmarks.watermark import HALF, PORTRAIT, survival, wrong_keys
from emo_rt.media.marking.detector import threshold


def test_mark_outlasts_h264_at_half_size() -> None:
    row = survival("portrait", Image.open(PORTRAIT), 256, "head", [(23, 1.0, 0.0), (18, HALF, 0.0)])
    assert row.psnr >= 42
    assert [score[-1] for score in row.scores] == ["+", "+"]


def test_wrong_keys_are_not_found() -> None:
    assert 7 < wrong_keys(Image.open(PORTRAIT), 3)[-1] < threshold()
