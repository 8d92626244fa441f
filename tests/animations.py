"""What tests of :class:`emo_rt.Animator` share: a picture, a voice, the frames of a short animation, and a second
implementation of the whole run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from hypothesis import HealthCheck, settings

from emo_rt import AnimateOptions, Animator, Avatar, Box, Bundle, Chunk
from emo_rt.model.contract import Array
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.clips import frame_count, noise_for_clip

RATE = 16_000
FRAME = 640
"""Samples per frame at 25 fps."""
CLIP = 4 * FRAME
FACE = Box(8, 8, 30, 32)
"""Where the face of :func:`picture` is."""

slow_examples = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def picture(height: int = 40, width: int = 40, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def voice(samples: int, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


def frames_of(animator: Animator, avatar: Avatar, sound: Array | None = None, **options: Any) -> Array:
    """All frames of a short animation; three clips and two steps unless said otherwise."""
    sound = voice(3 * CLIP) if sound is None else sound
    return animator.animate(avatar, sound, sample_rate=RATE, **{"steps": 2, **options}).numpy()


def joined(chunks: Iterator[Chunk]) -> Array:
    return np.concatenate([chunk.frames for chunk in chunks])


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
