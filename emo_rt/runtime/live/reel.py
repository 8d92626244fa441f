"""Frames that are made and not yet shown, and what was shown last, from which anything may continue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emo_rt.runtime.live.kept import Latent
from emo_rt.runtime.live.maker import LiveClip
from emo_rt.runtime.live.pair import SoundFrame


@dataclass(frozen=True, eq=False)
class ReelFrame:
    """A picture with its sound."""

    pixels: NDArray[np.uint8]
    """(H, W, 3), read-only."""
    latent: Latent
    """What it was decoded from."""
    sound: SoundFrame
    """What belongs to it."""
    clip: LiveClip
    """The clip that it was made in."""
    made_at: float
    """When the picture was there."""


class Reel:
    """In order: frames that are made. While an idle loop turns there are always more. The owner locks."""

    def __init__(self, motion_frames: int, loop_frames: int) -> None:
        """``motion_frames``: N, what a clip continues; ``loop_frames``: length of the idle loop, 0 = there is none."""
        self._frames: deque[ReelFrame] = deque()
        self._recent: deque[ReelFrame] = deque(maxlen=motion_frames)
        self._idle: deque[ReelFrame] = deque(maxlen=loop_frames)
        self._loop: _Bounce | None = None
        self.last: ReelFrame | None = None
        """The frame that was shown last."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def waiting(self) -> Iterable[ReelFrame]:
        """What is not shown yet."""
        return self._frames

    @property
    def is_looping(self) -> bool:
        """Whether an idle loop turns."""
        return self._loop is not None

    @property
    def idle(self) -> int:
        """Frames of silence that were shown last, at most the loop's length."""
        return len(self._idle)

    @property
    def has_sound(self) -> bool:
        """Whether sound that was pushed is among what waits."""
        return any(frame.sound.utterance is not None for frame in self._frames)

    @property
    def loop_frames(self) -> int:
        """Length of the idle loop."""
        return self._idle.maxlen or 0

    def extend(self, frames: Iterable[ReelFrame]) -> None:
        """Behind what there is."""
        self._frames.extend(frames)

    def peek(self) -> ReelFrame | None:
        """The next one, if it is there."""
        return self._frames[0] if self._frames else None

    def take(self) -> ReelFrame:
        """The next one, which is shown now."""
        frame = self._frames.popleft()
        self._recent.append(frame)
        if frame.sound.utterance is not None:
            self._idle.clear()
        else:
            self._idle.append(frame)
        self.last = frame
        return frame

    def silence(self) -> None:
        """No sound with what waits."""
        self._frames = deque(replace(frame, sound=frame.sound.silenced()) for frame in self._frames)

    def cut(self, frames: int) -> None:
        """Forget all but the next ``frames``."""
        while len(self._frames) > frames:
            self._frames.pop()

    @property
    def fewest(self) -> int:
        """Frames that must be in line, for N of them to be there when a clip continues them."""
        return (self._recent.maxlen or 0) - len(self._recent)

    def latents(self) -> Sequence[Latent]:
        """Of the last N frames, shown or not: what the next clip continues. There must be so many."""
        count = self._recent.maxlen or 0
        frames = [*self._recent, *self._frames][-count:]
        return [frame.latent for frame in frames]

    # The idle loop

    def start_loop(self) -> None:
        """From now on the frames of silence that were shown last go back and forth."""
        self._loop = _Bounce(list(self._idle))

    def turn_loop(self, sound: SoundFrame) -> None:
        """One more frame of the loop."""
        assert self._loop is not None
        self._frames.append(replace(self._loop.next(), sound=sound))

    def stop_loop(self) -> None:
        """What is in line is shown yet."""
        self._loop = None
        self._idle.clear()


class _Bounce:
    """Frames back and forth, from the last one on: each is shown beside one that it was made beside."""

    def __init__(self, frames: Sequence[ReelFrame]) -> None:
        self._frames, self._at, self._step = frames, len(frames) - 1, -1

    def next(self) -> ReelFrame:
        if not 0 <= self._at + self._step < len(self._frames):
            self._step = -self._step
        self._at += self._step
        return self._frames[self._at]
