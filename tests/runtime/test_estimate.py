"""What `Animator.estimate` predicts: its arithmetic, and that it makes real clips to find out."""

from __future__ import annotations

import itertools

import pytest

from emo_rt import AnimateOptions, Animator, ConfigError
from emo_rt.cli import demo
from emo_rt.runtime import estimate as estimating
from emo_rt.runtime.estimate import Pace, calibrate
from emo_rt.runtime.result import Video


def test_a_straight_line_in_length(tiny_animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "calibrate", lambda steps, make: Pace(2.0, 0.5, 0.1, 1_000_000))
    config = tiny_animator.config
    found = tiny_animator.estimate(10.0, steps=3)
    assert (found.frames, found.clips) == (10 * config.fps, 63)
    assert found.wall_s == pytest.approx(2.0 + 62 * 0.5 + 0.1)
    assert found.memory_bytes == 1_000_000 + 80 * found.frames
    assert found.frames_per_second == pytest.approx(found.frames / found.wall_s)
    assert tiny_animator.estimate(0.001).clips == 1


def test_a_straight_line_in_steps() -> None:
    few, more = Pace(2.0, 1.0, 0.1, 5), Pace(3.0, 1.5, 0.2, 7)
    assert few.onwards(more, 0) == Pace(2.0, 1.0, 0.2, 7)
    assert few.onwards(more, 1) == more
    assert few.onwards(more, 3) == Pace(5.0, 2.5, 0.2, 7)
    assert more.onwards(few, 9).first_s == 0


@pytest.mark.parametrize(
    ("steps", "asked"), [(2, [(1, 1), (5, 2)]), (12, [(1, 1), (5, 12)]), (40, [(1, 1), (5, 6), (5, 12)])]
)
def test_calibration_runs(steps: int, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(estimating, "pace_of", lambda video: Pace(float(video), 0.1 * video, 0.0, None))

    def make(clips: int, count: int) -> Video:
        made.append((clips, count))
        return count  # type: ignore[return-value]

    assert calibrate(steps, make).first_s == pytest.approx(steps)
    assert made == asked


def test_made_from_real_clips(tiny_animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th look at the clock says n² s: at the start, three times in the warm-up (its start, its clip, its end),
    then at 16 s for the start of the calibration, 25 … 64 s and 81 s for its clips, 100 s for its end."""
    looks = itertools.count()
    monkeypatch.setattr(estimating, "perf_counter", lambda: float(next(looks) ** 2))
    found = tiny_animator.estimate(2.0, options=AnimateOptions(steps=2))
    assert found.clips == 13
    assert found.first_frames_s == 25 - 16
    assert found.clip_s == 13 + 1  # median of 11, 13, 15 and 17
    assert found.wall_s == 9 + 12 * 14 + (100 - 81)
    assert found.calibration_s == 121
    assert found.memory_bytes is None or found.memory_bytes > 10_000_000


def test_of_an_avatar_with_its_picture(tiny_animator: Animator) -> None:
    avatar = tiny_animator.prepare(demo.DEMO_PORTRAIT, face_box=demo.DEMO_FACE)
    assert tiny_animator.estimate(1.0, avatar, steps=1).frames == 25
    tiny_animator.animate(avatar, demo.DEMO_VOICE, steps=1)  # the avatar is still there


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_impossible_lengths(tiny_animator: Animator, seconds: float) -> None:
    with pytest.raises(ConfigError, match="more than 0"):
        tiny_animator.estimate(seconds)
