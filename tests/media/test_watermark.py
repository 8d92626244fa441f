"""The watermark: its code, what it does to pictures, and what it outlasts."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import emo_rt
from emo_rt.errors import ConfigError, InputError
from emo_rt.media.marking.code import CODED_BITS, decode, encode
from emo_rt.media.marking.detector import Evidence, threshold
from emo_rt.media.marking.pattern import Pattern, laid_over
from emo_rt.media.marking.watermark import SIZES_KEPT, Watermark

ASSET = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
PAYLOAD = 0x1234_5678_9ABC
KEYS = 100
"""Wrong keys that are tried; `python -m emo_rt.benchmarks.watermark --keys 10000` tries as many as one likes."""

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """(25, 256, 256, 3): the portrait of the package, swaying by two pixels."""
    picture = Image.open(ASSET).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    shifts = 2 * np.sin(np.arange(25) / 4)
    moved = [
        picture.transform((256, 256), Image.Transform.AFFINE, (1, 0, float(by), 0, 1, 0), Image.Resampling.BICUBIC)
        for by in shifts
    ]
    return np.stack([np.asarray(one) for one in moved])


@pytest.fixture(scope="module")
def marked(frames: Frames) -> Frames:
    return emo_rt.mark(frames, options=emo_rt.MarkOptions(watermark_payload=PAYLOAD))


# The code


@given(st.integers(0, 2**48 - 1))
@settings(max_examples=20, deadline=None)
def test_every_payload_comes_back(payload: int) -> None:
    coded = encode(payload)
    assert coded.shape == (CODED_BITS,)
    assert set(coded.tolist()) <= {-1, 1}
    assert decode(coded.astype(float)) == payload


def test_payload_comes_back_with_a_sixth_of_the_bits_wrong() -> None:
    wrong = np.random.default_rng(3).permutation(CODED_BITS)[: CODED_BITS // 6]
    coded = encode(PAYLOAD).astype(float)
    coded[wrong] *= -1
    assert decode(coded) == PAYLOAD


def test_two_payloads_are_far_from_each_other() -> None:
    """The free distance of the code is 24."""
    for bit in range(48):
        assert np.count_nonzero(encode(PAYLOAD) != encode(PAYLOAD ^ 1 << bit)) >= 24


# The pattern


def test_pattern_stays_the_same_for_ever() -> None:
    """Whoever changes it cannot find the marks of earlier versions."""
    assert hashlib.sha256(Pattern("emo_rt").tile(PAYLOAD).astype(np.int8).tobytes()).hexdigest() == (
        "2d453f725c267581a19d457ab6b5e29fd042414b013bc05808deeb25719eccf2"
    )


@pytest.mark.parametrize(("height", "width"), [(256, 256), (64, 64), (300, 97), (1080, 1920)])
def test_pattern_fits_any_picture(height: int, width: int) -> None:
    laid = laid_over(Pattern().tile(0), height, width)
    assert laid.shape == (height, width)
    assert abs(laid.mean()) < 0.5
    assert laid.std() > 6
    assert (laid[-1].any(), laid[:, -1].any()) == (True, True)


# In the picture


def test_luma_alone_changes_and_hardly(frames: Frames, marked: Frames) -> None:
    change = marked.astype(int) - frames
    assert 1 <= np.abs(change).max() <= 3
    inside = (frames.min(axis=3) > 3) & (frames.max(axis=3) < 252)
    assert (np.ptp(change, axis=3)[inside] == 0).all()
    assert 10 * np.log10(255**2 / np.mean(change.astype(float) ** 2)) >= 42


def test_black_and_white_do_not_wrap_around() -> None:
    extremes = np.random.default_rng(0).choice(np.array([0, 1, 254, 255], np.uint8), (2, 96, 130, 3))
    change = Watermark()(extremes).astype(int) - extremes
    assert np.abs(change).max() <= 3


def test_a_frame_is_marked_in_the_same_way_alone(frames: Frames, marked: Frames) -> None:
    options = emo_rt.MarkOptions(watermark_payload=PAYLOAD)
    alone = [emo_rt.mark(frames[k : k + 1], k, options=options) for k in (0, 7)]
    assert np.array_equal(np.concatenate(alone), marked[[0, 7]])


@pytest.mark.parametrize("shape", [(64, 64), (97, 131), (250, 64), (65, 1000), (64, 70_000), (70_000, 64)])
def test_any_size(shape: tuple[int, int]) -> None:
    grey = np.full((2, *shape, 3), 128, np.uint8)
    change = emo_rt.mark(grey).astype(int) - 128
    assert np.abs(change).max() in (1, 2)
    assert (np.abs(change[:, -1]).max(), np.abs(change[:, :, -1]).max()) != (0, 0)


def test_small_pictures_and_no_frames() -> None:
    small = np.full((1, 63, 200, 3), 9, np.uint8)
    assert np.array_equal(emo_rt.mark(small), small)
    assert emo_rt.mark(small) is not small
    assert emo_rt.mark(np.zeros((0, 128, 128, 3), np.uint8)).shape == (0, 128, 128, 3)


def test_frames_that_are_not_contiguous(frames: Frames, marked: Frames) -> None:
    mirrored = frames[:, :, ::-1].copy()[:, :, ::-1]
    assert np.array_equal(emo_rt.mark(mirrored, options=emo_rt.MarkOptions(watermark_payload=PAYLOAD)), marked)


@pytest.mark.parametrize(
    ("frames", "given", "error"),
    [
        (np.zeros((4, 4, 3), np.uint8), {}, InputError),
        (np.zeros((1, 4, 4, 3), np.float32), {}, InputError),
        ([1], {}, InputError),
        (np.zeros((1, 4, 4, 3), np.uint8), {"start_index": -1}, ConfigError),
        (np.zeros((1, 4, 4, 3), np.uint8), {"fps": 0}, ConfigError),
        (np.zeros((1, 4, 4, 3), np.uint8), {"options": {}}, ConfigError),
    ],
)
def test_wrong_arguments(frames: Frames, given: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        emo_rt.mark(frames, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frames",
    [
        *(np.zeros(shape, np.uint8) for shape in ((1, 64, 64, 4), (64, 64, 3), (1, 0, 64, 3), (1, 64, 0, 3))),
        np.zeros((1, 64, 64, 3), np.float32),
        None,
    ],
)
def test_a_marker_takes_nothing_else(frames: Frames) -> None:
    marker = emo_rt.FrameMarker(emo_rt.MarkOptions(visible_label=True), 25)
    with pytest.raises(InputError, match=r"expected shape \(n, height, width, 3\), uint8"):
        marker(frames, 0)
    with pytest.raises(ConfigError, match=r"start_index is 0\.5"):
        marker(np.zeros((1, 64, 64, 3), np.uint8), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "given"), [("fps", (emo_rt.MarkOptions(), 0)), ("options", ({}, 25))])
def test_a_marker_of_wrong_options(name: str, given: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{name} is "):
        emo_rt.FrameMarker(*given)


def test_sessions_of_many_sizes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server: laying the pattern over a picture takes longer than marking a frame."""
    laid = list[tuple[int, int]]()
    real = Watermark._laid

    def counted(mark: Watermark, height: int, width: int) -> NDArray[np.int8]:
        laid.append((height, width))
        return real(mark, height, width)

    monkeypatch.setattr(Watermark, "_laid", counted)
    options = emo_rt.MarkOptions(watermark_key="many sizes")
    sides = [*range(64, 64 + 2 * SIZES_KEPT), 64]
    sessions = [(emo_rt.FrameMarker(options, 25), np.zeros((1, side, side, 3), np.uint8)) for side in sides]
    for index in range(3):
        for marker, frames in sessions:
            marker(frames, index)
    assert laid == [(side, side) for side in sides[:-1]]


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="watermark_payload"):
        emo_rt.MarkOptions(watermark_payload=2**48)
    with pytest.raises(ConfigError, match="both, or none"):
        emo_rt.MarkOptions(c2pa_cert="a.pem")


# Found again


def luma(frames: Frames) -> NDArray[np.uint8]:
    return np.rint(frames @ np.array([0.2126, 0.7152, 0.0722])).astype(np.uint8)


def evidence_of(pictures: NDArray[np.uint8]) -> Evidence:
    evidence = Evidence()
    for picture in pictures[::4]:
        evidence.add(picture)
    return evidence


@pytest.fixture(scope="module")
def evidence(marked: Frames) -> Evidence:
    return evidence_of(luma(marked))


def test_mark_is_found_with_its_payload(evidence: Evidence) -> None:
    seen = evidence.look_for(Pattern())
    assert seen.is_found
    assert seen.payload == PAYLOAD


def test_no_mark_is_not_found(frames: Frames) -> None:
    seen = evidence_of(luma(frames)).look_for(Pattern())
    assert (seen.is_found, seen.payload) == (False, None)


def test_wrong_keys_find_nothing(evidence: Evidence) -> None:
    """Noise is decoded to the payload that fits it best, which gives about 9."""
    best = np.array([evidence.look_for(Pattern(f"wrong {number}")).score for number in range(KEYS)])
    assert best.max() < threshold() - 0.3
    assert 8 < np.median(best) < 10


def test_a_picture_without_details_is_no_mark() -> None:
    assert not evidence_of(np.full((4, 128, 128), 90, np.uint8)).look_for(Pattern()).is_found
    assert not Evidence().look_for(Pattern()).is_found


def test_pictures_of_another_form_are_left_out(marked: Frames) -> None:
    evidence = evidence_of(luma(marked[:4]))
    evidence.add(np.zeros((64, 200), np.uint8))
    assert evidence.frames == 1


@pytest.mark.parametrize("shape", [(2, 2), (2, 2000), (900, 16)])
def test_odd_forms_are_looked_at(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (4, *shape), dtype=np.uint8)
    assert not evidence_of(noise).look_for(Pattern()).is_found


def test_found_at_half_size_and_in_a_part(marked: Frames) -> None:
    half = [np.asarray(Image.fromarray(frame).resize((128, 128), Image.Resampling.BICUBIC)) for frame in marked[::4]]
    assert evidence_of(luma(np.stack(half))).look_for(Pattern()).is_found
    cut = marked[:, 10:240, 22:252]
    seen = evidence_of(luma(cut)).look_for(Pattern())
    assert seen.payload == PAYLOAD


def test_found_where_the_picture_is_striped() -> None:
    """Stripes as wide as the pattern's cells are louder than it everywhere: only their own frequencies may suffer."""
    rows, columns = np.mgrid[0:256, 0:256]
    stripes = np.sin(2 * np.pi * (rows + 0.3 * columns) / 11) + np.sin(2 * np.pi * (columns - 0.2 * rows) / 13)
    grey = 128 + 20 * stripes + 5 * np.random.default_rng(0).standard_normal(stripes.shape)
    picture = np.rint(grey).astype(np.uint8)[None, ..., None].repeat(3, axis=3)
    marked = emo_rt.mark(picture, options=emo_rt.MarkOptions(watermark_payload=PAYLOAD))
    assert evidence_of(marked[..., 0]).look_for(Pattern()).payload == PAYLOAD
    assert not evidence_of(picture[..., 0]).look_for(Pattern()).is_found


def test_threads_do_not_share_what_they_work_in() -> None:
    sizes = [(64, 64), (96, 80), (130, 97), (96, 80)] * 4
    noise = [np.random.default_rng(k).integers(0, 256, (3, *size, 3), np.uint8) for k, size in enumerate(sizes)]
    mark = Watermark()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(mark, noise))
    assert all(np.array_equal(one, mark(frames)) for one, frames in zip(together, noise, strict=True))


def test_threshold() -> None:
    """By Hoeffding's bound, over 67 sizes, 128 × 128 offsets and 2^48 payloads, one in a million."""
    assert 67 * 128**2 * 2**48 * math.exp(-(threshold() ** 2) / 2) == pytest.approx(1e-6)
