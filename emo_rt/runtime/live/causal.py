"""How a model that hears whole files (Hallo) hears while the sound is still coming.

In :meth:`emo_rt.Animator.animate` such a model encodes the whole sound at once, after it was scaled to zero mean and
unit variance. A live session has no end to wait for, so it hears otherwise:

- in windows: each clip's frames, the neighbours that they attend to, :data:`LEFT` frames before and :data:`RIGHT`
  behind;
- scaled by the mean and the variance of all sound that was pushed up to the end of the frame in question, to which
  :data:`PRIOR_S` seconds of a usual voice are added, so that the first word is not blown up. Silence in between counts
  for nothing, and stays exactly 0, as the silence behind a file does.

``python -m emo_rt.benchmarks.causal_hearing`` measures what that changes, for any bundle and sound.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of

LEFT, RIGHT = 50, 8
"""Frames of context that a window of a whole-file model has."""
PRIOR_S = 1.0
PRIOR_VARIANCE = 0.05**2
"""Of speech that peaks at about 0.5."""


def live_config(config: ModelConfig) -> ModelConfig:
    """The configuration with windows, where the model has none of its own and its family no other way."""
    return with_windows(config) if family_of(config).hearing.is_whole_file else config


def with_windows(config: ModelConfig) -> ModelConfig:
    """The configuration with the windows of a live session, whatever its own are."""
    windowed = dataclasses.replace(
        config.audio,
        window_frames=config.frames,
        left_context_frames=LEFT,
        right_context_frames=RIGHT,
        normalize=False,  # RunningScale does it
    )
    return dataclasses.replace(config, audio=windowed)


class RunningScale:
    """Scales a sound frame by frame to about zero mean and unit variance, from what has been heard of it."""

    def __init__(self, is_needed: bool = True) -> None:
        """``is_needed``: otherwise the sound stays as it is."""
        self._is_needed = is_needed
        self._count = PRIOR_S * AUDIO_SAMPLE_RATE
        self._mean, self._squares = 0.0, self._count * PRIOR_VARIANCE

    def __call__(self, frame: NDArray[np.float32], *, is_sound: bool) -> NDArray[np.float32]:
        """(n,) at 16 kHz → (n,). ``is_sound``: whether it was pushed; what was not is silence, and stays so."""
        if not self._is_needed or not is_sound:
            return frame
        count = self._count + len(frame)
        difference = float(frame.mean()) - self._mean
        self._squares += float(frame.var()) * len(frame) + difference**2 * self._count * len(frame) / count
        self._mean += difference * len(frame) / count
        self._count = count
        scaled = (frame - self._mean) / math.sqrt(self._squares / count + 1e-7)
        return scaled.astype(np.float32)
