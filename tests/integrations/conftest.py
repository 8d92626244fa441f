"""A live session by the real clock, of a model that is fast enough on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emo_rt import Animator, LiveSession
from tests.live_sessions import noise_picture

RATE = 16_000


@pytest.fixture
def session(tiny_animator: Animator) -> Iterator[LiveSession]:
    avatar = tiny_animator.prepare(noise_picture(), face_box="full")
    with tiny_animator.live(avatar, steps=1, pace="asap", sample_rate=RATE, queue_s=60) as opened:
        yield opened


@pytest.fixture
def said() -> np.ndarray:
    """A second of sound, and a bit: (16,100,) int16, nowhere 0 for long."""
    return (9_000 * np.sin(np.arange(16_100) * 0.05)).astype(np.int16)
