"""A live session: pairs for ever, sound sample for sample, interruption, and the model's own frames."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    Animator,
    AudioError,
    Avatar,
    Bundle,
    ClosedError,
    ConfigError,
    LivePair,
    QueueFull,
)
from emo_rt.runtime.live.causal import RunningScale
from tests.live_sessions import (
    CLIP,
    CLIP_S,
    FPS,
    FRAME,
    RATE,
    Stage,
    Talker,
    delays,
    frames,
    noise_picture,
    sound,
    staged,
    take,
    until_last,
    voice,
)


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(noise_picture(), face_box="full")


@pytest.fixture
def stage(tiny_animator: Animator, avatar: Avatar) -> Iterator[Stage]:
    with staged(tiny_animator, avatar) as opened:
        yield opened


# What comes out


def test_it_idles_for_ever_in_the_pace_of_the_clock(stage: Stage) -> None:
    session = stage.open(steps=2)
    clock = stage.clock
    pairs = list[LivePair]()
    times = list[float]()
    for pair in islice(session, 60):
        pairs.append(pair)
        times.append(clock.now())
    np.testing.assert_allclose(np.diff(times), 1 / FPS, atol=1e-9)
    assert [pair.time_s for pair in pairs] == [index / FPS for index in range(60)]
    assert not any(pair.speaking or pair.is_last or pair.is_repeated for pair in pairs)
    assert all(pair.utterance is None and not pair.audio.any() for pair in pairs)
    assert pairs[0].frame.shape == (32, 32, 3)
    assert pairs[0].frame.dtype == np.uint8
    assert session.stats.late_frames == 0


def test_frames_are_those_of_a_stream_with_the_same_silence_in_front(
    stage: Stage, tiny_animator: Animator, avatar: Avatar
) -> None:
    session = stage.open(seed=5, steps=2)
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
    assert not heard[: start * FRAME].any()
    assert not heard[start * FRAME + len(said) :].any()
    silent = np.zeros(20 * FRAME, np.float32)
    chunks = tiny_animator.stream(avatar, [heard, silent], steps=2, seed=5)
    expected = np.concatenate([chunk.frames for chunk in chunks])
    np.testing.assert_array_equal(frames(pairs), expected[: len(pairs)])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 11_025, 10_007])
def test_sound_comes_out_sample_for_sample(stage: Stage, rate: int) -> None:
    """Also where frames have no whole number of samples; then they alternate, and no pair is off by a sample."""
    session = stage.open(sample_rate=rate, steps=1)
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
        assert not own[len(one) :].any()
        assert len(own) - len(one) < rate / FPS


def test_int16_is_the_same_sound(stage: Stage) -> None:
    session = stage.open(steps=1)
    said = (voice(6) * 32768).astype(np.int16)
    session.push(said)
    session.flush()
    own = sound([pair for pair in until_last(session, 0) if pair.speaking])
    np.testing.assert_array_equal(own[: len(said)], said / np.float32(32768))


def test_an_utterance_whose_end_is_told_late_still_has_one(stage: Stage) -> None:
    session = stage.open(steps=1)
    session.push(voice(5))
    taken = take(session, 30)
    assert sum(pair.speaking for pair in taken) == 5
    assert not any(pair.is_last for pair in taken)
    session.flush()
    session.flush()
    rest = until_last(session, 0)
    assert not rest[-1].speaking
    session.push(voice(3))
    session.flush()
    assert until_last(session, 1)[-1].speaking


# Interruption


def test_nothing_old_comes_out_after_clear(stage: Stage) -> None:
    session = stage.open(seed=3, steps=2)
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


def test_after_clear_the_model_goes_on_from_the_frames_that_were_shown_last(stage: Stage) -> None:
    """Their latents are the motion frames, whatever was made beyond them: so the head goes on without a jump."""
    session = stage.open(steps=2)
    recording = stage.record(session)
    started_at = stage.clock.now()
    pairs = take(session, 20)
    for number in range(5):
        session.push(voice(40, number))
        pairs += take(session, 15 + number)
        session.clear()
    pairs += take(session, 20)
    assert not any(pair.is_repeated for pair in pairs)
    anew = [clip for clip in recording.clips.values() if clip.resume is not None]
    assert len(anew) == 5
    shown = [pair.frame.tobytes() for pair in pairs]
    for clip in anew:
        first = round((clip.due - started_at) * FPS)
        before = [recording.latents[pixels] for pixels in shown[first - 2 : first]]
        np.testing.assert_array_equal(recording.motion[clip.index], np.stack(before))


@pytest.mark.parametrize(
    ("share", "offset", "most"),
    [*((0.4, offset, CLIP_S) for offset in range(0, 12, 2)), (0.7, 1, CLIP_S + 2 / FPS)],
)
def test_the_mouth_closes_within_one_clip(stage: Stage, share: float, offset: int, most: float) -> None:
    """The first clip that hears only silence begins less than a clip after the call, wherever that comes.

    ``share``: of what a clip lasts, that it takes. Where that is much of a clip of four frames, whole frames around it
    count for two.
    """
    stage.clock.step_s = share * CLIP_S / 2
    session = stage.open(steps=2)
    recording = stage.record(session)
    for _ in range(8):
        session.push(voice(1))
        next(session)
    take(session, offset)
    stage.clock.work_alone(0.01 * offset / 12)
    cleared_at = stage.clock.now()
    session.clear()
    take(session, 12)
    (shown,) = [clip.due for clip in recording.clips.values() if clip.resume is not None]
    assert shown - cleared_at <= most + 1e-6
    assert session.stats.repeated_frames == 0
    assert session.stats.late_frames == 0 or share > 0.5


# The queue


def test_a_full_queue_is_said(stage: Stage) -> None:
    session = stage.open(steps=1, queue_s=0.5, when_full="raise")
    session.push(voice(12))
    with pytest.raises(QueueFull, match=r"0\.20 s of sound are pushed, and 0\.48 s wait; at most 0\.5 s"):
        session.push(voice(5))
    session.flush()
    assert sum(pair.speaking for pair in until_last(session, 0)) == 12
    session.push(voice(5))
    session.flush()
    assert sum(pair.speaking for pair in until_last(session, 1)) == 5


def test_push_waits_for_room(stage: Stage) -> None:
    session = stage.open(steps=1, queue_s=0.5)
    said = voice(40)

    def say() -> None:
        session.push(said)
        session.flush()

    talker = threading.Thread(target=say)
    talker.start()
    pairs = until_last(session, 0)
    talker.join()
    np.testing.assert_array_equal(sound([pair for pair in pairs if pair.speaking]), said)
    assert session.stats.queued_s == 0


def test_clear_forgets_what_a_waiting_push_holds(stage: Stage) -> None:
    session = stage.open(steps=1, queue_s=0.5)
    talker = threading.Thread(target=lambda: session.push(voice(100)))
    talker.start()
    while not any(pair.speaking for pair in take(session, 4)):
        pass
    session.clear()
    talker.join()
    assert not any(pair.speaking for pair in take(session, 40))


def test_sound_that_is_none_is_refused_and_the_session_goes_on(stage: Stage) -> None:
    session = stage.open(steps=1)
    for wrong in (np.full(10, np.nan, np.float32), np.zeros((2, 3, 4), np.float32), np.array(["a"]), np.array(0.5)):
        with pytest.raises(AudioError):
            session.push(wrong)
    session.push(voice(3))
    session.flush()
    assert sum(pair.speaking for pair in until_last(session, 0)) == 3


@pytest.mark.parametrize(
    "wrong",
    [{"pace": "fast"}, {"idle": 1}, {"lag": "no"}, {"queue_s": 0}, {"sample_rate": 1}, {"unknown": 1}, {"loop_s": -1}],
    ids=str,
)
def test_settings_that_are_none_are_refused(tiny_animator: Animator, avatar: Avatar, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tiny_animator.live(avatar, **wrong)


# Ways to take pairs


def test_async_for_gives_pairs(tiny_animator: Animator, avatar: Avatar) -> None:
    """By the real clock, for half a second."""
    said = voice(6)

    async def talk() -> list[LivePair]:
        async with await asyncio.to_thread(tiny_animator.live, avatar, steps=1, queue_s=0.2) as session:
            pushing = asyncio.create_task(session.push_async(said))
            taken = list[LivePair]()
            async for pair in session:
                taken.append(pair)
                if pushing.done():
                    session.flush()
                if pair.is_last:
                    return taken
        raise AssertionError

    pairs = asyncio.run(talk())
    own = sound([pair for pair in pairs if pair.speaking])
    np.testing.assert_array_equal(own[: len(said)], said)


def test_as_soon_as_possible_speech_does_not_wait_for_the_clock(stage: Stage) -> None:
    session, clock = stage.open(steps=1, pace="asap"), stage.clock
    take(session, 3)
    begun = clock.now()
    session.push(voice(50))
    session.flush()
    until_last(session, 0)
    assert clock.now() - begun < 1.0  # two seconds of sound
    ahead = clock.now()
    next(session)
    assert clock.now() - ahead > 0.8  # silence is not made in advance
    session.push(voice(50))
    while not next(session).speaking:
        pass
    take(session, 20)
    session.clear()
    ahead = clock.now()
    take(session, 5)
    assert clock.now() - ahead < 6 / FPS  # what the transport had in front is forgotten there, too


def test_closing_ends_the_iteration(stage: Stage) -> None:
    session = stage.open(steps=1)
    session.push(voice(100))
    take(session, 5)
    stage.clock.end()
    session.close()
    session.close()
    assert list(session) == []
    for call in (lambda: session.push(voice(1)), session.flush, session.clear):
        with pytest.raises(ClosedError, match="live session was closed"):
            call()


def test_closing_wakes_who_waits(tiny_animator: Animator, avatar: Avatar) -> None:
    session = tiny_animator.live(avatar, steps=1)
    threading.Timer(0.2, session.close).start()
    assert len(list(session)) >= 1
    session.close()  # waits for the other one


def test_closing_the_animator_ends_its_live_sessions(tiny_bundle: Bundle) -> None:
    with Animator.load(tiny_bundle.path, device="cpu", threads=1, verify=False) as animator:
        session = animator.live(animator.prepare(noise_picture(), face_box="full"), steps=1)
        next(session)
    assert list(session) == []


def test_an_error_of_the_model_is_raised_to_whoever_takes_pairs(stage: Stage) -> None:
    session = stage.open(steps=1)
    take(session, 2)
    session._maker._fail(ZeroDivisionError("mine"))
    for call in (lambda: next(session), session.flush):
        with pytest.raises(ZeroDivisionError):
            call()


# The idle loop


def test_an_idle_loop_costs_nothing_and_turns_among_frames_that_were_made(stage: Stage) -> None:
    session = stage.open(steps=1, idle="loop", loop_s=0.48)
    take(session, 30)
    made = session._maker._next_index
    pairs = take(session, 200)
    assert session._maker._next_index == made
    shown = {pair.frame.tobytes() for pair in pairs}
    assert len(shown) == 12
    order = [sorted(shown).index(pair.frame.tobytes()) for pair in pairs]
    neighbours = {(a, b) for a, b in pairwise(order)}
    assert neighbours == {(b, a) for a, b in neighbours}  # each pair of neighbours is one of frames made in a row
    assert len(neighbours) == 2 * 11
    assert not any(pair.audio.any() for pair in pairs)


def test_speech_leaves_the_idle_loop_at_once_and_comes_whole(stage: Stage) -> None:
    session = stage.open(steps=1, idle="loop", loop_s=0.48, sample_rate=22_050)
    take(session, 60)
    said = voice(33.5, 1, 22_050)
    session.push(said)
    session.flush()
    pairs = until_last(session, 0)
    first = next(index for index, pair in enumerate(pairs) if pair.speaking)
    assert first <= 3
    np.testing.assert_array_equal(sound([pair for pair in pairs if pair.speaking])[: len(said)], said)
    take(session, 100)
    made = session._maker._next_index
    take(session, 100)
    assert session._maker._next_index == made  # it turns again
    assert session.stats.late_frames == 0


# What it says of itself


def test_latency_is_measured_by_part(stage: Stage) -> None:
    stage.clock.step_s = 0.02
    session = stage.open(steps=2)
    found = Talker(session, stage.clock).listen(6)
    latency = session.stats.latency
    assert list(latency) == ["total", "waiting", "queueing", "hearing", "denoising", "decoding", "buffered"]
    assert latency["denoising"].p50 == pytest.approx(0.04, abs=0.001)
    by_hand = np.nanmax(delays(found)[50:])
    assert latency["total"].p99 == pytest.approx(by_hand - 1 / FPS, abs=0.021)  # from a frame's last chunk of sound on
    parts = [latency[part].p50 for part in list(latency)[1:]]
    assert sum(parts) == pytest.approx(latency["total"].p50, abs=0.03)
    assert latency["total"].p99 < (CLIP + 3) / FPS + 0.06 + 0.04 * 1.2 + 0.1


# Models that hear whole files


@pytest.fixture
def hallo_stage(hallo_bundle: Bundle) -> Iterator[Stage]:
    with Animator.load(hallo_bundle.path, device="cpu", threads=1, verify=False) as animator:
        avatar = animator.prepare(noise_picture(), face_box="full", face=animator._model.family.anonymous)
        with staged(animator, avatar) as opened:
            yield opened


def test_a_model_that_hears_whole_files_talks_live_and_is_interrupted(hallo_stage: Stage) -> None:
    """Its motion frames are decoded and encoded again, as between any two clips."""
    session = hallo_stage.open(steps=1)
    said = voice(30)
    for piece in np.array_split(said, 9):
        session.push(piece)
    session.flush()
    pairs = until_last(session, 0)
    np.testing.assert_array_equal(sound([pair for pair in pairs if pair.speaking]), said)
    recording = hallo_stage.record(session)
    session.push(voice(60))
    take(session, 25)
    session.clear()
    take(session, 30)
    (anew,) = [clip for clip in recording.clips.values() if clip.resume is not None]
    assert anew.kept is not None
    assert session.stats.late_frames == 0


@pytest.mark.parametrize("level", [0.02, 0.3])
def test_the_running_scale_comes_to_that_of_the_whole_sound(level: float) -> None:
    waveform = (level * np.random.default_rng(1).standard_normal(20 * RATE) + 0.01).astype(np.float32)
    scale = RunningScale()
    scaled = np.concatenate([scale(frame, is_sound=True) for frame in waveform.reshape(-1, FRAME)])
    whole = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    end = slice(-RATE, None)
    assert np.linalg.norm(scaled[end] - whole[end]) < 0.2 * np.linalg.norm(whole[end])
    assert abs(scaled).max() < 20  # nothing is blown up where it begins
    silence = np.zeros(FRAME, np.float32)
    np.testing.assert_array_equal(scale(silence, is_sound=False), silence)
