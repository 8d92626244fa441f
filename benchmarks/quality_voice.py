"""Do brows follow the voice's pitch, and the head its loudness? Slopes, generated over true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emo_rt.benchmarks.quality_people import Curve, Person, Reading

RIDGE = 30.0
"""Of the linear reading of brows: the judge has 96 features, a person some 100 frames."""
SMOOTH = 7
"""Frames over which head speed and loudness are averaged."""
FPS = 25


def brow_pitch(people: Sequence[Person], truths: Sequence[Reading], readings: Sequence[Reading]) -> float:
    """Slope of the brows over the voice's pitch, over that in the true videos. ``truths``: read from those.

    The judge knows no brows: they are read linearly from its features, by what all other people's true videos tell.
    """
    made: list[tuple[Curve, Curve]] = []
    true: list[tuple[Curve, Curve]] = []
    for index, person in enumerate(people):
        others = [pair for place, pair in enumerate(zip(people, truths, strict=True)) if place != index]
        weights = _brow_reading(others)
        for reading, found in ((readings[index], made), (truths[index], true)):
            count = min(len(reading.features), len(person.melody))
            voiced = person.melody[:count] != 0
            brows = _centred(reading.features[:count]) @ weights
            found.append((person.melody[:count][voiced], brows[voiced]))
    return _slope(made) / _slope(true)


def head_energy(people: Sequence[Person], truths: Sequence[Reading], readings: Sequence[Reading]) -> float:
    """Slope of the head's angular speed over the voice's loudness, over that in the true videos."""
    return _slope(_turning_by_loudness(people, readings)) / _slope(_turning_by_loudness(people, truths))


def _brow_reading(people: Sequence[tuple[Person, Reading]]) -> Curve:
    """(96,) weights: the brow from a person's features, both around their mean."""
    features = np.concatenate([_centred(reading.features[: len(person.brow)]) for person, reading in people])
    brows = np.concatenate([_centred(person.brow[: len(reading.features)]) for person, reading in people])
    squares = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(squares, features.T @ brows))


def _turning_by_loudness(people: Sequence[Person], readings: Sequence[Reading]) -> list[tuple[Curve, Curve]]:
    """Loudness and degrees a second, averaged over some frames."""
    pairs = []
    for person, reading in zip(people, readings, strict=True):
        speed = turning(reading.angles)
        loud = _smooth(person.loudness)[1:]
        count = min(len(speed), len(loud))
        pairs.append((loud[:count], speed[:count]))
    return pairs


def turning(angles: Curve) -> Curve:
    """(T, 3) radians at 25 frames a second → (T - 7,) angular speed in degrees a second, of smoothed angles."""
    smooth = np.stack([_smooth(column) for column in angles.T], axis=1)
    return np.degrees(np.linalg.norm(np.diff(smooth, axis=0), axis=1)) * FPS


def _smooth(curve: Curve) -> Curve:
    return np.convolve(curve, np.ones(SMOOTH) / SMOOTH, mode="valid")


def _centred(values: Curve) -> Curve:
    return values - values.mean(axis=0)


def _slope(pairs: Sequence[tuple[Curve, Curve]]) -> float:
    """Of the second over the first, within people."""
    across = np.concatenate([_centred(first) for first, _ in pairs])
    along = np.concatenate([_centred(second) for _, second in pairs])
    return float(across @ along / (across @ across))
