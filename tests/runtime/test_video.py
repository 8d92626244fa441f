"""Whole videos in overlapping windows (EchoMimic): frames, state, progress and limits, on the CPU and the stand-in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cuda_stand_in import StandInBackend, StandInDevice

from emo_rt import Animator, AudioError, Avatar, Box, Bundle, Cancelled, FaceNotFoundError, InputError, Progress, Video
from emo_rt.media.log_mel import log_mel
from emo_rt.model.contract import Array
from emo_rt.model.solvers import solver_table
from emo_rt.runtime import estimate
from emo_rt.runtime.clips import frame_count, noise_for_clip
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.video_state import pieces
from emo_rt.runtime.window_denoiser import frame_weights

RATE = 16_000
SECOND = 24
"""Frames of a second."""


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (48, 40, 3), np.uint8)


def voice(seconds: float, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE), np.float32)


@pytest.fixture(scope="module")
def animator(echomimic_bundle: Bundle) -> Iterator[Animator]:
    with Animator.load(echomimic_bundle.path, device="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def avatar(animator: Animator) -> Avatar:
    return animator.prepare(picture(), face_box=Box(10, 10, 26, 30))


def frames_of(animator: Animator, avatar: Avatar, seconds: float = 0.5, **options: Any) -> Array:
    settings = {"steps": 2, "paste_back": False, **options}
    return animator.animate(avatar, voice(seconds), sample_rate=RATE, **settings).numpy()


class Plainly:
    """The published procedure: one graph after the other in plain ONNX Runtime sessions, windows in numpy."""

    def __init__(self, bundle: Bundle) -> None:
        self.config, self.bundle = bundle.config, bundle
        self._sessions: dict[str, Any] = {}

    def __call__(self, graph: str, **inputs: Array) -> dict[str, Array]:
        if graph not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            path = str(self.bundle.graph_path(graph))
            self._sessions[graph] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session = self._sessions[graph]
        names = [node.name for node in session.get_outputs()]
        return dict(zip(names, session.run(names, {n.name: inputs[n.name] for n in session.get_inputs()}), strict=True))

    def animate(self, avatar: Avatar, sound: Array, steps: int, guidance: float, seed: int) -> Array:
        config = self.config
        pixels = avatar.portrait.pixels.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        known = self("vae_encoder", pixels=pixels)
        known["face_mask"] = avatar.model.family.face_mask(avatar.portrait)
        known |= self("reference", **known)
        tokens = self.hear(sound)
        count = len(tokens)
        x = np.clip(noise_for_clip(seed, 0, (count, 4, config.latent_size, config.latent_size)), -1.5, 1.5)
        table = solver_table(config.schedule, "ddim", steps)
        graph = "predict_unguided" if guidance == 1 else "predict"
        for step, (at, row) in enumerate(zip(table.timesteps, table.coefficients, strict=True)):
            given = {**known, **self("timestep", timestep=np.array([at], np.float32))}
            total, covered = np.zeros_like(x), np.zeros((count, 1, 1, 1))
            for start in range(0, count, config.frames - 3) if count > config.frames else (0,):
                there = (np.arange(start, start + config.frames) + 2 * step) % count
                scale = np.array([guidance], np.float32)
                window = {"latents": x[there], "audio_tokens": tokens[there], "sums": np.zeros_like(x[there])}
                halves = self(graph, **given, **window, guidance_scale=scale)["prediction"]
                total[there] += halves[0] + guidance * (halves[1] - halves[0]) if guidance != 1 else halves[0]
                covered[there] += 1
            p, q, a, b, _, _ = row
            x = (a * x + b * (p * x + q * (total / covered))).astype(np.float32)
        wanted = frame_count(len(sound), config.fps)
        padded = np.concatenate([x[:wanted], x[: -wanted % config.decode_frames]])
        starts = range(0, len(padded), config.decode_frames)
        decoded = [self("vae_decoder", frame_latents=padded[s:][: config.decode_frames])["pixels_rgb"] for s in starts]
        return np.concatenate(decoded)[:wanted]

    def hear(self, sound: Array) -> Array:
        """(frames, tokens, dim), by the published frame rule."""
        shortest = self.config.frames * RATE // self.config.fps
        mel = log_mel(np.pad(sound, (0, max(shortest - len(sound), 0))))
        hidden = []
        for start in range(0, mel.shape[1], 100):  # pieces of this small model last a second
            piece = mel[:, start : start + 100]
            padded = np.pad(piece, ((0, 0), (0, 100 - piece.shape[1])))[None]
            hidden.append(self("audio_encoder", mel=padded)["audio_hidden"][: piece.shape[1] // 2])
        rows = np.concatenate(hidden)
        count = -(-(len(rows) + 1) * self.config.fps // 50) + 1
        return np.stack([self.tokens_of(rows, frame) for frame in range(count)])

    def tokens_of(self, rows: Array, frame: int) -> Array:
        centre = 50 * frame // self.config.fps
        heard = [rows[min(max(row, 0), len(rows) - 1)] for row in range(centre - 4, centre + 6)]
        return np.concatenate(heard)


@pytest.mark.parametrize(
    ("seconds", "guidance"), [(0.9, 2.5), (1.5, 1.0), (0.02, 2.0)], ids=["windows", "two pieces", "shorter"]
)
def test_a_video_is_what_the_graphs_one_by_one_compute(
    animator: Animator, avatar: Avatar, seconds: float, guidance: float
) -> None:
    found = frames_of(animator, avatar, seconds, seed=5, guidance=guidance)
    expected = Plainly(animator.bundle).animate(avatar, voice(seconds), 2, guidance, 5)
    assert found.shape == expected.shape
    assert len(found) == max(1, round(seconds * SECOND))
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_a_stream_gives_the_same_frames_after_its_end(animator: Animator, avatar: Avatar) -> None:
    chunks = animator.stream(avatar, np.array_split(voice(0.5), 5), steps=2, paste_back=False)
    found = np.concatenate([chunk.frames for chunk in chunks])
    np.testing.assert_array_equal(found, frames_of(animator, avatar))


def test_guidance_in_a_part_of_the_steps(animator: Animator, avatar: Avatar) -> None:
    both = frames_of(animator, avatar, guidance_interval=(0.0, 0.5))
    assert not np.array_equal(both, frames_of(animator, avatar))
    assert not np.array_equal(both, frames_of(animator, avatar, guidance=1.0))


def test_noise_is_cut_off(animator: Animator, avatar: Avatar) -> None:
    def noise(index: int) -> Array:
        assert index == 0
        return noise_for_clip(0, 0, (14, 4, 8, 8))

    own = frames_of(animator, avatar)
    np.testing.assert_array_equal(own, frames_of(animator, avatar, noise=noise))
    np.testing.assert_array_equal(own, frames_of(animator, avatar, noise=lambda i: noise(i).clip(-1.5, 1.5)))
    assert not np.array_equal(own, frames_of(animator, avatar, noise=lambda i: noise(i).clip(-1, 1)))
    with pytest.raises(InputError, match=r"noise of clip 0 has shape .* expected \(14, 4, 8, 8\)"):
        frames_of(animator, avatar, noise=lambda _: np.zeros((6, 4, 8, 8), np.float32))


def test_progress_comes_after_every_window(animator: Animator, avatar: Avatar) -> None:
    seen: list[Progress] = []
    frames_of(animator, avatar, progress=seen.append)
    parts = [0.2, 0.4, 0.6, 0.8]  # 14 frames: windows of 6 start at 0, 3, 6, 9 and 12
    expected = [*((0, part) for part in parts), (1, 0), *((1, part) for part in parts), (2, 0)]
    assert [(at.step, round(at.part, 3)) for at in seen] == expected
    assert {(at.clip, at.clips, at.steps) for at in seen} == {(0, 1, 2)}


def test_a_cancel_is_heard_between_two_windows(animator: Animator, avatar: Avatar) -> None:
    stop, seen = threading.Event(), list[Progress]()

    def progress(at: Progress) -> None:
        seen.append(at)
        stop.set()

    with pytest.raises(Cancelled):
        frames_of(animator, avatar, progress=progress, cancel=stop)
    assert len(seen) == 1
    assert animator.memory_stats()["runs"] == 0
    assert len(frames_of(animator, avatar)) == SECOND // 2


def test_the_state_is_counted_and_given_back(animator: Animator, avatar: Avatar) -> None:
    with animator.open_session(avatar, steps=1) as session:
        session.push(voice(1.0))
        before = session.nbytes
        session.end()
        next(session)
        frames = 30  # 26 of the sound and two more, in whole windows
        latents, tokens = 2 * 4 * 8 * 8 * 4, 20 * 16 * 4
        assert session.nbytes >= frames * (latents + tokens)
        assert before < session.nbytes
    assert animator.memory_stats()["runs"] == 0


def test_longer_sounds_than_fit_are_refused(animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(AudioError, match="600"):
        animator.animate(avatar, np.zeros(601 * RATE, np.float32), sample_rate=RATE)
    with animator.open_session(avatar) as session, pytest.raises(AudioError, match="600"):
        session.push(np.zeros(601 * RATE, np.float32))
    assert animator.animate(avatar, np.zeros(601 * RATE, np.float32), sample_rate=RATE, max_audio_s=700.0).frame_count


@pytest.mark.parametrize("obstacle", [None, "it is in the way"], ids=["captured", "launched"])
@pytest.mark.parametrize("seed", range(3))
def test_the_gpus_code_path_gives_the_same_frames(
    echomimic_bundle: Bundle, animator: Animator, avatar: Avatar, seed: int, obstacle: str | None
) -> None:
    """One captured graph for every window of every length, and one for the update; no rule of CUDA is broken."""
    device = StandInDevice(seed)
    with Animator(LoadedModel(echomimic_bundle, StandInBackend(device, obstacle))) as there:
        own = there.prepare(picture(), face_box=Box(10, 10, 26, 30))
        for seconds in (0.5, 0.3):
            found = frames_of(there, own, seconds)
            np.testing.assert_array_equal(found, frames_of(animator, avatar, seconds))
            assert there.memory_stats()["captured_loops"] == (0 if obstacle else 2)
    assert device.broken == []


def test_an_estimate_grows_with_the_length(animator: Animator, avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frames come after all of the solver's work; memory grows with the latents."""

    def pace(video: Video) -> estimate.Pace:
        clips = -(-video.frame_count // 6)
        return estimate.Pace(1.0 + clips * (0.5 + 0.25 * made.pop()), 0.1, 2.0, 1_000_000)

    made = [1, 1, 3, 1][::-1]
    monkeypatch.setattr(estimate, "pace_of", pace)
    found = animator.estimate(20.0, avatar, steps=10)
    assert found.clips == 80
    assert found.first_frames_s == pytest.approx(1 + 80 * (0.5 + 2.5))
    assert found.wall_s == pytest.approx(found.first_frames_s + 79 * 0.1 + 2)
    assert found.memory_bytes is not None
    assert found.memory_bytes > 1_000_000 + 480 * 2 * 4 * 8 * 8 * 4


class Blind:
    """Finds no face."""

    def detect(self, picture: Array) -> list[Box]:
        return []


@pytest.mark.parametrize("size", [(48, 40), (40, 64), (33, 33)])
def test_a_picture_without_a_face_has_a_mask_of_ones(
    animator: Animator, tiny_animator: Animator, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """As in the original. Models that need a face still refuse it."""
    scene = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    own = animator.prepare(scene, detector=Blind())
    assert "all of the picture's square is animated" in caplog.text
    assert (animator._model.family.face_mask(own.portrait) == 1).all()
    assert own.portrait.crop.width == own.portrait.crop.height == min(size) // 2 * 2
    assert len(frames_of(animator, own)) == SECOND // 2
    with pytest.raises(FaceNotFoundError):
        tiny_animator.prepare(scene, detector=Blind())


def test_two_talkers_share_the_device(animator: Animator, avatar: Avatar) -> None:
    other = animator.prepare(picture(3), face_box="full")
    expected = [frames_of(animator, one) for one in (avatar, other)]
    sessions = [animator.open_session(one, steps=2, paste_back=False) for one in (avatar, other)]
    with sessions[0], sessions[1]:
        for session in sessions:
            session.push(voice(0.5))
            session.end()
        found = [np.concatenate([chunk.frames for chunk in session]) for session in reversed(sessions)]
    np.testing.assert_array_equal(found, expected[::-1])


@pytest.mark.parametrize("frames", [6, 7, 8, 11, 12, 30])
def test_weights_are_shares_of_the_windows(frames: int) -> None:
    windows, covered = range(0, frames, 3), np.zeros(frames)
    for start in windows:
        for frame in range(start, start + 6):
            covered[frame % frames] += 1
    np.testing.assert_allclose(frame_weights(windows, 6, frames), 1 / covered, rtol=1e-6)


@pytest.mark.parametrize("first", [-13, -1, 0, 3, 9, 25])
def test_pieces_are_the_rows_of_a_window_in_order(first: int) -> None:
    found = [(there + i, here + i) for there, here, count in pieces(first, 6, 11) for i in range(count)]
    assert found == [((first + i) % 11, i) for i in range(6)]
