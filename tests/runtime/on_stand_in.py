"""What tests of the GPU's code path share: an animator on the stand-in, and short animations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from cuda_stand_in import StandInBackend, StandInDevice

from emo_rt import (
    Animator,
    Avatar,
    Bundle,
)
from emo_rt.model.contract import Array
from emo_rt.runtime.loaded_model import LoadedModel

RATE, FRAME = 16_000, 640
CLIP = 4 * FRAME


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)


def voice(samples: int, seed: int = 1) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


@contextmanager
def on_stand_in(
    bundle: Bundle, seed: int = 0, obstacle: str | None = None
) -> Iterator[tuple[Animator, StandInBackend]]:
    """An animator on the stand-in. At the end no rule may have been broken, and all memory must be back."""
    device = StandInDevice(seed)
    backend = StandInBackend(device, obstacle)
    with Animator(LoadedModel(bundle, backend)) as animator:
        yield animator, backend
    assert device.broken == []


def frames_of(animator: Animator, avatar: Avatar, clips: int = 5, **options: Any) -> Array:
    return animator.animate(avatar, voice(clips * CLIP - FRAME), sample_rate=RATE, **{"steps": 3, **options}).numpy()


def made_by(animator: Animator) -> Callable[..., Array]:
    """``make(who, **options)``: what it makes of a picture, once each."""

    @cache
    def make(who: int = 0, **options: Any) -> Array:
        return frames_of(animator, animator.prepare(picture(who), face_box="full"), **options)

    return make
