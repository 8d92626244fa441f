"""Videos and streams of the front door: lengths, files, and a stream gives the frames of the whole."""

from __future__ import annotations

import itertools
import threading
import time
import wave
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_rt import (
    Animator,
    AudioError,
    Avatar,
    Box,
    Cancelled,
    OutputError,
    Progress,
)
from emo_rt.cli.demo import DEMO_VOICE
from emo_rt.model.contract import Array
from tests.animations import (
    CLIP,
    FACE,
    FRAME,
    RATE,
    frames_of,
    joined,
    picture,
    slow_examples,
    voice,
)

PATIENCE_S = 20.0
pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(picture(), face_box=FACE)


# Lengths


@pytest.mark.parametrize(
    "samples", [1, FRAME // 2 - 1, FRAME // 2 * 3, CLIP - 1, CLIP, CLIP + FRAME // 2 - 1, CLIP + FRAME // 2, 9000]
)
def test_the_video_is_as_long_as_the_sound(tiny_animator: Animator, avatar: Avatar, samples: int) -> None:
    video = tiny_animator.animate(avatar, voice(samples), sample_rate=RATE, steps=1)
    assert len(video.numpy()) == video.frame_count == max(1, (samples + FRAME // 2) // FRAME)
    assert abs(video.duration_s - samples / RATE) <= 0.5 / video.fps + 1e-9 or video.frame_count == 1


@slow_examples
@given(rate=st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000]), seconds=st.floats(0.01, 0.6))
def test_the_length_is_known_before_at_any_rate(
    tiny_animator: Animator, avatar: Avatar, rate: int, seconds: float
) -> None:
    sound = voice(max(1, round(rate * seconds)))
    video = tiny_animator.animate(avatar, sound, sample_rate=rate, steps=1)
    assert len(video.numpy()) == video.frame_count
    assert len(joined(tiny_animator.stream(avatar, [sound], sample_rate=rate, steps=1))) == video.frame_count


def test_chunks_follow_each_other_in_time(tiny_animator: Animator, avatar: Avatar) -> None:
    video = tiny_animator.animate(avatar, voice(2 * CLIP + FRAME), sample_rate=RATE, steps=1)
    chunks = [(chunk.index, chunk.start_s, len(chunk.frames)) for chunk in video.chunks()]
    assert chunks == [(0, 0.0, 4), (1, 0.16, 4), (2, 0.32, 1)]


def test_chunks_keep_their_frames_while_later_ones_are_made(tiny_animator: Animator, avatar: Avatar) -> None:
    video = tiny_animator.animate(avatar, voice(8 * CLIP), sample_rate=RATE, steps=1)
    kept, copies = [], []
    for chunk in video.chunks():
        kept.append(chunk.frames)
        copies.append(chunk.frames.copy())
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(copies))


# Video


def test_each_pass_over_a_video_gives_the_same(tiny_animator: Animator, avatar: Avatar) -> None:
    video = tiny_animator.animate(avatar, voice(3 * CLIP), sample_rate=RATE, steps=2)
    first = joined(video.chunks())
    np.testing.assert_array_equal(joined(video.chunks()), first)
    np.testing.assert_array_equal(np.stack(list(video.frames())), first)
    assert first.dtype == np.uint8
    assert first.shape == (12, video.height, video.width, 3)


@pytest.mark.parametrize(("paste_back", "size"), [(None, (48, 64)), (True, (48, 64)), (False, (32, 32))])
def test_the_square_is_pasted_back_into_a_larger_picture(
    tiny_animator: Animator, paste_back: bool | None, size: tuple[int, int]
) -> None:
    portrait = picture(64, 48)
    there = tiny_animator.prepare(portrait, face_box=Box(16, 20, 32, 38))
    video = tiny_animator.animate(there, voice(CLIP), sample_rate=RATE, steps=1, paste_back=paste_back)
    frames = video.numpy()
    assert (video.width, video.height) == size
    assert frames.shape == (4, size[1], size[0], 3)
    if paste_back is not False:
        np.testing.assert_array_equal(frames[:, -1, -1], np.repeat(portrait[None, -1, -1], 4, 0))


def test_a_square_picture_is_not_pasted_by_default(tiny_animator: Animator, avatar: Avatar) -> None:
    assert avatar.portrait.covers_picture
    assert frames_of(tiny_animator, avatar).shape[1:3] == (32, 32)


def test_statistics_of_a_run(tiny_animator: Animator, avatar: Avatar) -> None:
    video = tiny_animator.animate(avatar, voice(3 * CLIP), sample_rate=RATE, steps=2, paste_back=True)
    assert video.stats is None
    video.numpy()
    assert video.stats is not None
    assert video.stats.frames == 12
    assert set(video.stats.stages) == {"audio", "clip", "step", "decode", "paste"}
    assert all(0 < seconds <= video.stats.wall_s for seconds in video.stats.stages.values())


def test_a_video_is_saved(tiny_animator: Animator, avatar: Avatar, tmp_path: Path) -> None:
    stats = tiny_animator.animate(avatar, voice(CLIP), sample_rate=RATE, steps=1).save(tmp_path / "out.mp4")
    assert stats.frames == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_frames_are_saved(tiny_animator: Animator, avatar: Avatar, tmp_path: Path) -> None:
    stats = tiny_animator.animate(avatar, voice(CLIP), sample_rate=RATE, steps=1).save_frames(tmp_path / "frames")
    assert stats.frames == len(list((tmp_path / "frames").iterdir())) == 4


def test_a_missing_folder_is_named_before_anything_runs(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path
) -> None:
    steps: list[Progress] = []
    video = tiny_animator.animate(avatar, voice(CLIP), sample_rate=RATE, steps=1, progress=steps.append)
    with pytest.raises(OutputError, match="nowhere"):
        video.save(tmp_path / "nowhere" / "out.mp4")
    assert steps == []


def write_wav(path: Path, samples: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((voice(samples) * 32767).astype(np.int16).tobytes())


def test_a_file_that_is_cut_while_it_is_used_gives_an_error_and_no_video(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path
) -> None:
    sound = tmp_path / "voice.wav"
    write_wav(sound, 2 * RATE)
    video = tiny_animator.animate(avatar, sound, steps=1)
    sound.write_bytes(sound.read_bytes()[: RATE * 2])
    with pytest.raises(AudioError, match="early"):
        video.numpy()
    (tmp_path / "results").mkdir()
    with pytest.raises(AudioError, match="early"):
        video.save(tmp_path / "results" / "out.mp4")
    assert list((tmp_path / "results").iterdir()) == []


# Streaming


@st.composite
def chunkings(draw: st.DrawFn, samples: int) -> list[int]:
    return sorted(draw(st.lists(st.integers(0, samples), max_size=12)))


@slow_examples
@given(cuts=chunkings(4 * CLIP + 900))
def test_a_stream_gives_the_frames_of_the_whole(tiny_animator: Animator, avatar: Avatar, cuts: list[int]) -> None:
    sound = voice(4 * CLIP + 900)
    streamed = joined(tiny_animator.stream(avatar, np.split(sound, cuts), steps=1, seed=4))
    np.testing.assert_array_equal(streamed, frames_of(tiny_animator, avatar, sound, steps=1, seed=4))


@slow_examples
@given(
    rate=st.sampled_from([8000, 16_000, 44_100, 48_000]),
    dtype=st.sampled_from([np.float32, np.float64, np.int16, np.int32]),
    channels=st.sampled_from([None, 1, 2]),
    data=st.data(),
)
def test_a_stream_of_any_rate_type_and_channels_gives_the_frames_of_the_whole(
    tiny_animator: Animator, avatar: Avatar, rate: int, dtype: type, channels: int | None, data: st.DataObject
) -> None:
    shape = (rate // 2,) if channels is None else (rate // 2, channels)
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, shape)
    if np.dtype(dtype).kind == "i":
        sound = sound * np.iinfo(dtype).max
    sound = sound.astype(dtype)
    pieces = np.split(sound, data.draw(chunkings(len(sound))))
    streamed = joined(tiny_animator.stream(avatar, pieces, sample_rate=rate, steps=1))
    offline = tiny_animator.animate(avatar, sound, sample_rate=rate, steps=1).numpy()
    np.testing.assert_array_equal(streamed, offline)


def test_a_stream_of_small_chunks_gives_the_frames_of_the_whole(tiny_animator: Animator, avatar: Avatar) -> None:
    sound = voice(3 * CLIP + 50)
    pieces = [sound[start : start + 160] for start in range(0, len(sound), 160)]
    streamed = joined(tiny_animator.stream(avatar, pieces, steps=1))
    np.testing.assert_array_equal(streamed, frames_of(tiny_animator, avatar, sound, steps=1))


def test_many_large_chunks_do_not_block_a_stream(tiny_animator: Animator, avatar: Avatar) -> None:
    """More chunks than wait for the encoder, each with more clips than wait for the consumer, and nothing read yet."""
    sound = voice(48 * CLIP)
    streamed = joined(tiny_animator.stream(avatar, np.split(sound, 12), steps=1))
    assert len(streamed) == 48 * 4


def test_a_stream_gives_frames_before_its_end(tiny_animator: Animator, avatar: Avatar) -> None:
    """The voice goes on only after the first clip was seen: with nothing buffered too long, that is enough."""
    seen = threading.Event()
    sent: list[int] = []

    def microphone() -> Generator[Array]:
        for index, piece in enumerate(np.split(voice(20 * CLIP), 80)):
            if index > 12 and not seen.is_set():
                time.sleep(0.05)  # real time: the voice does not come at once
            sent.append(index)
            yield piece

    for chunk in tiny_animator.stream(avatar, microphone(), steps=1):
        if chunk.index == 0:
            seen.set()
            assert len(sent) < 80


def test_a_stream_is_read_as_it_is_used(tiny_animator: Animator, avatar: Avatar) -> None:
    def never() -> Generator[Array]:
        pytest.fail("the stream was read before it was used")
        yield

    tiny_animator.stream(avatar, never(), steps=1).close()


def test_a_slow_consumer_holds_the_source_back(tiny_animator: Animator, avatar: Avatar) -> None:
    begun: set[int] = set()
    reached = threading.Event()

    def note(progress: Progress) -> None:
        begun.add(progress.clip)
        if progress.clip == 3:
            reached.set()

    video = tiny_animator.animate(avatar, voice(20 * CLIP), sample_rate=RATE, steps=1, progress=note)
    chunks = video.chunks()
    next(chunks)
    assert reached.wait(PATIENCE_S)
    time.sleep(0.3)  # time for ten more clips
    assert max(begun) <= 6  # three finished latents, and one in each later place
    chunks.close()


def test_a_stream_and_a_file_refuse_the_same_levels(tiny_animator: Animator, avatar: Avatar) -> None:
    loud = np.full(2_000, 1e6, np.float32)
    with pytest.raises(AudioError, match=r"peaks at 1e\+06"):
        tiny_animator.animate(avatar, loud, sample_rate=RATE)
    with pytest.raises(AudioError, match=r"peaks at 1e\+06"):
        list(tiny_animator.stream(avatar, [voice(100), loud], steps=1))


def test_the_length_of_a_sound_is_limited(tiny_animator: Animator, avatar: Avatar) -> None:
    sound, limit = voice(CLIP), CLIP / RATE
    video = tiny_animator.animate(avatar, sound, sample_rate=RATE, max_audio_s=limit)
    assert video.audio.samples == CLIP
    with pytest.raises(AudioError, match="the audio array is longer than"):
        tiny_animator.animate(avatar, sound, sample_rate=RATE, max_audio_s=limit - 0.01)
    assert list(tiny_animator.stream(avatar, [sound], steps=1, max_audio_s=limit))
    with pytest.raises(AudioError, match="the stream is longer than"):
        list(tiny_animator.stream(avatar, np.split(sound, 4), steps=1, max_audio_s=limit - 0.01))
    four_hours = np.broadcast_to(np.float32(0), (4 * 3600 * RATE + 1,))
    with pytest.raises(AudioError, match="longer than 14400 s"):
        tiny_animator.animate(avatar, four_hours, sample_rate=RATE)


def test_measuring_a_sound_hears_a_cancel(tiny_animator: Animator, avatar: Avatar) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        tiny_animator.animate(avatar, DEMO_VOICE, cancel=cancel)


@pytest.mark.parametrize("chunks", [[], [np.zeros(0, np.float32)]], ids=["nothing", "empty"])
def test_a_stream_without_a_sample_is_refused(tiny_animator: Animator, avatar: Avatar, chunks: list[Array]) -> None:
    with pytest.raises(AudioError, match="ended without a single sample"):
        list(tiny_animator.stream(avatar, chunks))


@pytest.mark.parametrize("chunk", [np.array([np.nan], np.float32), "text", b"bytes", np.zeros((2, 3, 4)), None])
def test_a_chunk_that_is_no_sound_is_refused(tiny_animator: Animator, avatar: Avatar, chunk: Any) -> None:
    with pytest.raises(AudioError, match=r"expected|finite"):
        list(tiny_animator.stream(avatar, [voice(100), chunk]))


def test_a_list_of_numbers_is_a_chunk(tiny_animator: Animator, avatar: Avatar) -> None:
    sound = voice(CLIP)
    streamed = joined(tiny_animator.stream(avatar, [sound.tolist()], steps=1))
    np.testing.assert_array_equal(streamed, frames_of(tiny_animator, avatar, sound, steps=1))


def test_a_wrong_rate_is_refused_at_once(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(AudioError, match=r"sample_rate"):
        tiny_animator.stream(avatar, [], sample_rate=0)


@pytest.mark.parametrize("after", [0, 3, 40])
def test_an_error_of_the_microphone_comes_through(tiny_animator: Animator, avatar: Avatar, after: int) -> None:
    def microphone() -> Generator[Array]:
        yield from itertools.repeat(voice(FRAME), after)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(tiny_animator.stream(avatar, microphone(), steps=1))
