"""Sound and picture of a file lie as players play them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emo_rt.evaluate import open_video

RATE, FPS = 16_000, 25


def written(path: Path, picture_late: float = 0.0, sound_late: float = 0.0) -> Path:
    """A second of black, and a click at 0.5 s of the sound; each starts so many seconds late."""
    sound = np.zeros((1, RATE), np.float32)
    sound[0, RATE // 2 : RATE // 2 + 800] = np.sin(np.arange(800) / 3)
    with av.open(str(path), "w") as file:
        picture, track = file.add_stream("libx264", rate=FPS), file.add_stream("pcm_s16le", rate=RATE)
        picture.width, picture.height, picture.pix_fmt, track.layout = 32, 32, "yuv420p", "mono"
        for index in range(FPS):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index + round(FPS * picture_late), Fraction(1, FPS)
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        block = av.AudioFrame.from_ndarray((sound * 30_000).astype(np.int16), format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, round(RATE * sound_late), Fraction(1, RATE)
        file.mux(track.encode(block))
        file.mux(track.encode(None))
    return path


@pytest.mark.parametrize(("picture_late", "sound_late"), [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.4, 0.2)])
def test_the_sound_counts_from_the_first_frame(tmp_path: Path, picture_late: float, sound_late: float) -> None:
    """Files that were cut without being encoded again start with one of the two: lips would seem late."""
    footage = open_video(written(tmp_path / "cut.mkv", picture_late, sound_late))
    assert footage.sound is not None
    click = np.flatnonzero(np.abs(footage.sound) > 0.3)[0] / RATE
    assert click == pytest.approx(0.5 + sound_late - picture_late, abs=2e-3)
    assert len(list(footage.frames())) == FPS


def test_a_sound_that_starts_after_the_picture_is_silence(tmp_path: Path) -> None:
    """However late it says it is: nobody makes room for an hour."""
    footage = open_video(written(tmp_path / "late.mkv", 0.0, 3600.0))
    assert footage.sound is not None
    assert not footage.sound[:RATE].any()
    assert len(footage.sound) <= 3 * RATE
