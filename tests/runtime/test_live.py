"""A live session: pairs for ever, sound sample for sample, interruption, and the model's own frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    Animator,
    Avatar,
    LivePair,
    LiveSession,
)
from emo_rt.model.contract import Array
from tests.simulated_clock import SimulatedClock

RATE, FRAME, FPS, CLIP = 16_000, 640, 25, 4


def voice(frames: float, seed: int = 1, rate: int = RATE) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(frames * rate / FPS), np.float32)


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    return tiny_animator.prepare(picture, face_box="full")


Opened = Callable[..., LiveSession]


@pytest.fixture
def opened(tiny_animator: Animator, avatar: Avatar) -> Iterator[Opened]:
    """``opened(step_s=…, **options)``: a session by a clock of its own, ``session.clock``."""
    sessions = list[LiveSession]()

    def open_one(step_s: float = 0.005, **options: Any) -> LiveSession:
        clock = options.pop("clock", None) or SimulatedClock(step_s)
        given = {"steps": 2, **options}
        sessions.append(tiny_animator.live(avatar, clock=clock, progress=clock.step, **given))
        return clock.watch(sessions[-1])

    yield open_one
    for session in sessions:
        session.close()


def take(session: LiveSession, pairs: int) -> list[LivePair]:
    return list(islice(session, pairs))


def until_last(session: LiveSession, utterance: int) -> list[LivePair]:
    taken = list[LivePair]()
    for pair in session:
        taken.append(pair)
        if pair.is_last and pair.utterance == utterance:
            return taken
        assert len(taken) < 5_000, "the utterance does not end"
    raise AssertionError("the session has ended")


def sound(pairs: list[LivePair]) -> Array:
    return np.concatenate([pair.audio for pair in pairs])


def frames(pairs: list[LivePair]) -> Array:
    return np.stack([pair.frame for pair in pairs])


# What comes out


def test_it_idles_for_ever_in_the_pace_of_the_clock(opened: Opened) -> None:
    session = opened()
    clock = session._clock
    pairs = list[LivePair]()
    times = list[float]()
    for pair in islice(session, 100):
        pairs.append(pair)
        times.append(clock.now())
    np.testing.assert_allclose(np.diff(times), 1 / FPS, atol=1e-9)
    assert [pair.time_s for pair in pairs] == [index / FPS for index in range(100)]
    assert not any(pair.speaking or pair.is_last or pair.is_repeated for pair in pairs)
    assert all(pair.utterance is None and not pair.audio.any() for pair in pairs)
    assert pairs[0].frame.shape == (32, 32, 3)
    assert pairs[0].frame.dtype == np.uint8
    assert session.stats.late_frames == 0


def test_frames_are_those_of_a_stream_with_the_same_silence_in_front(
    opened: Opened, tiny_animator: Animator, avatar: Avatar
) -> None:
    session = opened(seed=5)
    pairs = take(session, 11)
    said = voice(21.3)
    for piece in np.array_split(said, 7):
        session.push(piece)
    session.flush()
    pairs += until_last(session, 0)
    pairs += take(session, 40)
    start = next(index for index, pair in enumerate(pairs) if pair.speaking)
    heard = sound(pairs)
    np.testing.assert_array_equal(heard[start * FRAME :][: len(said)], said)
    assert not heard[: start * FRAME].any() and not heard[start * FRAME + len(said) :].any()
    silent = np.zeros(20 * FRAME, np.float32)
    chunks = tiny_animator.stream(avatar, [heard, silent], steps=2, seed=5)
    expected = np.concatenate([chunk.frames for chunk in chunks])
    np.testing.assert_array_equal(frames(pairs), expected[: len(pairs)])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 11_025, 10_007])
def test_sound_comes_out_sample_for_sample(opened: Opened, rate: int) -> None:
    """Also where frames have no whole number of samples; then they alternate, and no pair is off by a sample."""
    session = opened(sample_rate=rate, steps=1)
    said = [voice(9.4, 1, rate), voice(14, 2, rate)]
    for one in said:
        for piece in np.array_split(one, 5):
            session.push(piece)
        session.flush()
    pairs = until_last(session, 1)
    ends = np.cumsum([len(pair.audio) for pair in pairs])
    np.testing.assert_array_less(abs(ends - np.arange(1, len(pairs) + 1) * rate / FPS), 1)
    for number, one in enumerate(said):
        own = sound([pair for pair in pairs if pair.utterance == number])
        np.testing.assert_array_equal(own[: len(one)], one)
        assert not own[len(one) :].any() and len(own) - len(one) < rate / FPS


def test_int16_is_the_same_sound(opened: Opened) -> None:
    session = opened(steps=1)
    said = (voice(6) * 32768).astype(np.int16)
    session.push(said)
    session.flush()
    own = sound([pair for pair in until_last(session, 0) if pair.speaking])
    np.testing.assert_array_equal(own[: len(said)], said / np.float32(32768))


def test_an_utterance_whose_end_is_told_late_still_has_one(opened: Opened) -> None:
    session = opened(steps=1)
    session.push(voice(5))
    taken = take(session, 30)
    assert sum(pair.speaking for pair in taken) == 5 and not any(pair.is_last for pair in taken)
    session.flush()
    session.flush()
    rest = until_last(session, 0)
    assert not rest[-1].speaking
    session.push(voice(3))
    session.flush()
    assert until_last(session, 1)[-1].speaking


# Interruption


def test_nothing_old_comes_out_after_clear(opened: Opened) -> None:
    session = opened(seed=3)
    session.push(voice(100))
    spoken = 0
    while spoken < 17:
        spoken += next(session).speaking
    assert session.clear() == pytest.approx(17 / FPS)
    assert session.clear() == 0
    assert not any(pair.speaking or pair.audio.any() or pair.utterance is not None for pair in take(session, 20))
    answer = voice(9, 7)
    session.push(answer)
    session.flush()
    own = sound([pair for pair in until_last(session, 1) if pair.speaking])
    np.testing.assert_array_equal(own, answer)
    assert session.stats.late_frames == session.stats.repeated_frames == 0
