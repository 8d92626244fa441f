"""What a live session gives: a picture and the sound that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LivePair:
    """One frame of a live session, and the sound of its 1/fps seconds."""

    frame: NDArray[np.uint8]
    """(H, W, 3) RGB, read-only: copy it to draw on it."""
    audio: NDArray[np.float32]
    """(n,) in −1 … 1 at the session's rate. Where the frame rate does not divide it, n alternates."""
    time_s: float
    """When it is due, in seconds since the first pair."""
    speaking: bool
    """Whether the sound is some that was pushed."""
    utterance: int | None
    """Number of the utterance that it belongs to, from 0; ``None`` between two."""
    is_last: bool
    """Whether the utterance ends with it. An utterance that is interrupted has no last pair."""
    is_repeated: bool
    """Whether this is the frame before again, because the next one was not ready."""


@dataclass(frozen=True, eq=False)
class SoundFrame:
    """The sound of one frame on its way through the model."""

    audio: NDArray[np.float32]
    """(n,) at the session's rate."""
    heard: NDArray[np.float32]
    """(m,) at 16 kHz: the same, as the model hears it."""
    samples: int = 0
    """How many of ``audio`` were pushed; the rest is silence."""
    utterance: int | None = None
    """Number of its utterance."""
    is_last: bool = False
    """Whether its utterance ends here."""
    arrived_at: float | None = None
    """When the last of its samples was pushed."""

    def silenced(self) -> SoundFrame:
        """Silence in its place."""
        return SoundFrame(np.zeros_like(self.audio), np.zeros_like(self.heard))
