"""The front door, on the real path: load → prepare → animate and stream, with tiny models."""

from __future__ import annotations

import gc
import itertools
import json
import math
import threading
import time
import wave
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_rt import (
    AnimateOptions,
    Animator,
    AudioError,
    Avatar,
    Box,
    Bundle,
    Cancelled,
    Chunk,
    ClosedError,
    ConfigError,
    InputError,
    NotFiniteError,
    OutputError,
    PortraitError,
    Progress,
)
from emo_rt.cli.demo import DEMO_VOICE
from emo_rt.device.registry import open_backend
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.bundle import MANIFEST
from emo_rt.model.contract import Array
from emo_rt.model.options import SOLVERS
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.avatar import make_avatar
from emo_rt.runtime.clips import frame_count, noise_for_clip
from emo_rt.runtime.loaded_model import LoadedModel

RATE = 16_000
FRAME = 640
"""Samples per frame at 25 fps."""
CLIP = 4 * FRAME
PATIENCE_S = 20.0

slow_examples = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def picture(height: int = 40, width: int = 40, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def voice(samples: int, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(picture(), face_box=Box(8, 8, 30, 32))


@pytest.fixture
def own_animator(tiny_bundle: Bundle) -> Iterator[Animator]:
    """One that a test may close."""
    with Animator.load(tiny_bundle.path, device="cpu", threads=1) as animator:
        yield animator


def frames_of(animator: Animator, avatar: Avatar, sound: Array | None = None, **options: Any) -> Array:
    """All frames of a short animation; three clips and two steps unless said otherwise."""
    sound = voice(3 * CLIP) if sound is None else sound
    return animator.animate(avatar, sound, sample_rate=RATE, **{"steps": 2, **options}).numpy()


def joined(chunks: Iterator[Chunk]) -> Array:
    return np.concatenate([chunk.frames for chunk in chunks])


def differ(one: Array, other: Array) -> bool:
    """Not by rounding: a good part of the pixels, visibly."""
    return bool(np.mean(np.abs(one.astype(int) - other.astype(int)) > 2) > 0.05)


# What is computed


class OneByOne:
    """The reference: each graph in a plain ONNX Runtime session on arrays, the solver in numpy, nothing shared."""

    def __init__(self, bundle: Bundle) -> None:
        self.config = bundle.config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            name: onnxruntime.InferenceSession(bundle.graph_path(name), options, providers=["CPUExecutionProvider"])
            for name in bundle.graphs
        }

    def __call__(self, graph: str, **inputs: Array) -> dict[str, Array]:
        session = self._sessions[graph]
        names = [node.name for node in session.get_outputs()]
        taken = {node.name: inputs[node.name] for node in session.get_inputs()}
        return dict(zip(names, session.run(names, taken), strict=True))

    def hear(self, sound: Array, clips: int) -> Array:
        """(clips · F, 2m+1, layers, hidden)."""
        audio, frames, count = self.config.audio, self.config.frames, clips * self.config.frames
        reach, around = audio.context_frames, np.arange(-audio.context_frames, audio.context_frames + 1)
        if audio.window_frames == 0:
            sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
            padded = np.pad(sound, (0, count * FRAME - len(sound)))
            hidden = self("audio_encoder", waveform=padded[None])["audio_hidden"]
            windows: Array = hidden[np.clip(np.arange(count)[:, None] + around, 0, count - 1)]
            return windows
        before, after = audio.left_context_frames + reach, reach + audio.right_context_frames
        padded = np.pad(sound, (before * FRAME, (count + after) * FRAME))
        pieces = []
        for first in range(0, count, frames):  # one window per clip, with all that its frames attend to
            heard = padded[first * FRAME : (first + before + frames + after) * FRAME]
            encoded = self("audio_encoder", waveform=heard[None])["audio_hidden"]
            there = np.clip(np.arange(first, first + frames)[:, None] + around, 0, count - 1)
            pieces.append(encoded[there - first + before])
        return np.concatenate(pieces)

    def animate(self, avatar: Avatar, sound: Array, extra: dict[str, Array], options: AnimateOptions) -> Array:
        config = self.config
        total = frame_count(len(sound), config.fps)
        clips = -(-total // config.frames)
        pixels = avatar.portrait.pixels.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        face = avatar.portrait.face
        mask = np.zeros((1, config.locator.in_channels, config.size, config.size), np.float32)
        mask[..., int(face.top) : math.ceil(face.bottom), int(face.left) : math.ceil(face.right)] = 1
        known = {"face_mask": mask, **extra, **self("vae_encoder", pixels=pixels)}
        known |= self("reference", **known)
        known["speed"] = np.full(config.frames, 0.5 if options.speed is None else options.speed, np.float32)
        known["motion_scale"] = np.array(options.motion_scale or (1, 1, 1), np.float32)
        shape = (config.motion_frames, 4, config.latent_size, config.latent_size)
        first = config.first_motion == "portrait"
        motion = np.repeat(known["portrait_latent"], shape[0], 0) if first else np.zeros(shape, np.float32)
        windows = self.hear(sound, clips)
        frames = []
        for index in range(clips):
            heard = windows[index * config.frames :][: config.frames]
            features = self("clip", **known, motion_latents=motion, audio_windows=heard)
            latents = self.denoise({**known, **features}, options, index)
            frames += [self.decode(latents)]
            motion = latents[-config.motion_frames :]
            if config.motion_source == "reencoded":
                motion = self("motion_encoder", last_latents=motion)["motion_latents"]
        return np.concatenate(frames)[:total]

    def denoise(self, features: dict[str, Array], options: AnimateOptions, index: int) -> Array:
        config = self.config
        shape = (config.frames, 4, config.latent_size, config.latent_size)
        x = noise_for_clip(options.seed, index, shape)
        history = [np.zeros_like(x)] * 2
        guidance = config.guidance if options.guidance is None else options.guidance
        table = solver_table(config.schedule, options.solver or "ddim", options.steps or 40)
        for at, row in zip(table.timesteps, table.coefficients, strict=True):
            embedding = self("timestep", timestep=np.array([at], np.float32))
            state = {"latents": x, "x0_history": np.stack(history), "coefficients": row}
            scale = np.array([guidance], np.float32)
            halves = self("step", **features, **embedding, **state, guidance_scale=scale)["prediction"]
            p, q, a, b, c, d = row
            x0 = p * x + q * (halves[0] + guidance * (halves[1] - halves[0]))
            x, history = a * x + b * x0 + c * history[0] + d * history[1], [x0, history[0]]
        return x

    def decode(self, latents: Array) -> Array:
        batch = self.config.decode_frames
        starts = range(0, len(latents), batch)
        return np.concatenate([self("vae_decoder", frame_latents=latents[s : s + batch])["pixels_rgb"] for s in starts])


def assert_close(found: Array, expected: Array) -> None:
    """Equal but for the last bit of rounding to 8 bits."""
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_animation_is_what_the_graphs_one_by_one_compute(
    tiny_animator: Animator, avatar: Avatar, solver: str
) -> None:
    options = AnimateOptions(seed=3, steps=3, solver=solver, speed=0.8, guidance=2.0)
    sound = voice(2 * CLIP + FRAME)
    found = tiny_animator.animate(avatar, sound, sample_rate=RATE, options=options, paste_back=False).numpy()
    assert_close(found, OneByOne(tiny_animator.bundle).animate(avatar, sound, {}, options))


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is an extra")
def test_openvino_gives_the_frames_of_onnx_runtime(
    tiny_animator: Animator, avatar: Avatar, tiny_bundle: Bundle
) -> None:
    with Animator.load(tiny_bundle.path, backend="openvino", threads=1) as other:
        found = frames_of(other, other.prepare(picture(), face_box=Box(8, 8, 30, 32)))
    assert_close(found, frames_of(tiny_animator, avatar))


def test_the_same_seed_gives_the_same_bytes(tiny_animator: Animator, avatar: Avatar) -> None:
    np.testing.assert_array_equal(frames_of(tiny_animator, avatar, seed=7), frames_of(tiny_animator, avatar, seed=7))


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"speed": 2.5}, {"guidance": 9.0}, {"steps": 3}, {"solver": "dpmpp_2m", "steps": 3}],
    ids=str,
)
def test_an_option_changes_the_result(tiny_animator: Animator, avatar: Avatar, change: dict[str, Any]) -> None:
    base: dict[str, Any] = {"steps": 3} if "solver" in change else {}
    assert differ(frames_of(tiny_animator, avatar, **base), frames_of(tiny_animator, avatar, **change))


def test_the_sound_changes_the_result(tiny_animator: Animator, avatar: Avatar) -> None:
    one, other = (frames_of(tiny_animator, avatar, voice(3 * CLIP, seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert differ(one, frames_of(tiny_animator, avatar, 8 * voice(3 * CLIP, 2)))


def test_the_portrait_changes_the_result(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box=Box(8, 8, 30, 32))
    assert differ(frames_of(tiny_animator, avatar), frames_of(tiny_animator, other))


def test_the_face_box_changes_the_result_though_the_square_is_the_same(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(), face_box=Box(14, 14, 36, 38))
    np.testing.assert_array_equal(other.portrait.pixels, avatar.portrait.pixels)
    assert not np.array_equal(frames_of(tiny_animator, avatar), frames_of(tiny_animator, other))


def noise_from(animator: Animator, seeds: dict[int, int]) -> Callable[[int], Array]:
    config = animator.config
    shape = (config.frames, 4, config.latent_size, config.latent_size)
    return lambda index: noise_for_clip(seeds.get(index, 0), index, shape)


def test_injected_noise_takes_the_seeds_place(tiny_animator: Animator, avatar: Avatar) -> None:
    noise = noise_from(tiny_animator, {0: 5, 1: 5, 2: 5})
    injected = frames_of(tiny_animator, avatar, noise=noise, seed=99)
    np.testing.assert_array_equal(injected, frames_of(tiny_animator, avatar, seed=5))


def test_noise_of_double_precision_is_taken(tiny_animator: Animator, avatar: Avatar) -> None:
    single = noise_from(tiny_animator, {})
    found = frames_of(tiny_animator, avatar, noise=lambda index: single(index).astype(np.float64))
    np.testing.assert_array_equal(found, frames_of(tiny_animator, avatar, seed=0))


def test_noise_of_another_shape_is_refused(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(InputError, match=r"noise of clip 0 has shape \(4,\); expected \(4, 4, 8, 8\)"):
        frames_of(tiny_animator, avatar, noise=lambda index: np.zeros(4))


def test_latents_that_are_not_finite_are_an_error_and_no_black_video(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path
) -> None:
    single = noise_from(tiny_animator, {})

    def spoilt(index: int) -> Array:
        noise = single(index).copy()
        noise[0, 0, 0, 0] = np.nan if index == 1 else noise[0, 0, 0, 0]
        return noise

    with pytest.raises(NotFiniteError, match=r"clip 1: \d+ of 1024 latents that graph step computed are not finite"):
        frames_of(tiny_animator, avatar, noise=spoilt)
    frames_of(tiny_animator, avatar)


def test_a_later_clip_continues_the_one_before(tiny_animator: Animator, avatar: Avatar) -> None:
    """The same noise in clip 1, but another clip 0 in front of it."""
    one, other = (frames_of(tiny_animator, avatar, noise=noise_from(tiny_animator, {0: first})) for first in (0, 1))
    assert differ(one[4:8], other[4:8])


def test_the_first_clip_does_not_depend_on_former_runs(tiny_animator: Animator, avatar: Avatar) -> None:
    """The others are in :func:`test_an_animation_is_what_the_graphs_one_by_one_compute`: zero motion frames."""
    before = frames_of(tiny_animator, avatar, voice(CLIP))
    frames_of(tiny_animator, avatar, seed=50)
    np.testing.assert_array_equal(frames_of(tiny_animator, avatar, voice(CLIP)), before)


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads((folder / MANIFEST).read_text())
    edit(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def test_guidance_1_uses_the_unguided_graph_and_gives_the_same(
    tiny_animator: Animator, avatar: Avatar, bundle_copy: Path
) -> None:
    """u + 1·(c − u) is c but for rounding, and one row is computed in other blocks than two: off by one in 8 bits."""
    edited(bundle_copy, lambda m: m["graphs"].pop("step_unguided"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as guided:
        there = guided.prepare(picture(), face_box=Box(8, 8, 30, 32))
        with_step = frames_of(guided, there, guidance=1.0)
    table, guidance = tiny_animator._model.step_table(AnimateOptions(guidance=1.0, steps=3))
    assert (table.graphs, guidance) == (("step_unguided",) * 3, 1.0)
    assert_close(frames_of(tiny_animator, avatar, guidance=1.0), with_step)


def test_a_bundle_without_guidance_runs_without_and_refuses_another_scale(bundle_copy: Path) -> None:
    edited(bundle_copy, lambda m: m["graphs"].pop("step"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        np.testing.assert_array_equal(frames_of(animator, avatar), frames_of(animator, avatar, guidance=1))
        np.testing.assert_array_equal(
            frames_of(animator, avatar), frames_of(animator, avatar, guidance_interval=(0.5, 1))
        )
        with pytest.raises(ConfigError, match=r"guidance is 3\.0; this bundle was exported without guidance, use 1"):
            frames_of(animator, avatar, guidance=3.0)


def test_a_bundle_with_guidance_only_refuses_an_interval(bundle_copy: Path) -> None:
    edited(bundle_copy, lambda m: m["graphs"].pop("step_unguided"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        with pytest.raises(ConfigError, match=r"guidance_interval is \(0, 0\.5\).*export it with --both"):
            frames_of(animator, avatar, guidance_interval=(0, 0.5))
        frames_of(animator, avatar, guidance_interval=(0, 0.5), guidance=1)


def test_head_room_is_where_the_face_may_be(tiny_animator: Animator) -> None:
    """A box that reaches everywhere, one that is held, and the model's own are three different portraits."""
    rooms = [0.0, None, math.inf]
    avatars = [tiny_animator.prepare(picture(), face_box=Box(8, 8, 30, 32), head_room=room) for room in rooms]
    still, own, free = (avatar.features["face_feature"].read().copy() for avatar in avatars)
    assert not np.array_equal(still, free)
    assert np.array_equal(still, own), "the tiny model has no margin of its own"
    for wrong in (-0.1, math.nan, "wide"):
        with pytest.raises(ConfigError, match="head_room"):
            tiny_animator.prepare(picture(), face_box=Box(8, 8, 30, 32), head_room=wrong)  # type: ignore[arg-type]


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


# Several at once


@pytest.mark.parametrize("sound", ["voice.wav", Path("voice.wav"), b"RIFF", 5, None])
def test_a_stream_of_something_else_is_refused_at_once(tiny_animator: Animator, avatar: Avatar, sound: Any) -> None:
    with pytest.raises(AudioError, match=r"expected an iterable of arrays \(Animator\.animate takes files\)"):
        tiny_animator.stream(avatar, sound)


def test_two_streams_in_turn_do_not_disturb_each_other(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box="full")
    jobs = [(avatar, voice(5 * CLIP, 1), 1), (other, voice(5 * CLIP, 2), 2)]
    alone = [frames_of(tiny_animator, who, sound, steps=1, seed=seed) for who, sound, seed in jobs]
    streams = [
        tiny_animator.stream(who, np.split(sound, 25), steps=1, seed=seed, paste_back=None) for who, sound, seed in jobs
    ]
    together: list[list[Array]] = [[], []]
    for pair in itertools.zip_longest(*streams):
        for frames, chunk in zip(together, pair, strict=True):
            if chunk is not None:
                frames.append(chunk.frames)
    for frames, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(frames), expected)


def test_runs_in_several_threads_give_what_they_give_alone(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box="full")
    jobs: list[Callable[[], Array]] = [
        partial(frames_of, tiny_animator, who, voice(3 * CLIP, seed), seed=seed, steps=steps, solver=solver)
        for who, seed, steps, solver in [
            (avatar, 1, 2, "ddim"), (other, 2, 3, "ddim"), (avatar, 3, 3, "unipc"), (other, 4, 7, "dpmpp_2m"),
        ]
    ]  # fmt: skip
    alone = [job() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = [future.result(60) for future in [pool.submit(job) for job in jobs]]
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_portraits_are_prepared_in_several_threads(tiny_animator: Animator) -> None:
    def features(seed: int) -> Array:
        prepared = tiny_animator.prepare(picture(seed=seed), face_box="full")
        assert tiny_animator.memory_stats()["avatars"] >= prepared.nbytes
        return prepared.features["reference_key.mid"].read()

    alone = [features(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(features, range(8)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


# Progress, stopping, errors


def test_progress_counts_every_step(tiny_animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    frames_of(tiny_animator, avatar, steps=3, progress=seen.append)
    assert seen == [Progress(clip, 3, step, 3) for clip in range(3) for step in (1, 2, 3)]


def test_progress_of_a_stream_does_not_know_the_end(tiny_animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    list(tiny_animator.stream(avatar, [voice(2 * CLIP)], steps=2, progress=seen.append))
    assert seen == [Progress(clip, None, step, 2) for clip in range(2) for step in (1, 2)]


def run_video(animator: Animator, avatar: Avatar, **options: Any) -> None:
    frames_of(animator, avatar, **options)


def run_stream(animator: Animator, avatar: Avatar, **options: Any) -> None:
    list(animator.stream(avatar, np.split(voice(3 * CLIP), 12), **{"steps": 2, **options}))


@pytest.mark.parametrize("run", [run_video, run_stream])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clip=st.integers(0, 2), step=st.integers(1, 2))
def test_cancelling_stops_at_the_next_step_and_the_next_call_works(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None], clip: int, step: int
) -> None:
    stop = threading.Event()
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if (progress.clip, progress.step) == (clip, step):
            stop.set()

    with pytest.raises(Cancelled):
        run(tiny_animator, avatar, progress=watch, cancel=stop)
    assert (seen[-1].clip, seen[-1].step) == (clip, step)
    stop.clear()
    run(tiny_animator, avatar, cancel=stop)


@pytest.mark.parametrize("run", [run_video, run_stream])
def test_a_run_that_is_cancelled_before_it_starts_does_nothing(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None]
) -> None:
    stop, seen = threading.Event(), list[Progress]()
    stop.set()
    with pytest.raises(Cancelled):
        run(tiny_animator, avatar, progress=seen.append, cancel=stop)
    assert seen == []


def test_a_stream_is_cancelled_while_the_voice_is_silent(tiny_animator: Animator, avatar: Avatar) -> None:
    """No clip is being made that could notice: too little has come."""
    stop = threading.Event()

    def microphone() -> Generator[Array]:
        yield voice(FRAME)
        stop.set()
        for _ in range(3):
            yield voice(10)
        pytest.fail("the stream went on")

    with pytest.raises(Cancelled):
        list(tiny_animator.stream(avatar, microphone(), cancel=stop))


def test_cancelling_a_save_leaves_no_file(tiny_animator: Animator, avatar: Avatar, tmp_path: Path) -> None:
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.clip == 1:
            stop.set()

    video = tiny_animator.animate(avatar, voice(3 * CLIP), sample_rate=RATE, steps=2, progress=watch, cancel=stop)
    with pytest.raises(Cancelled):
        video.save(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
    assert video.stats is None


@pytest.mark.parametrize("run", [run_video, run_stream])
@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt()], ids=repr)
def test_an_error_of_the_progress_callback_ends_the_run(
    tiny_animator: Animator, avatar: Avatar, run: Callable[..., None], error: BaseException
) -> None:
    def fail(progress: Progress) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run(tiny_animator, avatar, progress=fail)
    assert raised.value is error


def close_early(chunks: Generator[Chunk]) -> None:
    next(chunks)
    chunks.close()


@pytest.mark.parametrize("how", ["video", "stream"])
def test_closing_early_stops_at_the_next_step(tiny_animator: Animator, avatar: Avatar, how: str) -> None:
    seen: list[Progress] = []
    sound = voice(20 * CLIP)
    options: dict[str, Any] = {"steps": 40, "progress": seen.append}
    if how == "video":
        chunks = tiny_animator.animate(avatar, sound, sample_rate=RATE, **options).chunks()
    else:
        chunks = tiny_animator.stream(avatar, np.split(sound, 40), **options)
    close_early(chunks)
    assert len(seen) < 2 * 40  # the second clip was not finished


def test_dropping_the_iterator_stops_the_run(tiny_animator: Animator, avatar: Avatar) -> None:
    chunks = tiny_animator.animate(avatar, voice(20 * CLIP), sample_rate=RATE, steps=2).chunks()
    next(chunks)
    del chunks
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("emo_rt-")]


# Wrong use


def test_an_avatar_of_another_animator_is_refused(tiny_animator: Animator, own_animator: Animator) -> None:
    stranger = own_animator.prepare(picture(), face_box="full")
    with pytest.raises(InputError, match="prepared by another animator; prepare the picture with this one"):
        frames_of(tiny_animator, stranger)
    with pytest.raises(InputError, match="another animator"):
        tiny_animator.stream(stranger, [])


def test_a_path_is_no_avatar(tiny_animator: Animator) -> None:
    with pytest.raises(InputError, match=r"a str is no avatar; make one with prepare"):
        frames_of(tiny_animator, "portrait.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stepz": 3}, ConfigError, "unknown option stepz"),
        ({"steps": 0}, ConfigError, "1 to 1000"),
        ({"solver": "heun"}, ConfigError, "one of ddim"),
        ({"speed": "fast"}, ConfigError, "0 … 3"),
    ],
)
def test_options_are_checked_at_the_call(
    tiny_animator: Animator, avatar: Avatar, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_animator.animate(avatar, voice(10), sample_rate=RATE, **options)
    with pytest.raises(error, match=message):
        tiny_animator.stream(avatar, [], **options)


def test_a_combination_without_a_step_table_is_refused_at_the_call(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(ConfigError, match="steps"):
        tiny_animator.animate(avatar, voice(10), sample_rate=RATE, solver="unipc", steps=1000)


@pytest.mark.parametrize("audio", ["nowhere.wav", np.zeros(0, np.float32)], ids=["path", "empty"])
def test_sound_is_checked_at_the_call(tiny_animator: Animator, avatar: Avatar, audio: Any) -> None:
    with pytest.raises(AudioError):
        tiny_animator.animate(avatar, audio, sample_rate=None if isinstance(audio, str) else RATE)


def test_an_array_without_a_rate_is_refused(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(AudioError, match="pass sample_rate"):
        tiny_animator.animate(avatar, voice(10))


def test_a_missing_picture_is_named(tiny_animator: Animator) -> None:
    with pytest.raises(PortraitError, match=r"nowhere\.png"):
        tiny_animator.prepare("nowhere.png", face_box="full")


# Closing and memory


def test_a_closed_animator_refuses_everything(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    video = own_animator.animate(there, voice(CLIP), sample_rate=RATE, steps=1)
    stream = own_animator.stream(there, [voice(CLIP)], steps=1)
    own_animator.close()
    own_animator.close()
    uses: list[Callable[[], object]] = [
        lambda: own_animator.prepare(picture(), face_box="full"),
        lambda: own_animator.animate(there, voice(CLIP), sample_rate=RATE, steps=1),
        lambda: own_animator.stream(there, [], steps=1),
        lambda: own_animator.warmup(AnimateOptions(steps=33)),
        video.numpy,
        lambda: list(stream),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()


def test_closing_while_a_run_is_going_on_ends_it(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")

    def close(progress: Progress) -> None:
        if progress.clip == 1:
            own_animator.close()

    with pytest.raises(ClosedError):
        frames_of(own_animator, there, progress=close)


def test_memory_of_avatars_is_counted_while_they_live(own_animator: Animator) -> None:
    empty = {"weights": own_animator.bundle.size_bytes, "avatars": 0, "runs": 0, "kept": 0}
    assert own_animator.memory_stats() == empty
    one, other = (own_animator.prepare(picture(seed=seed), face_box="full") for seed in (1, 2))
    assert own_animator.memory_stats()["avatars"] == one.nbytes + other.nbytes > 0
    del one
    assert own_animator.memory_stats()["avatars"] == other.nbytes
    other.close()
    other.close()
    assert own_animator.memory_stats() == empty
    with pytest.raises(ClosedError, match="prepare the picture again"):
        frames_of(own_animator, other)


def test_closing_an_animator_closes_its_avatars(own_animator: Animator) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    own_animator.close()
    assert there.nbytes == 0


@pytest.mark.parametrize("end", ["finished", "closed", "failed"])
def test_a_run_frees_its_buffers_without_the_garbage_collector(own_animator: Animator, end: str) -> None:
    there = own_animator.prepare(picture(), face_box="full")
    during: list[int] = []

    def watch(progress: Progress) -> None:
        during.append(own_animator.memory_stats()["runs"])
        if end == "failed" and progress.clip == 1:
            raise ZeroDivisionError

    gc.disable()
    try:
        video = own_animator.animate(there, voice(6 * CLIP), sample_rate=RATE, steps=1, progress=watch)
        if end == "closed":
            close_early(video.chunks())
        else:
            with suppress(ZeroDivisionError):
                video.numpy()
        assert during[0] > 0
        assert own_animator.memory_stats()["runs"] == 0
    finally:
        gc.enable()


def test_warmup_opens_what_the_options_need_and_leaves_nothing(own_animator: Animator) -> None:
    own_animator.warmup(AnimateOptions(guidance=1.0, steps=5, solver="unipc"))
    assert own_animator.memory_stats()["avatars"] == own_animator.memory_stats()["runs"] == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_warmup_works_for_every_solver(tiny_animator: Animator, solver: str) -> None:
    tiny_animator.warmup(AnimateOptions(solver=solver, steps=3))


def test_an_animator_says_what_it_is(tiny_animator: Animator, tiny_bundle: Bundle) -> None:
    assert (tiny_animator.device, tiny_animator.backend) == ("cpu", "onnxruntime")
    assert tiny_animator.config == tiny_bundle.config


# Models in the manner of Hallo


@pytest.fixture(scope="module")
def hallo(hallo_bundle: Bundle) -> Iterator[Animator]:
    with Animator(LoadedModel(hallo_bundle, open_backend("onnxruntime", "cpu", threads=1))) as animator:
        yield animator


@pytest.fixture(scope="module")
def hallo_inputs(hallo_bundle: Bundle) -> dict[str, Array]:
    random = np.random.default_rng(6)
    masks = [tensor for tensor in hallo_bundle.graphs["step"].inputs if tensor.name.startswith("audio_mask.")]
    inputs = {mask.name: random.random([int(size) for size in mask.shape], np.float32) for mask in masks}
    (mask,) = (tensor for tensor in hallo_bundle.graphs["reference"].inputs if tensor.name == "face_mask")
    inputs["face_mask"] = random.integers(0, 2, [int(size) for size in mask.shape]).astype(np.float32)
    return {**inputs, "face_embedding": random.standard_normal((1, 8), np.float32)}


@pytest.fixture(scope="module")
def hallo_avatar(hallo: Animator, hallo_inputs: dict[str, Array]) -> Avatar:
    portrait = prepare_portrait(picture(), hallo.config.size, face_box="full")
    return make_avatar(hallo._model, portrait, inputs=hallo_inputs)


def test_a_hallo_animation_is_what_the_graphs_one_by_one_compute(
    hallo: Animator, hallo_avatar: Avatar, hallo_inputs: dict[str, Array]
) -> None:
    """Whole-file sound, the portrait as first motion frames, motion frames decoded and encoded again."""
    options = AnimateOptions(seed=2, steps=3, motion_scale=(0.5, 1.0, 2.0))
    sound = voice(14 * FRAME)
    found = hallo.animate(hallo_avatar, sound, sample_rate=RATE, options=options).numpy()
    assert_close(found, OneByOne(hallo.bundle).animate(hallo_avatar, sound, hallo_inputs, options))


@pytest.mark.parametrize("frames", range(1, 14))
def test_a_hallo_video_has_every_length(hallo: Animator, hallo_avatar: Avatar, frames: int) -> None:
    """Clips of 6 frames, the last 2 decoded apart, decoded in pairs."""
    assert len(frames_of(hallo, hallo_avatar, voice(frames * FRAME), steps=1)) == frames


def test_a_hallo_stream_gives_the_frames_of_the_whole(hallo: Animator, hallo_avatar: Avatar) -> None:
    sound = voice(14 * FRAME)
    streamed = joined(hallo.stream(hallo_avatar, np.split(sound, [5, 700, 6000]), steps=2))
    np.testing.assert_array_equal(streamed, frames_of(hallo, hallo_avatar, sound))


@pytest.mark.parametrize("change", [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)])
def test_the_motion_scale_of_each_region_changes_the_result(
    hallo: Animator, hallo_avatar: Avatar, change: tuple[float, float, float]
) -> None:
    sound = voice(6 * FRAME)
    one, other = (frames_of(hallo, hallo_avatar, sound, motion_scale=scale) for scale in ((1.0, 1.0, 1.0), change))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_embedding": None}, r"missing are \['face_embedding'\]"),
        ({"audio_mask.0": None}, r"missing are \['audio_mask\.0'\]"),
        ({"voice": np.zeros((1, 8))}, r"unknown are \['voice'\]"),
        ({"face_embedding": np.zeros(8)}, r"face_embedding of the portrait has shape \(8,\); expected \(1, 8\)"),
    ],
)
def test_portrait_inputs_that_do_not_fit_are_named(
    hallo: Animator, hallo_inputs: dict[str, Array], change: dict[str, Array | None], message: str
) -> None:
    inputs = {name: array for name, array in {**hallo_inputs, **change}.items() if array is not None}
    with pytest.raises(InputError, match=message):
        make_avatar(hallo._model, prepare_portrait(picture(), hallo.config.size, face_box="full"), inputs=inputs)
