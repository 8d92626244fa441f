"""The gate catches planted faults and passes a true equal; and quickly so, on drawn videos."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emo_rt.errors import ConfigError, InputError
from emo_rt.evaluate import Footage, of_frames, regression
from emo_rt.evaluate.assessment import Eyes
from emo_rt.evaluate.context import DLIB, Context
from emo_rt.evaluate.expression import e_fid, expressions
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS
from emo_rt.evaluate.options import Expect
from emo_rt.evaluate.pictures import psnr, ssim
from emo_rt.evaluate.regression import Change, Regression, _change, compare, is_worse
from emo_rt.evaluate.subject import Subject
from tests.evaluate.drawn import clip, drawn, footage, late_lips, true_frames

RNG = np.random.default_rng(0)
SECONDS = 1.6


@functools.cache
def seeing(*, who: bool = False) -> Eyes:
    """Opened once. ``who``: with the recogniser, which takes as long as all others together."""
    found = Eyes()
    if not who:
        found.recognisers.pop(DLIB, None)
    return found


@functools.cache
def first() -> Footage:
    """A, which is looked at once for all tests."""
    return footage(true_frames(5, SECONDS), "A", 5, SECONDS)


def gate(frames: NDArray[np.uint8], expect: Expect = "equal") -> Regression:
    return compare(first(), footage(frames, "B", 5, SECONDS), expect, eyes=seeing())


@functools.cache
def rounded() -> Footage:
    """One value of a thousand is off by one: what another engine's rounding does, and more."""
    true = true_frames(5, SECONDS)
    off = (true.astype(int) + (RNG.random(true.shape) < 0.001)).clip(0, 255).astype(np.uint8)
    return footage(off, "B", 5, SECONDS)


def noisy() -> NDArray[np.uint8]:
    true = true_frames(5, SECONDS)
    return (true + RNG.normal(0, 1.0, true.shape)).round().clip(0, 255).astype(np.uint8)


def repeating() -> NDArray[np.uint8]:
    """Every eighth frame, so that each of the five parts of a video of 1.6 s has one."""
    frames = true_frames(5, SECONDS).copy()
    frames[7::8] = frames[6:-1:8]
    return frames


@pytest.mark.parametrize("expect", ["equal", "quality"])
def test_a_true_equal_passes(expect: Expect) -> None:
    result = compare(first(), rounded(), expect, eyes=seeing())
    assert result.passed, result.verdict
    assert result.verdict.startswith("PASS: B")
    assert "\n" not in result.verdict


@pytest.mark.parametrize(
    ("fault", "expect", "words"),
    [
        (lambda: late_lips(3, 5, SECONDS), "quality", "lips 3 frames late (+120 ms)"),
        (lambda: late_lips(-3, 5, SECONDS), "equal", "lips 3 frames early (-120 ms)"),
        (repeating, "quality", "frozen frames"),
        (noisy, "equal", "worst frame"),
        (lambda: true_frames(5, SECONDS)[:-1], "equal", "39 frames instead of 40"),
    ],
    ids=["late lips", "early lips", "repeated frames", "noise", "a frame less"],
)
def test_a_planted_fault_is_caught(fault: Callable[[], NDArray[np.uint8]], expect: Expect, words: str) -> None:
    result = gate(fault(), expect)
    assert not result.passed
    assert words in result.verdict
    assert "**✗**" in result.markdown()
    assert json.loads(result.json())["passed"] is False


def test_another_person_is_caught() -> None:
    """In half a second: recognising takes long."""
    frames = drawn(clip(5, SECONDS).poses[:12], clip(1).identity)
    videos = of_frames("A", true_frames(5, SECONDS)[:12], 25), of_frames("B", frames, 25)
    result = compare(*videos, "quality", eyes=seeing(who=True))
    assert not result.passed
    assert "another face" in result.verdict


def test_without_faces_nothing_is_as_good() -> None:
    """Nothing was judged, so nothing passes; equal frames still are equal."""
    grey = [of_frames(name, np.full((6, 64, 64, 3), shade, np.uint8), 25) for name, shade in (("A", 90), ("B", 200))]
    judged = compare(*grey, "quality", eyes=seeing())
    assert not judged.passed
    assert "no face was found" in judged.verdict
    assert compare(grey[0], grey[0], "equal", eyes=seeing()).passed


@pytest.mark.parametrize("frames", [6, 12])
def test_a_short_video_is_in_step_with_itself(frames: int) -> None:
    """Six frames have no pairs at the far lags, and twelve have two, which always correlate by 1 or −1."""
    video = of_frames("short", true_frames(5, SECONDS)[10 : 10 + frames], 25)
    result = compare(video, video, "quality", eyes=seeing())
    assert result.passed, result.verdict
    assert next(check.value for check in result.checks if check.name == "lips late by, frames") == 0


def test_the_gate_takes_true_videos(tmp_path: Path) -> None:
    """E-FID is one of its measures where there is a truth."""
    from emo_rt.evaluate import Against
    from emo_rt.media.video_file import VideoWriter

    with VideoWriter(tmp_path / "true.mp4", width=160, height=160, fps=25) as writer:
        writer.write(true_frames(5, SECONDS)[:4])
    result = compare(first(), first(), "quality", Against(truth=tmp_path), eyes=seeing())
    assert result.missing["e_fid_blendshapes"].startswith("the true videos have 4 samples")
    often = replace(seeing().read(first()), blendshapes=np.concatenate([seeing().read(first()).blendshapes] * 3))
    context = Context(true_expressions=expressions(replace(often, sharpness=np.ones(len(often.blendshapes)))))
    change = _change(METRICS["e_fid_blendshapes"], *(e_fid(often, context) for _ in range(2)))
    assert isinstance(change, Change)
    assert change.change.value == 0
    assert change.before >= 0


def test_the_gate_compares_fid_and_fvd_where_there_are_enough() -> None:
    """With features as networks of few of them give. What cannot be compared is told."""
    features, grey = RNG.normal(0, 1, (300, 6)), of_frames("grey", np.full((6, 64, 64, 3), 90, np.uint8), 25)
    read = seeing().read(grey)
    readings = {
        name: replace(read, name=name, inception=features[:75] + shift, clips=features[:12] + shift)
        for name, shift in (("A", 0.2), ("B", 0.9))
    }
    context = Context(true_frames=features, true_clips=features)
    found = list(regression._changes(readings["A"], readings["B"], context))
    changes = {one.metric: one for one in found if isinstance(one, Change)}
    for name in ("fid", "fvd"):
        one = changes[name]
        assert one.change.value == pytest.approx(one.after - one.before)
        assert 0 < one.before < one.after
        assert one.change.low < one.change.value < one.change.high
    missing = dict(one for one in found if not isinstance(one, Change))
    assert missing["f_sim"] == "no face was found in the video"
    few = replace(readings["B"], inception=features[:11])
    again = dict(one for one in regression._changes(readings["A"], few, context) if not isinstance(one, Change))
    assert "11 samples" in again["fid"]


@pytest.mark.slow
def test_fid_and_fvd_from_pixels_to_the_gate(tmp_path: Path) -> None:
    """With small networks of few features; 72 frames are eight clips. What cannot be compared is told."""
    pytest.importorskip("onnx", reason="the small networks are written by onnx: pip install 'emo_rt[export]'")
    from emo_rt.evaluate import Against
    from emo_rt.media.video_file import VideoWriter
    from tests.evaluate.small_networks import pooled_networks

    true = RNG.integers(0, 256, (72, 48, 48, 3), dtype=np.uint8)
    (tmp_path / "true").mkdir()
    with VideoWriter(tmp_path / "true" / "true.mp4", width=48, height=48, fps=25) as writer:
        writer.write(true)
    networks = pooled_networks(tmp_path, ("inception", "i3d"))
    eyes, against = Eyes(**networks), Against(truth=tmp_path / "true", **networks)
    videos = [of_frames(name, (true * share).astype(np.uint8), 25) for name, share in (("A", 0.9), ("B", 0.6))]
    result = compare(*videos, "quality", against, eyes=eyes)
    changes = {one.metric: one for one in result.changes}
    for name in ("fid", "fvd"):
        moved = changes[name].change
        assert 0 < changes[name].before < changes[name].after, "darker is further from the truth"
        assert moved.low < moved.value < moved.high
        assert f"| {METRICS[name].title} |" in result.markdown()
    assert result.as_dict()["missing"]["lse_c"] == "no face was found in the video"
    short = compare(*(of_frames(one.name, true[:6], 25) for one in videos), "quality", against, eyes=eyes)
    assert "6 samples" in short.missing["fid"]
    assert "`fid` is not compared: the videos have 6 samples" in short.markdown()


def test_worse_is_what_is_surely_worse_by_more_than_it_may() -> None:
    metric = METRICS["frozen"]
    assert not is_worse(metric, Estimate(3.0, 2.0, 4.0, 5))  # less than the tolerance of 4 %
    assert not is_worse(metric, Estimate(6.0, -1.0, 12.0, 5))  # perhaps chance
    assert is_worse(metric, Estimate(6.0, 2.0, 12.0, 5))
    assert not is_worse(metric, Estimate(-6.0, -12.0, -2.0, 5))  # better
    assert is_worse(METRICS["lip_correlation"], Estimate(-0.2, -0.3, -0.1, 5))
    assert is_worse(METRICS["head_speed"], Estimate(-9.0, -12.0, -2.0, 5))  # a stiller head is another head


def test_psnr() -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    assert psnr(black, black) == 100
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 16) == pytest.approx(20 * np.log10(255 / 16), abs=1e-4)


def test_ssim_is_the_one_of_the_paper() -> None:
    """Against the formula with SciPy's Gaussian, cut to the part where the window fits."""
    ndimage = pytest.importorskip("scipy.ndimage")
    one, other = (RNG.integers(0, 256, (40, 52, 3), dtype=np.uint8) for _ in range(2))
    x, y = (picture @ np.array([0.299, 0.587, 0.114]) for picture in (one, other))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = ndimage.gaussian_filter(values, 1.5, truncate=3.4)
        return np.asarray(blurred[5:-5, 5:-5])

    spread_x, spread_y, shared = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2, mean(x * y) - mean(x) * mean(y)
    c_1, c_2 = 2.55**2, 7.65**2
    above = (2 * mean(x) * mean(y) + c_1) * (2 * shared + c_2)
    expected = np.mean(above / ((mean(x) ** 2 + mean(y) ** 2 + c_1) * (spread_x + spread_y + c_2)))
    assert ssim(one, other) == pytest.approx(float(expected), abs=1e-5)
    assert ssim(one, one) == pytest.approx(1)


def test_other_sizes_and_rates_cannot_be_compared() -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="expected one rate"):
        compare(of_frames("A", frames, 25), of_frames("B", frames, 30))
    with pytest.raises(InputError, match="expected the same"):
        compare(of_frames("A", frames, 25), of_frames("B", frames[:, :16], 25))


def test_what_a_side_may_be(tmp_path: object) -> None:
    assert Subject.parse("talking.mp4").video is not None
    assert Subject.parse("demo").is_model
    both = Subject.parse("demo:fast@openvino")
    assert (both.bundle, both.preset, both.backend) == ("demo", "fast", "openvino")
    assert Subject.parse("demo@onnxruntime").preset is None
    folder = f"{tmp_path}:quality"
    assert (Subject.parse(folder).bundle, Subject.parse(folder).preset) == (str(tmp_path), "quality")
    with pytest.raises(ConfigError, match="nothing to compare"):
        Subject.parse("nowhere:fast")
    with pytest.raises(ConfigError, match="--portrait"):
        both.footage(None)
