"""From sound to clips: streaming gives what offline gives, as early as that is possible, in flat memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.runtime.clips import (
    ClipAudio,
    Floats,
    clip_count,
    clip_sounds,
    frame_count,
    noise_for_clip,
    split_into_clips,
)
from tests.conftest import hallo_tiny

TINY = preset("tiny")
"""4 frames a clip, 25 fps: a frame is 640 samples, a clip 2560."""
WHOLE_FILE = hallo_tiny()
"""6 frames a clip, 25 fps, one run of the encoder."""
FRAME = 640
CLIP = TINY.frames * FRAME
quick = settings(max_examples=60, deadline=None)


def encode(waveform: Floats) -> Floats:
    """A cheap stand-in for the audio encoder whose every value depends on every sample that is heard."""
    frames = -(-len(waveform) // FRAME)
    padded = np.pad(waveform, (0, frames * FRAME - len(waveform))).reshape(frames, FRAME)
    everything = np.float32(waveform @ np.arange(1, len(waveform) + 1, dtype=np.float32))
    return np.stack([padded @ np.arange(1, FRAME + 1, dtype=np.float32), np.full(frames, everything)], 1)[:, None, :]


def sound(samples: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(samples, np.float32)


def clips(config: ModelConfig, *blocks: Floats) -> list[ClipAudio]:
    return list(split_into_clips(config, encode, blocks))


def assert_same(left: list[ClipAudio], right: list[ClipAudio]) -> None:
    assert [(clip.index, clip.frames) for clip in left] == [(clip.index, clip.frames) for clip in right]
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one.windows, other.windows)


def windowed(frames: int, context: int, window: int, left: int, right: int) -> ModelConfig:
    audio = replace(
        TINY.audio,
        context_frames=context,
        window_frames=window,
        left_context_frames=left,
        right_context_frames=right,
    )
    return replace(TINY, frames=frames, motion_frames=1, decode_frames=frames, audio=audio)


@st.composite
def layouts(draw: st.DrawFn, least_context: int = 0) -> ModelConfig:
    frames = draw(st.integers(2, 6))
    context = draw(st.integers(least_context, frames))
    return windowed(frames, context, draw(st.integers(1, 9)), draw(st.integers(0, 5)), draw(st.integers(0, 4)))


NEAR_WHOLE_CLIPS = [1, 2] + [count * CLIP + offset for count in (1, 2, 3) for offset in (-1, 0, 1)]
lengths = st.sampled_from(NEAR_WHOLE_CLIPS) | st.integers(1, 5 * CLIP)


@st.composite
def chunked(draw: st.DrawFn) -> list[Floats]:
    """A sound in blocks of any size, empty ones too."""
    samples = draw(lengths)
    cuts = sorted(draw(st.lists(st.integers(0, samples), max_size=8)))
    return list(np.split(sound(samples), cuts))


@quick
@given(config=layouts() | st.just(WHOLE_FILE) | st.just(TINY), blocks=chunked())
def test_the_chunking_changes_nothing(config: ModelConfig, blocks: list[Floats]) -> None:
    assert_same(clips(config, *blocks), clips(config, np.concatenate(blocks)))


@pytest.mark.parametrize("config", [TINY, WHOLE_FILE], ids=lambda config: config.name)
@pytest.mark.parametrize("samples", [*NEAR_WHOLE_CLIPS, FRAME // 2 - 1, FRAME // 2, CLIP + FRAME // 2])
def test_sample_by_sample_is_the_same_as_at_once(config: ModelConfig, samples: int) -> None:
    wave = sound(samples)
    pieces = [wave[start : start + 53] for start in range(0, samples, 53)]
    assert_same(clips(config, *pieces), clips(config, wave))


@given(samples=st.integers(0, 10**9), fps=st.integers(1, 120))
@example(samples=0, fps=30)
def test_the_video_is_as_long_as_the_sound_to_half_a_frame(samples: int, fps: int) -> None:
    frames = frame_count(samples, fps)
    assert frames >= 1
    if frames > 1:
        assert abs(2 * frames * 16_000 - 2 * samples * fps) <= 16_000


@quick
@given(config=layouts() | st.just(WHOLE_FILE), samples=lengths)
def test_the_clips_have_as_many_frames_as_the_video(config: ModelConfig, samples: int) -> None:
    made = clips(config, sound(samples))
    total = frame_count(samples, config.fps)
    assert len(made) == clip_count(total, config)
    assert sum(clip.frames for clip in made) == total
    assert [clip.index for clip in made] == list(range(len(made)))
    assert all(clip.frames == config.frames for clip in made[:-1])
    assert 1 <= made[-1].frames <= config.frames


def by_hand(config: ModelConfig, wave: Floats, index: int) -> Floats:
    """What a clip hears, frame by frame: the window of the clip is encoded, and each frame looks its neighbours up."""
    audio, frames = config.audio, config.frames
    clips_in_all = clip_count(frame_count(len(wave), config.fps), config)
    before = audio.left_context_frames + audio.context_frames
    length = before + frames + audio.context_frames + audio.right_context_frames
    silence = np.zeros(length * FRAME, np.float32)
    start = (index * frames - before + length) * FRAME
    hidden = encode(np.concatenate([silence, wave, silence])[start : start + length * FRAME])
    rows = []
    for frame in range(index * frames, (index + 1) * frames):
        seen = range(frame - audio.context_frames, frame + audio.context_frames + 1)
        inside = [min(max(one, 0), clips_in_all * frames - 1) for one in seen]
        rows.append([hidden[one - index * frames + before] for one in inside])
    return np.array(rows)


@quick
@given(config=layouts(), samples=lengths)
def test_each_frame_hears_itself_and_its_neighbours(config: ModelConfig, samples: int) -> None:
    wave = sound(samples)
    for clip in clips(config, wave):
        np.testing.assert_array_equal(clip.windows, by_hand(config, wave, clip.index))


def test_a_window_is_the_sound_of_the_clip_with_its_surroundings() -> None:
    asked: list[Floats] = []

    def listen(waveform: Floats) -> Floats:
        asked.append(waveform.copy())
        return encode(waveform)

    wave = sound(3 * CLIP)
    list(split_into_clips(TINY, listen, [wave]))
    around = np.concatenate([np.zeros(5 * FRAME, np.float32), wave, np.zeros(3 * FRAME, np.float32)])
    assert len(asked) == 3
    for index, waveform in enumerate(asked):  # 4 frames and a neighbour, 4 frames, a neighbour and 2 frames
        np.testing.assert_array_equal(waveform, around[index * CLIP : index * CLIP + 12 * FRAME])


def test_every_clip_is_encoded_once() -> None:
    starts: list[float] = []

    def listen(waveform: Floats) -> Floats:
        starts.append(float(waveform[5 * FRAME]))
        return encode(waveform)

    list(split_into_clips(TINY, listen, np.split(sound(10 * CLIP), 25)))
    assert len(starts) == len(set(starts)) == 10


def test_whole_file_encoding_runs_once_on_normalised_sound_padded_to_whole_clips() -> None:
    asked: list[Floats] = []

    def listen(waveform: Floats) -> Floats:
        asked.append(waveform)
        return encode(waveform)

    wave = 0.1 * sound(10_000) + 0.3
    list(split_into_clips(WHOLE_FILE, listen, [wave[:7], wave[7:]]))
    (heard,) = asked
    assert len(heard) == 18 * FRAME  # 15.6 frames: three clips of 6
    assert heard.dtype == np.float32
    assert heard[:10_000].mean() == pytest.approx(0, abs=1e-4)
    assert heard[:10_000].std() == pytest.approx(1, abs=1e-3)
    assert not heard[10_000:].any()


@pytest.mark.parametrize("config", [TINY, WHOLE_FILE], ids=lambda config: config.name)
def test_no_sound_at_all_is_one_silent_frame(config: ModelConfig) -> None:
    (clip,) = clips(config)
    assert (clip.index, clip.frames) == (0, 1)
    assert not clip.windows.any()


def test_windows_are_single_precision_and_as_the_clip_graph_wants_them() -> None:
    assert clips(TINY, sound(CLIP))[0].windows.shape == (4, 3, 1, 2)
    assert clips(TINY, sound(CLIP))[0].windows.dtype == np.float32


def watched(wave: Floats, step: int) -> tuple[Iterator[Floats], list[int]]:
    """Blocks of ``step`` samples, and how many samples were taken so far."""
    taken = [0]

    def blocks() -> Iterator[Floats]:
        for start in range(0, len(wave), step):
            taken[0] = min(start + step, len(wave))
            yield wave[start : start + step]

    return blocks(), taken


@settings(max_examples=25, deadline=None)
@given(config=layouts(least_context=1), step=st.integers(100, 5000), seed=st.integers(0, 99))
def test_a_clip_that_was_handed_out_is_right_however_the_sound_goes_on(
    config: ModelConfig, step: int, seed: int
) -> None:
    wave = sound(6 * config.frames * FRAME, seed)
    blocks, taken = watched(wave, step)
    for clip in split_into_clips(config, encode, blocks):
        if taken[0] == len(wave):
            return  # the end is known
        heard = wave[: taken[0]]
        for rest in (np.zeros(0, np.float32), 9 * sound(1), 9 * sound(2 * CLIP, seed + 1)):
            offline = clips(config, np.concatenate([heard, rest]))[clip.index]
            assert offline.frames == clip.frames
            np.testing.assert_array_equal(offline.windows, clip.windows)


@settings(max_examples=25, deadline=None)
@given(config=layouts(least_context=1))
def test_a_clip_comes_as_soon_as_it_is_certain(config: ModelConfig) -> None:
    """Chunks of 20 ms: one chunk earlier the clip still depended on what came next."""
    step = FRAME // 2
    wave = sound(6 * config.frames * FRAME)
    blocks, taken = watched(wave, step)
    for clip in split_into_clips(config, encode, blocks):
        if taken[0] == len(wave):
            return
        before = wave[: taken[0] - step]
        silent, loud = (
            [c for c in clips(config, np.concatenate([before, rest])) if c.index == clip.index]
            for rest in (np.zeros(0, np.float32), 9 * sound(4 * config.frames * FRAME, 5))
        )
        assert not silent or not np.array_equal(silent[0].windows, loud[0].windows)


@pytest.mark.parametrize(("name", "ahead"), [("tiny", 3), ("demo", 4)])
def test_a_clip_waits_for_its_frames_its_reach_and_the_right_context(name: str, ahead: int) -> None:
    """F + m + R frames: 4 + 1 + 2 of the tiny preset; 12 + 2 + 2 = 16 of the demo, 0.64 s."""
    config = preset(name)
    blocks, taken = watched(sound(10 * config.frames * FRAME), FRAME)
    when = [taken[0] // FRAME for _ in split_into_clips(config, encode, blocks)]
    assert when[:3] == [config.frames + ahead, 2 * config.frames + ahead, 3 * config.frames + ahead]


def test_what_waits_for_the_next_clip_is_small_after_a_large_push() -> None:
    sounds = clip_sounds(TINY)
    sounds.push(sound(100 * CLIP))
    while sounds.waiting:
        sounds.take()
    assert sounds.nbytes < 2 * 4 * 12 * FRAME


def test_ten_minutes_need_no_more_memory_than_ten_seconds() -> None:
    def peak(seconds: int) -> int:
        second = sound(16_000)
        tracemalloc.start()
        try:
            for _ in split_into_clips(TINY, encode, (second for _ in range(seconds))):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(600) < 1.2 * peak(10)


def test_the_next_block_is_not_taken_before_it_is_needed() -> None:
    blocks, taken = watched(sound(10 * CLIP), 3 * CLIP)
    made = split_into_clips(TINY, encode, blocks)
    next(made)
    assert taken[0] == 3 * CLIP


def test_an_error_of_the_source_comes_through() -> None:
    def broken() -> Iterable[Floats]:
        yield sound(CLIP)
        raise OSError("the microphone is gone")

    with pytest.raises(OSError, match="microphone"):
        list(split_into_clips(TINY, encode, broken()))


def test_noise_depends_on_seed_and_clip_only() -> None:
    shape = (4, 4, 8, 8)
    first = noise_for_clip(7, 3, shape)
    np.testing.assert_array_equal(first, noise_for_clip(7, 3, shape))
    assert first.dtype == np.float32
    for other in (noise_for_clip(8, 3, shape), noise_for_clip(7, 4, shape), noise_for_clip(3, 7, shape)):
        assert np.abs(first - other).max() > 1


def test_noise_has_unit_variance_for_the_largest_seed_too() -> None:
    noise = noise_for_clip(2**63 - 1, 10**6, (100, 100))
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(1, abs=0.05)
