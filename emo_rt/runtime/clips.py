"""From a waveform of any length, known or not, to clips: how many frames each has and what it hears.

Streaming gives what offline gives: windows of the audio encoder lie at fixed times, a clip is handed out only once
nothing that can still come would change it, and the end is treated the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of

Floats = NDArray[np.float32]
Encode = Callable[[Floats], Floats]
"""(samples,) at 16 kHz → (frames, layers, hidden): the ``audio_encoder`` graph."""


@dataclass(frozen=True, eq=False)
class ClipAudio:
    """What one clip hears."""

    index: int
    """Number of the clip, from 0."""
    windows: Floats
    """(F, 2m+1, layers, hidden): each frame's hidden states with those of its neighbours."""
    frames: int
    """Frames of this clip that belong to the video: F, fewer in the last clip."""


def frame_count(samples: int, fps: int) -> int:
    """Video frames for ``samples`` at 16 kHz: the nearest whole number, at least 1."""
    return max(1, (2 * samples * fps + AUDIO_SAMPLE_RATE) // (2 * AUDIO_SAMPLE_RATE))


def clip_count(frames: int, config: ModelConfig) -> int:
    """Clips for that many frames."""
    return -(-frames // config.frames)


def noise_for_clip(seed: int, index: int, shape: tuple[int, ...]) -> Floats:
    """Unit noise of one clip, from a counter-based generator keyed by seed and clip: no clip depends on another's."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    return generator.standard_normal(shape, np.float32)


def split_into_clips(config: ModelConfig, encode: Encode, blocks: Iterable[Floats]) -> Iterator[ClipAudio]:
    """Clips of a 16 kHz waveform that comes in ``blocks`` (n,) of any size, each as soon as it is certain."""
    make = _whole_file_clips if family_of(config).hearing.is_whole_file else _windowed_clips
    return make(config, encode, iter(blocks))


def _whole_file_clips(config: ModelConfig, encode: Encode, blocks: Iterator[Floats]) -> Iterator[ClipAudio]:
    """The encoder hears everything at once, padded to whole clips (Hallo)."""
    waveform = np.concatenate([np.zeros(0, np.float32), *blocks])
    total = frame_count(len(waveform), config.fps)
    covering = -(-len(waveform) * config.fps // AUDIO_SAMPLE_RATE)  # Hallo counts a begun frame as one
    padded = clip_count(max(covering, 1), config) * config.frames
    if config.audio.normalize:
        waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7) if len(waveform) else waveform
    silence = padded * AUDIO_SAMPLE_RATE // config.fps - len(waveform)
    hidden = encode(np.pad(waveform.astype(np.float32), (0, max(silence, 0))))[:padded]
    for index in range(clip_count(total, config)):
        yield _clip(config, index, total, hidden.__getitem__, padded)


def _windowed_clips(config: ModelConfig, encode: Encode, blocks: Iterator[Floats]) -> Iterator[ClipAudio]:
    hearing = _WindowedHearing(config, encode)
    index, total = 0, None
    while total is None or index < clip_count(total, config):
        while total is None and not hearing.is_certain(index):
            block = next(blocks, None)
            if block is None:
                total = frame_count(hearing.received, config.fps)
            else:
                hearing.push(block)
        end = (index + 2 if total is None else clip_count(total, config)) * config.frames
        yield _clip(config, index, total, hearing.hidden, end)
        index += 1
        hearing.forget(index * config.frames - config.audio.context_frames)


def _clip(config: ModelConfig, index: int, total: int | None, hidden: Callable[[int], Floats], end: int) -> ClipAudio:
    """Windows of one clip; neighbours are clamped to the frames 0 … ``end`` − 1 of all clips."""
    first, reach = index * config.frames, config.audio.context_frames
    around = np.arange(first, first + config.frames)[:, None] + np.arange(-reach, reach + 1)
    rows = [[hidden(int(frame)) for frame in row] for row in around.clip(0, end - 1)]
    frames = config.frames if total is None else min(config.frames, total - first)
    return ClipAudio(index, np.array(rows, np.float32), frames)


class _WindowedHearing:
    """Hidden states by frame, encoded window by window; keeps only what is still needed."""

    def __init__(self, config: ModelConfig, encode: Encode) -> None:
        self._config, self._audio, self._encode = config, config.audio, encode
        self.received = 0
        self._kept = np.zeros(0, np.float32)
        self._kept_from = 0
        self._windows: dict[int, Floats] = {}

    def push(self, block: Floats) -> None:
        """Take more of the waveform."""
        self._kept = np.concatenate([self._kept, block])
        self.received += len(block)

    def is_certain(self, index: int) -> bool:
        """Whether clip ``index`` is full and followed by another, and all that it hears is there."""
        config, audio = self._config, self._audio
        more_follows = (index + 1) * config.frames < frame_count(self.received, config.fps)
        last_window = ((index + 1) * config.frames - 1 + audio.context_frames) // audio.window_frames
        heard = (last_window + 1) * audio.window_frames + audio.right_context_frames
        return more_follows and self.received >= self._samples(heard)

    def hidden(self, frame: int) -> Floats:
        """(layers, hidden) of one frame; beyond the end of the waveform there is silence."""
        window, row = divmod(frame, self._audio.window_frames)
        if window not in self._windows:
            self._windows[window] = self._encode_window(window)
        hidden: Floats = self._windows[window][row]
        return hidden

    def forget(self, frame: int) -> None:
        """Frames before ``frame`` will not be asked for again."""
        window = max(frame, 0) // self._audio.window_frames
        self._windows = {index: hidden for index, hidden in self._windows.items() if index >= window}
        start = max(self._samples(window * self._audio.window_frames - self._audio.left_context_frames), 0)
        if start > self._kept_from:
            self._kept = self._kept[start - self._kept_from :]
            self._kept_from = start

    def _encode_window(self, window: int) -> Floats:
        audio = self._audio
        first = window * audio.window_frames - audio.left_context_frames
        frames = audio.left_context_frames + audio.window_frames + audio.right_context_frames
        start, stop = self._samples(first), self._samples(first + frames)
        heard = self._kept[max(start - self._kept_from, 0) : max(stop - self._kept_from, 0)]
        before = max(0, -start)
        waveform = np.pad(heard, (before, stop - start - before - len(heard)))
        hidden: Floats = self._encode(waveform)[audio.left_context_frames :][: audio.window_frames]
        return hidden.copy()

    def _samples(self, frames: int) -> int:
        return frames * AUDIO_SAMPLE_RATE // self._config.fps
