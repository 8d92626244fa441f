"""From a waveform of any length, known or not, to clips: how many frames each has and what it hears.

The audio encoder runs once per clip, over the clip's F frames, the m neighbours that its first and last frame attend
to, and the context that the encoder hears on both sides: a clip waits for F + m + R frames of sound. Streaming gives
what offline gives: windows lie at fixed times, a clip is handed out only once nothing that can still come would change
it, and the end is treated the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.kept_samples import KeptSamples
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.base import Ear
from emo_rt.model.families.registry import family_of

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Encode = Callable[[Floats], Floats]
"""(samples,) at 16 kHz → (frames, layers, hidden): the ``audio_encoder`` graph."""


@dataclass(frozen=True, eq=False)
class ClipSound:
    """The sound of one clip."""

    index: int
    """Number of the clip, from 0."""
    frames: int
    """Frames of this clip that belong to the video: F, fewer in the last clip."""
    waveform: Floats
    """(samples,) at 16 kHz, what the encoder hears. The same object for all clips where it hears the whole file."""
    rows: Rows
    """(F, 2m+1): which of the encoder's frames each frame attends to, itself in the middle. Of a video that is made at
    once: (frames, rows) of the whole video."""


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
    sounds, encoded = clip_sounds(config), Encoded()
    for block in chain(blocks, [None]):
        sounds.end() if block is None else sounds.push(block)
        while sounds.waiting:
            sound = sounds.take()
            yield ClipAudio(sound.index, encoded.windows(sound, encode), sound.frames)


class Encoded:
    """Hidden states of one waveform after the other; those of the last are kept for the clips that share it."""

    def __init__(self) -> None:
        self._waveform: Floats | None = None
        self._hidden = np.zeros(0, np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return self._hidden.nbytes

    def windows(self, sound: ClipSound, encode: Encode) -> Floats:
        """(F, 2m+1, layers, hidden) float32 of one clip."""
        if sound.waveform is not self._waveform:
            self._hidden, self._waveform = encode(sound.waveform), sound.waveform
        windows: Floats = np.asarray(self._hidden[sound.rows], np.float32)
        return windows

    def forget(self) -> None:
        """Give the memory back."""
        self._waveform, self._hidden = None, np.zeros(0, np.float32)


class ClipSounds(ABC):
    """Takes a waveform piece by piece and gives the sounds of its clips, each as soon as it is certain."""

    def __init__(self, config: ModelConfig) -> None:
        self._config, self._audio = config, config.audio
        self.received = 0
        """Samples so far."""
        self._total: int | None = None
        self.index = 0
        """Number of the next clip."""

    @property
    def has_ended(self) -> bool:
        """Whether the end is known."""
        return self._total is not None

    @property
    def waiting(self) -> int:
        """Clips that can be taken now."""
        return max(self._certain() - self.index, 0)

    @property
    def is_done(self) -> bool:
        """Whether the sound has ended and every clip was taken."""
        return self.has_ended and not self.waiting

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of the sound that is kept."""

    @abstractmethod
    def push(self, block: Floats) -> None:
        """Take (n,) more samples."""

    def end(self) -> None:
        """No more will come. No sound at all counts as one silent frame."""
        self._total = frame_count(self.received, self._config.fps)

    def take(self) -> ClipSound:
        """The next clip's; there must be one."""
        sound = self._sound(self.index)
        self.index += 1
        return sound

    def _certain(self) -> int:
        """Clips of which nothing can change any more."""
        return 0 if self._total is None else clip_count(self._total, self._config)

    @abstractmethod
    def _sound(self, index: int) -> ClipSound:
        """What a certain clip hears."""

    def _frames(self, index: int) -> int:
        first = index * self._config.frames
        return self._config.frames if self._total is None else min(self._config.frames, self._total - first)

    def _attended(self, index: int, clips: int) -> Rows:
        """(F, 2m+1) frames of the video; neighbours are clamped to the frames of ``clips`` clips."""
        first, reach = index * self._config.frames, self._audio.context_frames
        around = np.arange(first, first + self._config.frames)[:, None] + np.arange(-reach, reach + 1)
        return around.clip(0, clips * self._config.frames - 1)


def clip_sounds(config: ModelConfig) -> ClipSounds:
    """An empty one for a model."""
    if family_of(config).is_whole_video:
        return VideoSounds(config)
    ear = family_of(config).ear()
    if ear is not None:
        return HeardSounds(config, ear)
    return WholeSounds(config) if family_of(config).hearing.is_whole_file else WindowedSounds(config)


class WholeSounds(ClipSounds):
    """The encoder hears everything at once, padded to whole clips (Hallo)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._blocks = list[Floats]()
        self._whole = np.zeros(0, np.float32)

    @property
    def nbytes(self) -> int:
        return self._whole.nbytes + sum(block.nbytes for block in self._blocks)

    def push(self, block: Floats) -> None:
        self._blocks.append(block)
        self.received += len(block)

    def end(self) -> None:
        super().end()
        waveform = np.concatenate([np.zeros(0, np.float32), *self._blocks])
        self._blocks.clear()
        if self._audio.normalize and len(waveform):
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        silence = self._padded_clips() * self._config.frames * AUDIO_SAMPLE_RATE // self._config.fps - len(waveform)
        self._whole = np.pad(waveform.astype(np.float32), (0, max(silence, 0)))

    def _sound(self, index: int) -> ClipSound:
        rows = self._attended(index, self._padded_clips())
        return ClipSound(index, self._frames(index), self._whole, rows)

    def _padded_clips(self) -> int:
        covering = -(-self.received * self._config.fps // AUDIO_SAMPLE_RATE)  # Hallo counts a begun frame as one
        return clip_count(max(covering, 1), self._config)


class VideoSounds(ClipSounds):
    """The sound of a whole video, for families that make it at once (EchoMimic)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._family = family_of(config)
        self._blocks = list[Floats]()
        self._whole = np.zeros(0, np.float32)
        self._rows: Rows = np.zeros((0, 0), np.int64)

    @property
    def nbytes(self) -> int:
        return self._whole.nbytes + self._rows.nbytes + sum(block.nbytes for block in self._blocks)

    def push(self, block: Floats) -> None:
        self._blocks.append(block)
        self.received += len(block)

    def end(self) -> None:
        super().end()
        silence = max(self._family.least_samples() - self.received, 0)
        self._whole = np.concatenate([*self._blocks, np.zeros(silence, np.float32)])
        self._blocks.clear()
        self._rows = self._family.attended(len(self._whole))

    def _sound(self, index: int) -> ClipSound:
        return ClipSound(index, self._frames(index), self._whole, self._rows)


class HeardSounds(ClipSounds):
    """What a family's own ear hears, clip after clip."""

    def __init__(self, config: ModelConfig, ear: Ear) -> None:
        super().__init__(config)
        self._ear = ear
        self._known = 0
        """Clips that are certain, as far as was looked."""

    @property
    def nbytes(self) -> int:
        return self._ear.nbytes

    def push(self, block: Floats) -> None:
        self._ear.push(block)
        self.received += len(block)

    def end(self) -> None:
        super().end()
        self._ear.end()

    def _certain(self) -> int:
        """Clips that are full, followed by another, and all that they hear is there."""
        if self._total is not None:
            return super()._certain()
        followed = (frame_count(self.received, self._config.fps) - 1) // self._config.frames
        while self._known < followed and self._ear.is_certain(self._known):
            self._known += 1
        return self._known

    def _sound(self, index: int) -> ClipSound:
        return ClipSound(index, self._frames(index), *self._ear.sound(index))


class WindowedSounds(ClipSounds):
    """One window per clip; keeps only the sound that later clips hear. Before and after it there is silence."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._window = family_of(config).hearing.samples
        self._kept = KeptSamples()

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def push(self, block: Floats) -> None:
        self._kept.push(block)
        self.received += len(block)

    def _certain(self) -> int:
        """Clips that are full, followed by another, and all that they hear is there."""
        if self._total is not None:
            return super()._certain()
        audio, frames = self._audio, self._config.frames
        followed = (frame_count(self.received, self._config.fps) - 1) // frames
        heard = ((self.received - self._window + 1) * self._config.fps - 1) // AUDIO_SAMPLE_RATE
        return min(followed, (heard + audio.context_frames + audio.left_context_frames) // frames + 1)

    def _sound(self, index: int) -> ClipSound:
        start = self._start(index)
        heard = self._kept.between(max(start, 0), max(start + self._window, 0))
        before = max(0, -start)
        waveform = np.pad(heard, (before, self._window - before - len(heard)))
        clips = index + 2 if self._total is None else clip_count(self._total, self._config)
        rows = self._attended(index, clips) - self._first_frame(index)
        sound = ClipSound(index, self._frames(index), waveform, rows)
        self._kept.forget(max(self._start(index + 1), 0))
        return sound

    def _first_frame(self, index: int) -> int:
        return index * self._config.frames - self._audio.context_frames - self._audio.left_context_frames

    def _start(self, index: int) -> int:
        """First sample of a clip's window; negative where it begins before the sound."""
        return samples_of(self._first_frame(index), self._config)


def samples_of(frames: int, config: ModelConfig) -> int:
    """Samples at 16 kHz up to the start of a frame."""
    return frames * AUDIO_SAMPLE_RATE // config.fps
