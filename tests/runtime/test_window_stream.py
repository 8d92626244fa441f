"""EchoMimic clip after clip: streams, live sessions, and what differs from the published scheme."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import StandInBackend, StandInDevice
from hypothesis import given, settings
from hypothesis import strategies as st
from test_video import Plainly, picture, voice

from emo_rt import Animator, Avatar, Box, Bundle, ConfigError, Progress
from emo_rt.export.presets import preset
from emo_rt.media.log_mel import log_mel
from emo_rt.model.contract import Array
from emo_rt.model.families.echomimic_stream import StreamEar
from emo_rt.model.families.echomimic_windows import StreamConfig, stream_config
from emo_rt.model.families.registry import FAMILIES, family_of
from emo_rt.model.solvers import alphas_cumprod, noise_levels, solver_table
from emo_rt.runtime.clips import clip_sounds, frame_count, noise_for_clip
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.runtime import Runtime
from tests.small_bundles import echomimic_tiny

RATE = 16_000
TINY = stream_config(echomimic_tiny())


@pytest.fixture(scope="module")
def animator(echomimic_bundle: Bundle) -> Iterator[Animator]:
    with Runtime() as runtime, Animator.load(echomimic_bundle.path, device="cpu", threads=1, runtime=runtime) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def avatar(animator: Animator) -> Avatar:
    return animator.prepare(picture(), face_box=Box(10, 10, 26, 30))


def frames_of(animator: Animator, avatar: Avatar, seconds: float = 0.9, **options: Any) -> Array:
    given = {"steps": 2, "guidance": 1.0, "paste_back": False, "causal": True, **options}
    return animator.animate(avatar, voice(seconds), sample_rate=RATE, **given).numpy()


def test_windows_look_back_and_ahead() -> None:
    full = stream_config(preset("echomimic"))
    assert (full.motion_frames, full.frames, full.ahead, full.window) == (3, 6, 3, 12)
    assert (TINY.motion_frames, TINY.frames, TINY.ahead, TINY.window) == (1, 4, 1, 6)
    family = family_of(full)
    assert family.frames_ahead == 5
    assert family.name not in FAMILIES
    with pytest.raises(ConfigError, match="family is 'echomimic-stream'"):
        family_of(echomimic_tiny().__class__(**{**vars(echomimic_tiny()), "family": "echomimic-stream"}))


class Causally(Plainly):
    """The streaming scheme in plain ONNX Runtime sessions: one window for each clip."""

    def animate(self, avatar: Avatar, sound: Array, steps: int, guidance: float, seed: int) -> Array:
        config, clip, back = self.config, TINY.frames, TINY.motion_frames
        pixels = avatar.portrait.pixels.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        known = self("vae_encoder", pixels=pixels)
        known["face_mask"] = avatar.model.family.face_mask(avatar.portrait)
        known |= self("reference", **known)
        wanted = frame_count(len(sound), config.fps)
        done = np.zeros((0, 4, 8, 8), np.float32)
        for index in range(-(-wanted // clip)):
            tokens = np.stack([self.heard(sound, index, frame) for frame in range(-back, clip + TINY.ahead)])
            noise = self.noise(seed, index)
            x = self.solve(known, noise, tokens, done[-back:] if index else None, steps)
            done = np.concatenate([done, x[back : back + clip]])
        batches = [done[s : s + 2] for s in range(0, len(done), 2)]
        return np.concatenate([self("vae_decoder", frame_latents=one)["pixels_rgb"] for one in batches])[:wanted]

    def noise(self, seed: int, index: int) -> Array:
        of = [noise_for_clip(seed, at, (TINY.frames, 4, 8, 8)) for at in (max(index - 1, 0), index, index + 1)]
        return np.concatenate([of[0][-TINY.motion_frames :], of[1], of[2][: TINY.ahead]]).clip(-1.5, 1.5)

    def solve(self, known: dict[str, Array], noise: Array, tokens: Array, frozen: Array | None, steps: int) -> Array:
        table, x = solver_table(self.config.schedule, "ddim", steps), noise
        back = 0 if frozen is None else len(frozen)
        for at, row in zip(table.timesteps, table.coefficients, strict=True):
            given = {**known, **self("timestep", timestep=np.array([at], np.float32))}
            window = {"latents": x, "audio_tokens": tokens, "sums": np.zeros_like(x)}
            prediction = self("predict_unguided", **given, **window)["prediction"][0]
            p, q, a, b, _, _ = row
            x0 = p * x + q * prediction
            if frozen is not None:
                x0[:back] = frozen  # finished: whatever is predicted
            x = (a * x + b * x0).astype(np.float32)
        return x

    def heard(self, sound: Array, index: int, frame: int) -> Array:
        """Tokens of a frame of a clip's window: the sound up to the window's end, as if it were all there is, but for
        the edge of the transform."""
        fps, last = self.config.fps, index * TINY.frames + TINY.frames + TINY.ahead - 1
        end = min(2 * (50 * last // fps + 6), len(sound) // 160)
        whole = log_mel(sound)
        loudest = whole[:, :end].max()
        mel = np.maximum(whole[:, :end], loudest - 2)
        hidden = []
        for start in range(0, end, 100):
            piece = mel[:, start : start + 100]
            hidden.append(
                self("audio_encoder", mel=np.pad(piece, ((0, 0), (0, 100 - piece.shape[1])))[None])["audio_hidden"][
                    : piece.shape[1] // 2
                ]
            )
        rows = np.concatenate(hidden)
        centre = 50 * (index * TINY.frames + frame) // fps
        return np.concatenate([rows[min(max(row, 0), len(rows) - 1)] for row in range(centre - 4, centre + 6)])


@pytest.mark.parametrize("seconds", [0.4, 2.3], ids=["a piece", "three pieces"])
def test_frames_are_what_the_graphs_one_by_one_compute(animator: Animator, avatar: Avatar, seconds: float) -> None:
    found = frames_of(animator, avatar, seconds, seed=5)
    expected = Causally(animator.bundle).animate(avatar, voice(seconds), 2, 1.0, 5)
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("sizes", [(3, 811), (6400,), (160, 161, 4001)])
def test_a_stream_gives_the_frames_of_the_whole_file(
    animator: Animator, avatar: Avatar, sizes: tuple[int, ...]
) -> None:
    sound, chunks, at = voice(0.9), [], 0
    while at < len(sound):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(sound[at : at + size])
        at += size
    stream = animator.stream(avatar, chunks, steps=2, guidance=1.0, paste_back=False, causal=True)
    np.testing.assert_array_equal(np.concatenate([chunk.frames for chunk in stream]), frames_of(animator, avatar))


def test_the_first_clip_comes_before_the_sound_has_ended(animator: Animator, avatar: Avatar) -> None:
    with animator.open_session(avatar, steps=1, causal=True, paste_back=False) as session:
        session.push(voice((TINY.frames + family_of(TINY).frames_ahead) / 24))
        first = next(session)
        assert (first.index, len(first.frames)) == (0, TINY.frames)
        session.push(voice(TINY.frames / 24, 2))
        second = next(session)
        assert (second.index, second.start_s) == (1, TINY.frames / 24)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.17])
def test_short_sounds(animator: Animator, avatar: Avatar, seconds: float) -> None:
    assert len(frames_of(animator, avatar, seconds)) == max(1, round(seconds * 24))


def test_the_published_scheme_is_another_and_still_the_default(animator: Animator, avatar: Avatar) -> None:
    published = frames_of(animator, avatar, causal=None)
    assert not np.array_equal(published, frames_of(animator, avatar))
    np.testing.assert_array_equal(published, frames_of(animator, avatar, causal=False))
    long = animator.animate(avatar, np.zeros(601 * RATE, np.float32), sample_rate=RATE, causal=True)
    assert long.frame_count == 601 * 24


def test_progress_is_of_clips(animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    frames_of(animator, avatar, 0.3, progress=seen.append)
    assert [(at.clip, at.clips, at.step) for at in seen] == [(0, 2, 1), (0, 2, 2), (1, 2, 1), (1, 2, 2)]


def test_memory_does_not_grow_with_the_length(animator: Animator, avatar: Avatar) -> None:
    with animator.open_session(avatar, steps=1, causal=True, paste_back=False) as session:
        sizes = []
        for turn in range(12):
            session.push(voice(0.5, turn))
            while session._sounds.waiting:
                next(session)
            sizes.append(session.nbytes)
        session.cancel()
    assert max(sizes[6:]) <= max(sizes[:6]) + 8 * RATE
    assert animator.memory_stats()["runs"] == 0


def test_who_makes_clip_after_clip_anyway_refuses_it(tiny_animator: Animator) -> None:
    with pytest.raises(ConfigError, match="causal is True; the model 'tiny'"):
        tiny_animator.resolve(causal=True)


@pytest.mark.parametrize("obstacle", [None, "it is in the way"], ids=["captured", "launched"])
def test_the_gpus_code_path_gives_the_same_frames(
    echomimic_bundle: Bundle, animator: Animator, avatar: Avatar, obstacle: str | None
) -> None:
    device = StandInDevice(3)
    with Animator(LoadedModel(echomimic_bundle, StandInBackend(device, obstacle))) as there:
        own = there.prepare(picture(), face_box=Box(10, 10, 26, 30))
        np.testing.assert_array_equal(frames_of(there, own), frames_of(animator, avatar))
        assert there.memory_stats()["captured_loops"] == (0 if obstacle else 2)
    assert device.broken == []


@pytest.mark.parametrize("steps", [4, 6, 30])
def test_noise_levels_are_those_of_the_state(steps: int) -> None:
    """What a solver makes of a frame whose x0 is known all along: αx0 + σnoise in front of each step."""
    schedule = preset("echomimic").schedule
    table = solver_table(schedule, "ddim", steps)
    x0, noise = np.random.default_rng(0).standard_normal((2, 50))
    alphas = alphas_cumprod(schedule)
    x = alphas[999] ** 0.5 * x0 + (1 - alphas[999]) ** 0.5 * noise
    for (signal, share), (_, _, a, b, _, _) in zip(noise_levels(schedule, table), table.coefficients, strict=True):
        np.testing.assert_allclose(signal * x0 + share * noise, x, atol=1e-5)
        assert abs(signal**2 + share**2 - 1) < 0.01
        x = a * x + b * x0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60_000), st.lists(st.integers(1, 5000), min_size=1, max_size=6))
def test_what_a_clip_hears_depends_on_the_sound_alone(samples: int, sizes: list[int]) -> None:
    sound = 0.1 * np.random.default_rng(samples).standard_normal(samples, np.float32)
    whole, pieces = clip_sounds(TINY), clip_sounds(TINY)
    whole.push(sound)
    whole.end()
    expected = [whole.take() for _ in range(whole.waiting)]
    found, at, turn = [], 0, 0
    while at < samples:
        pieces.push(sound[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
        found += [pieces.take() for _ in range(pieces.waiting)]
    pieces.end()
    found += [pieces.take() for _ in range(pieces.waiting)]
    assert [sound.frames for sound in found] == [sound.frames for sound in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.waveform, other.waveform)
        np.testing.assert_array_equal(one.rows, other.rows)


def test_the_floor_lies_below_the_loudest_moment_so_far() -> None:
    quiet, loud = 1e-5 * voice(1.0), voice(1.0)
    ear = StreamEar(family_of(TINY))  # type: ignore[arg-type]
    ear.push(np.concatenate([quiet, loud]))
    first, _ = ear.sound(0)
    whole = log_mel(np.concatenate([quiet, loud]))
    assert first.min() < whole[:, : first.shape[1]].min()
    np.testing.assert_allclose(first, log_mel(np.concatenate([quiet]))[:, : first.shape[1]], atol=1e-5)


def test_pieces_begin_where_they_do_in_a_file() -> None:
    ear, config = StreamEar(family_of(TINY)), TINY  # type: ignore[arg-type]
    sound = voice(4.0)
    ear.push(sound)
    whole = log_mel(sound)
    for index in range(18):
        mel, rows = ear.sound(index)
        frames = np.arange(index * config.frames - 1, index * config.frames + config.frames + 1)
        absolute = (frames * 50 // 24)[:, None] + np.arange(-4, 6)
        first = int(absolute.clip(0).min()) // 50 * 50
        np.testing.assert_array_equal(rows, absolute.clip(0) - first)
        np.testing.assert_allclose(mel, whole[:, 2 * first : 2 * first + mel.shape[1]], atol=1e-5)
        assert mel.shape[1] // 2 == absolute.max() + 1 - first


def test_stream_configurations_are_checked() -> None:
    values = {**vars(TINY)}
    with pytest.raises(ConfigError, match="ahead is -1"):
        StreamConfig(**{**values, "ahead": -1})
    with pytest.raises(ConfigError, match="motion_frames is 4"):
        StreamConfig(**{**values, "motion_frames": 4})


# Live


def test_a_live_session_gives_what_a_stream_of_the_same_sound_gives(animator: Animator, avatar: Avatar) -> None:
    options = {"steps": 1, "guidance": 1.0, "paste_back": False}
    spoken = voice(1.0)
    pairs = []
    with animator.live(avatar, pace="asap", **options) as session:
        session.push(spoken)
        session.flush()
        for pair in session:
            pairs.append(pair)
            if pair.is_last:
                break
    silent = next(index for index, pair in enumerate(pairs) if pair.speaking)
    # A frame of 24 a second has no whole number of samples: what is heard of silent frames is rounded down.
    sound = np.concatenate([np.zeros(silent * RATE // 24, np.float32), spoken, np.zeros(RATE, np.float32)])
    streamed = animator.stream(avatar, [sound], causal=True, **options)
    expected = np.concatenate([chunk.frames for chunk in streamed])
    found = np.stack([pair.frame for pair in pairs])
    np.testing.assert_array_equal(found, expected[: len(found)])


def test_an_interrupted_live_session_continues_from_what_was_shown(animator: Animator, avatar: Avatar) -> None:
    with animator.live(avatar, pace="asap", steps=1, guidance=1.0, paste_back=False) as session:
        session.push(voice(2.0))
        shown = [next(session) for _ in range(10)]
        session.clear()
        session.push(voice(0.5, 9))
        session.flush()
        for pair in session:
            shown.append(pair)
            if pair.is_last:
                break
    assert all(pair.frame.shape == (32, 32, 3) for pair in shown)
    steps = [np.abs(a.frame.astype(int) - b.frame).mean() for a, b in pairwise(shown)]
    assert len({pair.frame.tobytes() for pair in shown}) > len(shown) // 2
    assert max(steps) < 128
