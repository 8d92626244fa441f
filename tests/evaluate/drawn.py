"""Drawn videos whose truth is known, for the tests of the measures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emo_rt.evaluate import Footage, of_frames

SIDE, FPS = 160, 25
LIPS = ("opening", "width", "rounding", "press")

pytest.importorskip("skia", reason="the drawn world needs skia-python: pip install skia-python")
pytest.importorskip("scipy", reason="the drawn world needs scipy: pip install scipy")


@functools.cache
def clip(seed: int = 1, seconds: float = 3.0) -> Any:
    """A drawn person of the test split who says a sentence."""
    from training.world import Clip
    from training.world.speech import available_engines

    if not available_engines():
        pytest.skip("needs a speech synthesiser: apt-get install espeak-ng flite")
    return Clip.sample(seed, seconds, split="test")


def drawn(poses: Sequence[Any], identity: Any) -> NDArray[np.uint8]:
    """(T, side, side, 3)."""
    from training.world import render

    return np.stack([render(identity, pose, SIDE) for pose in poses])


@functools.cache
def true_frames(seed: int = 1, seconds: float = 3.0) -> NDArray[np.uint8]:
    """The frames of :func:`clip`. Not to be written to."""
    frames = drawn(clip(seed, seconds).poses, clip(seed, seconds).identity)
    frames.flags.writeable = False
    return frames


def footage(frames: NDArray[np.uint8], name: str = "drawn", seed: int = 1, seconds: float = 3.0) -> Footage:
    """Frames with the clip's sound."""
    return of_frames(name, frames, FPS, clip(seed, seconds).waveform)


def late_lips(frames: int, seed: int = 1, seconds: float = 3.0) -> NDArray[np.uint8]:
    """The same video, but its lips are late by so many frames (early below 0)."""
    one = clip(seed, seconds)
    last = len(one.poses) - 1
    sources = [one.poses[min(max(index - frames, 0), last)] for index in range(last + 1)]
    poses = [
        replace(pose, **{part: getattr(mouth, part) for part in LIPS})
        for pose, mouth in zip(one.poses, sources, strict=True)
    ]
    return drawn(poses, one.identity)
