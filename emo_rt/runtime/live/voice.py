"""Sound that was pushed and waits: utterance by utterance, cut into frames when the model is ready for it."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE, Resampler
from emo_rt.runtime.live.pair import SoundFrame

Samples = NDArray[np.float32]


class Ready(NamedTuple):
    """Whole frames that can be taken now."""

    ended: int
    """Of utterances whose end is known; these come first."""
    open: int
    """Of the one that is still coming."""


def border(frame: int, rate: int, fps: int) -> int:
    """First sample of a frame: the nearest to its time."""
    return (2 * frame * rate + fps) // (2 * fps)


class _Tape:
    """Samples in the order in which they came."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, block: Samples) -> None:
        if len(block):
            self._blocks.append(block)
            self._length += len(block)

    def take(self, count: int) -> Samples:
        """The next ``count`` samples; silence where there are no more."""
        taken = np.zeros(count, np.float32)
        filled = 0
        while filled < count and self._blocks:
            block = self._blocks.popleft()
            part = block[: count - filled]
            taken[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(block):
                self._blocks.appendleft(block[len(part) :])
        self._length -= filled
        return taken


class _Utterance:
    """One piece of speech at two rates, with the time at which each part of it came."""

    def __init__(self, number: int, rate: int) -> None:
        self.number = number
        self.has_ended = self.is_begun = False
        self.audio, self.heard = _Tape(), _Tape()
        self._mono, self._resampler = Resampler(rate, rate), Resampler(rate)
        self._arrivals: deque[tuple[int, float]] = deque()
        self._pushed = self._taken = 0

    def push(self, pcm: NDArray[Any], now: float) -> None:
        mono = self._mono.push(pcm)
        self.heard.push(self._resampler.push(pcm))
        self.audio.push(mono.copy() if np.shares_memory(mono, pcm) else mono)
        self._pushed += len(mono)
        self._arrivals.append((self._pushed, now))

    def end(self) -> None:
        self.heard.push(self._resampler.flush())
        self.has_ended = True

    @property
    def oldest(self) -> float | None:
        """When the first of what waits came."""
        return self._arrivals[0][1] if self._arrivals else None

    def take(self, audio: int, heard: int) -> SoundFrame:
        samples = min(audio, len(self.audio))
        sound, listened = self.audio.take(audio), self.heard.take(heard)
        self._taken += samples
        arrived = self._arrival() if samples else None
        self.is_begun = True
        is_last = self.has_ended and not len(self.audio)
        return SoundFrame(sound, listened, samples, self.number, is_last, arrived)

    def _arrival(self) -> float:
        """When the last sample that was taken came."""
        while self._arrivals[0][0] < self._taken:
            self._arrivals.popleft()
        end, time = self._arrivals[0]
        if end == self._taken:
            self._arrivals.popleft()
        return time


class Voice:
    """The queue of utterances. The owner locks."""

    def __init__(self, rate: int, fps: int) -> None:
        self._rate, self._fps = rate, fps
        self._utterances: deque[_Utterance] = deque()
        self._count = 0
        self._next_audio = self._next_heard = self._correction = 0
        self.last_push: float | None = None
        """When sound came last."""
        Resampler(rate)  # refuses a wrong rate

    @property
    def seconds(self) -> float:
        """Sound that waits."""
        return sum(len(one.audio) for one in self._utterances) / self._rate

    @property
    def oldest(self) -> float | None:
        """When the first of what waits came; ``None`` where nothing does."""
        return next((one.oldest for one in self._utterances if one.oldest is not None), None)

    @property
    def spare_s(self) -> float:
        """Sound of the utterance that still comes, behind its last whole frame."""
        open_frames = self.ready().open
        return max(len(self._utterances[-1].audio) / self._rate - open_frames / self._fps, 0.0) if open_frames else 0.0

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance is under way of which more is to come."""
        return bool(self._utterances) and self._utterances[-1].is_begun and not self._utterances[-1].has_ended

    def push(self, pcm: NDArray[Any], now: float) -> None:
        """More of the present utterance, or the start of one. Raises :class:`AudioError`, and takes nothing then."""
        fresh = not self._utterances or self._utterances[-1].has_ended
        utterance = _Utterance(self._count, self._rate) if fresh else self._utterances[-1]
        utterance.push(np.asarray(pcm), now)
        if fresh:
            self._utterances.append(utterance)
            self._count += 1
        self.last_push = now

    def flush(self) -> None:
        """The present utterance is complete."""
        if self._utterances and not self._utterances[-1].has_ended:
            self._utterances[-1].end()

    def clear(self) -> None:
        """Forget everything that waits."""
        self._utterances.clear()

    def ready(self) -> Ready:
        """Frames that can be taken now."""
        ended = 0
        for one in self._utterances:
            if not one.has_ended:
                return Ready(ended, self._whole(one, ended))
            ended += max(1, self._covering(len(one.audio), ended))
        return Ready(ended, 0)

    def take(self) -> SoundFrame:
        """The next frame; one must be ready."""
        utterance = self._utterances[0]
        audio, heard = self._sizes()
        frame = utterance.take(audio, heard)
        if frame.is_last:
            self._utterances.popleft()
        return frame

    def silence(self) -> SoundFrame:
        """A frame of silence in between."""
        audio, heard = self._sizes()
        return SoundFrame(np.zeros(audio, np.float32), np.zeros(heard, np.float32))

    def drop(self) -> bool:
        """Leave the next frame out, unless an utterance ends with it; whether one was left out."""
        ready = self.ready()
        if ready.ended + ready.open == 0 or (self._utterances[0].has_ended and self._whole(self._utterances[0], 0) < 2):
            return False
        correction = self._correction
        audio, heard = self._sizes()
        self._utterances[0].take(audio, heard)
        self._correction = correction
        self._next_audio -= 1
        self._next_heard -= 1
        return True

    def restart(self) -> None:
        """The model begins to hear anew."""
        self._next_heard = 0

    def align(self, frame: int, samples: int) -> None:
        """The next frame is shown as number ``frame``, behind ``samples`` in all: it ends at the border of its own."""
        self._next_audio = frame
        self._correction = border(frame, self._rate, self._fps) - samples

    def _sizes(self) -> tuple[int, int]:
        """Samples of the next frame at both rates."""
        audio = border(self._next_audio + 1, self._rate, self._fps) - border(self._next_audio, self._rate, self._fps)
        audio, self._correction = max(audio + self._correction, 0), 0
        first = self._next_heard * AUDIO_SAMPLE_RATE // self._fps
        heard = (self._next_heard + 1) * AUDIO_SAMPLE_RATE // self._fps - first
        self._next_audio += 1
        self._next_heard += 1
        return audio, heard

    def _whole(self, one: _Utterance, ahead: int) -> int:
        """Frames, behind ``ahead`` others, for which all samples are there, at both rates."""
        audio = _frames_within(len(one.audio) - self._correction, self._next_audio + ahead, self._rate, self._fps)
        return min(audio, len(one.heard) * self._fps // AUDIO_SAMPLE_RATE)

    def _covering(self, samples: int, ahead: int) -> int:
        """Frames, behind ``ahead`` others, that hold that many samples."""
        first = self._next_audio + ahead
        samples = max(samples - self._correction, 0)
        whole = _frames_within(samples, first, self._rate, self._fps)
        return whole + (samples > border(first + whole, self._rate, self._fps) - border(first, self._rate, self._fps))


def _frames_within(samples: int, first: int, rate: int, fps: int) -> int:
    """Whole frames, from the frame ``first`` on, that fit into so many samples."""
    start = border(first, rate, fps)
    frames = max(samples, 0) * fps // rate + 1
    while frames and border(first + frames, rate, fps) - start > samples:
        frames -= 1
    return frames
