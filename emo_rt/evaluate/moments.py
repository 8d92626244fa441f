"""The worst moments of a video: where to look first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import DLIB, Context
from emo_rt.evaluate.motion import bends
from emo_rt.evaluate.picture import frozen_frames
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]

MOST = 8
"""Moments of a video."""
PER_KIND = 2
"""Moments of one kind."""
APART_S = 0.4
"""Seconds between two moments of one kind."""


@dataclass(frozen=True)
class Moment:
    """One frame, and what is wrong with it."""

    frame: int
    """From 0."""
    time_s: float
    """When it is shown."""
    what: str
    """In words."""
    severity: float
    """How far beyond what is usual in this video; sorts the moments."""


def worst_moments(reading: Reading, context: Context) -> list[Moment]:
    """The worst frames, the worst first, :data:`MOST` at most."""
    found: list[Moment] = []
    for what, curve, least in _curves(reading, context):
        found += _peaks(reading, what, curve, least)
    return sorted(found, key=lambda moment: -moment.severity)[:MOST]


def _curves(reading: Reading, context: Context) -> Iterator[tuple[str, Values, float]]:
    """What can go wrong: words with the value, a curve, and the value from which it counts."""
    yield "no face found", np.where(reading.found, np.nan, 1.0), 0.5
    if not reading.found.any():
        return
    jump = 1000 * bends(reading.rigid)
    yield "the head jumps by {:.0f} ‰ of the eye distance", jump, 3 * _usual(jump)
    change = reading.face_change
    yield "the face changes by {:.1f} of 255 at once", change, 3 * _usual(change)
    if reading.silent is not None:
        gap = np.where(reading.silent, reading.opening, np.nan)
        yield "the mouth is open by {:.2f} eye distances in silence", gap, 0.1
    yield "the face stands still", np.where(frozen_frames(reading) == 1, 1.0, np.nan), 0.5
    seen, own = reading.embeddings.get(DLIB), context.portrait_embedding(DLIB, reading)
    if seen is not None and own is not None:
        yield "the face is {:.2f} from the portrait", np.linalg.norm(seen - own, axis=1), 0.6


def _usual(curve: Values) -> float:
    seen = curve[np.isfinite(curve)]
    return max(float(np.median(seen)), 1e-6) if len(seen) else np.inf


def _peaks(reading: Reading, what: str, curve: Values, least: float) -> list[Moment]:
    left, found = np.nan_to_num(curve, nan=-np.inf), list[Moment]()
    reach = max(1, round(APART_S * reading.fps))
    while len(found) < PER_KIND and len(left) and (value := float(left.max())) > least:
        frame = int(left.argmax())
        found.append(Moment(frame, frame / reading.fps, what.format(value), value / least))
        left[max(0, frame - reach) : frame + reach + 1] = -np.inf
    return found
