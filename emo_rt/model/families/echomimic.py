"""EchoMimic: the whole video at once, in overlapping windows whose predictions are averaged; Whisper's states as audio
tokens; the face's place as a soft mask.

Facts are those of EchoMimic v1's code (audio-driven pipelines). Three things are not as there: overlapping predictions
are divided by their number without guidance, too (the base pipeline forgets it there); frames behind the end of the
sound are computed and left out; pixels are rounded to bytes, not cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.box import Box
from emo_rt.media.framing import Portrait
from emo_rt.media.log_mel import column_count, log_mel
from emo_rt.model.config import ModelConfig, WhisperConfig, WindowsConfig
from emo_rt.model.contract import COEFFICIENTS, Array, GraphSpec, TensorSpec, step_graph
from emo_rt.model.families import echomimic_face
from emo_rt.model.families.base import COMMON_OPTIONS, Call, ClipState, Family, HearingWindows, Plan
from emo_rt.model.families.echomimic_windows import stream_config
from emo_rt.model.families.graphs import GraphBuilder
from emo_rt.model.identity import FaceInputs, refuse_all
from emo_rt.model.options import MOST_GUIDANCE, MOST_STEPS, AnimateOptions
from emo_rt.model.presets import BASE, QUALITY, Preset, Variant

ROWS_PER_SECOND = 50
"""Rows that Whisper's encoder gives."""
ROWS_BEFORE, ROWS_BEHIND = 4, 5
"""Rows that a frame attends to, around the row of its own time."""
ACCELERATED, FAST = "accelerated", "fast"
"""Variant of the accelerated weights beside the base ones, and the preset that runs it."""
STEPS, ACCELERATED_STEPS = 30, 6
"""Solver steps of the published scripts."""


class EchoMimic(Family):
    """EchoMimic v1, base and accelerated weights."""

    name = "echomimic"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        rows, encoder = ROWS_BEFORE + 1 + ROWS_BEHIND, config.audio.encoder
        check(config.windows is not None, "windows", config.windows, "windows in the family echomimic")
        check(isinstance(encoder, WhisperConfig), "audio.encoder", encoder, "Whisper's in the family echomimic")
        check(config.audio.projector_dim == 0, "audio.projector_dim", config.audio.projector_dim, "0 in this family")
        check(config.audio.tokens == rows * encoder.states, "audio.tokens", config.audio.tokens,
              f"{rows} rows of {encoder.states} states")  # fmt: skip
        check(config.reference.face_tokens == 0, "reference.face_tokens", config.reference.face_tokens, "0")
        check(config.speed is None, "speed", config.speed, "None in the family echomimic")
        check(config.deep_cache is None, "deep_cache", config.deep_cache, "None in the family echomimic")

    @property
    def windows(self) -> WindowsConfig:
        """How windows overlap and move."""
        assert self.config.windows is not None
        return self.config.windows

    # What a caller may ask for

    @property
    def heeds(self) -> frozenset[str]:
        return COMMON_OPTIONS | {"causal"}

    def constants(self, options: AnimateOptions) -> Mapping[str, Any]:
        return {}

    @property
    def clip_words(self) -> str:
        return f"the whole video in windows of {self.config.frames} frames, {self.windows.overlap} in common"

    @property
    def is_whole_video(self) -> bool:
        return True

    @property
    def worker(self) -> str:
        return "video"

    def stream_config(self) -> ModelConfig:
        return stream_config(self.config)

    @property
    def longest_s(self) -> float | None:
        return self.windows.longest_s

    @property
    def noise_limit(self) -> float:
        return self.windows.noise_limit

    # What is computed

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({"vae_encoder", "audio_encoder", "reference", "timestep", "update", "vae_decoder"})

    def _builder(self, dtype: str, guidance: Sequence[bool]) -> GraphBuilder:
        return EchoMimicGraphs(self.config, dtype, guidance)

    def face_mask(self, portrait: Portrait, head_room: float | None = None) -> Array:
        """1 in the face's box, with soft edges. Takes no ``head_room``."""
        size = portrait.pixels.shape[0]
        mesh = portrait.face.scaled(portrait.crop.width / size).shifted(portrait.crop.left, portrait.crop.top)
        height, width = portrait.picture.shape[:2]
        return echomimic_face.square_mask(mesh, portrait.crop, (width, height), size)[None, None]

    def portrait_inputs(
        self, portrait: Portrait, given: FaceInputs, original: Array, head_room: float | None = None
    ) -> dict[str, Array]:
        refuse_all(given, self.config.name)
        return {"face_mask": self.face_mask(portrait)}

    @property
    def needs_face(self) -> bool:
        """The original's mask is 1 everywhere where it finds none."""
        return False

    def crop(self, face: Box, width: int, height: int) -> Box:
        return echomimic_face.crop_box(face, width, height)

    # What it hears

    @property
    def hearing(self) -> HearingWindows:
        return HearingWindows(0, 0, 0, self.config.fps, is_normalized=False)

    def heard(self, waveform: Array) -> Iterator[tuple[Array, int]]:
        """Pieces of 3000 mel columns (30 s), one by one; the last is filled up with 0, which is not silence."""
        encoder = self.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        return self.pieces(log_mel(waveform, encoder.mel_bins))

    def pieces(self, mel: Array) -> Iterator[tuple[Array, int]]:
        """(bands, columns) from the begin of a piece on → what :meth:`heard` gives."""
        encoder = self.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        length = 2 * encoder.positions
        for start in range(0, mel.shape[1] - 1, length):
            piece = mel[:, start : start + length]
            yield np.pad(piece, ((0, 0), (0, length - piece.shape[1])))[None], piece.shape[1] // 2

    def row_count(self, samples: int) -> int:
        """Rows that the encoder gives for so many samples at 16 kHz: each piece keeps half of its columns."""
        encoder = self.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        pieces, rest = divmod(column_count(samples), 2 * encoder.positions)
        return pieces * encoder.positions + rest // 2

    def least_samples(self) -> int:
        """Samples of the shortest sound: a window's."""
        return -(-self.config.frames * AUDIO_SAMPLE_RATE // self.config.fps)

    def video_frames(self, samples: int) -> int:
        """Frames of the whole video: two more than the sound lasts; see :meth:`attended`."""
        return math.ceil((self.row_count(samples) + 1) * self.config.fps / ROWS_PER_SECOND) + 1

    def attended(self, samples: int) -> Array:
        """(frames, 10) int64: the rows that each frame of the whole video attends to, clamped at both ends."""
        rows = attended_rows(np.arange(self.video_frames(samples)), self.config.fps)
        return rows.clip(0, self.row_count(samples) - 1)

    # How a video is made

    def plan(self, state: ClipState) -> Plan:
        """All of the video with its first clip; the other clips are there then."""
        if state.index > 0:
            return Plan("none", (), (), frames=state.frames, first=state.index * self.config.frames)
        windows = window_starts(state.frames, self.config.frames, self.windows.overlap)
        calls = [Call("step", range(start, start + self.config.frames)) for start in windows]
        update = Call("update", range(state.frames))
        return Plan("none", (), (*calls, update), frames=state.frames, shift=self.windows.shift)

    @property
    def first_motion(self) -> Literal["none"]:
        return "none"


def attended_rows(frames: NDArray[np.int64], fps: int) -> NDArray[np.int64]:
    """(frames, 10): rows around the time of each frame, wherever the sound begins and ends."""
    around = np.arange(-ROWS_BEFORE, ROWS_BEHIND + 1)
    rows: NDArray[np.int64] = (frames * ROWS_PER_SECOND // fps)[:, None] + around
    return rows


def window_starts(frames: int, window: int, overlap: int) -> tuple[int, ...]:
    """First frames of the windows over a video; the last ones reach around its end. One where it is no longer than a
    window."""
    return tuple(range(0, frames, window - overlap)) if frames > window else (0,)


def offers(is_accelerated: bool, has_both: bool = False) -> dict[str, Any]:
    """Variants and presets of a bundle's manifest. ``is_accelerated``: its weights need 6 steps and no guidance;
    ``has_both``: it has the base weights, and the accelerated ones as a second variant with a preset of their own."""
    # Sums of predictions leave no room for solvers that look back at earlier x0.
    variant = Variant(solvers=("ddim", "euler"), steps=(1, MOST_STEPS), guidance=(0.0, MOST_GUIDANCE))
    quality = Preset(steps=ACCELERATED_STEPS, guidance=1.0) if is_accelerated else Preset(steps=STEPS)
    presets = {QUALITY: quality}
    if has_both:
        presets[QUALITY] = replace(quality, ladder=(FAST,))
        presets[FAST] = Preset(variant=ACCELERATED, steps=ACCELERATED_STEPS, guidance=1.0)
    return {
        "variants": {name: asdict(variant) for name in (BASE, ACCELERATED)[: 1 + has_both]},
        "presets": {name: asdict(preset) for name, preset in presets.items()},
        "default_preset": QUALITY,
    }


class EchoMimicGraphs(GraphBuilder):
    """Without ``clip``; a step is one ``predict`` for each window, and ``update`` for all frames."""

    def all(self) -> list[GraphSpec]:
        predict = [self.predict(guided) for guided in self.guidance]
        before = [self.vae_encoder(), self.audio_encoder(), self.reference(), self.timestep()]
        return [*before, *predict, self.update(), self.vae_decoder()]

    def audio_encoder(self) -> GraphSpec:
        encoder = self.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        mel = TensorSpec("mel", "float32", (1, encoder.mel_bins, 2 * encoder.positions))
        shape = (encoder.positions, encoder.states, encoder.hidden_size)
        return GraphSpec("audio_encoder", (mel,), (TensorSpec("audio_hidden", "float32", shape),))

    def predict(self, guided: bool) -> GraphSpec:
        """One window of a solver step: adds its guided prediction to the sums of those before it."""
        audio = self.config.audio
        tokens = TensorSpec("audio_tokens", self.dtype, (self.config.frames, audio.tokens, audio.token_dim))
        state = [TensorSpec("latents", "float32", self.latents), TensorSpec("sums", "float32", self.latents)]
        scale = [TensorSpec("guidance_scale", "float32", (1,))] if guided else []
        inputs = (*state, self.time_embedding(), *scale, tokens, *self.portrait_features())
        prediction = TensorSpec("prediction", "float32", (1 + guided, *self.latents))
        outputs = (TensorSpec("next_sums", "float32", self.latents), prediction)
        name = step_graph(guided).replace("step", "predict")
        return GraphSpec(name, inputs, outputs, "step", BASE, guided)

    def update(self) -> GraphSpec:
        """The end of a solver step, for as many frames as a window has: average and solver."""
        inputs = (
            TensorSpec("latents", "float32", self.latents),
            TensorSpec("sums", "float32", self.latents),
            TensorSpec("frame_weights", "float32", (self.config.frames,)),
            TensorSpec("coefficients", "float32", (COEFFICIENTS,)),
        )
        return GraphSpec("update", inputs, (TensorSpec("next_latents", "float32", self.latents),))
