"""Phonemes to lip curves, with co-articulation.

Every sound pulls the lips towards its viseme with a dominance that decays before and after it (the model of Cohen and
Massaro, 1993). Lips reach further ahead than the jaw: rounding for an "oo" starts during the consonants before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.world.speech import Phoneme, Waveform
from training.world.visemes import VISEMES, Viseme, visemes_of

Curve = NDArray[np.float64]

_LEAD_S = 0.025
"""Lips move a little before the sound is heard."""
_JAW_REACH_S, _LIPS_REACH_S, _PRESS_REACH_S = 0.045, 0.085, 0.028


@dataclass(frozen=True, slots=True)
class LipCurves:
    """One value a frame each, (T,) float64, in the units of `Pose`."""

    opening: Curve
    width: Curve
    rounding: Curve
    press: Curve


@dataclass(frozen=True, slots=True)
class Prosody:
    """What a speaker's movements follow, one value a frame each, (T,) float64."""

    loudness: Curve
    """0 for 30 dB below the recording's loud parts, 1 for those."""
    melody: Curve
    """Pitch in octaves around the recording's median; 0 where there is no voice."""
    beat_s: float = 0.0
    """From one beat of a song to the next, the first at 0; 0 where nobody sings."""

    @staticmethod
    def of(waveform: Waveform, times: Curve, beat_s: float = 0.0) -> Prosody:
        """Heard in a recording at `times` (T,) seconds; rounded to half precision, as a pack of voices keeps it."""
        loudness, melody = (
            curve(waveform, times).astype(np.float16).astype(np.float64) for curve in (loudness_of, pitch_of)
        )
        return Prosody(loudness, melody, beat_s)


@dataclass(frozen=True, slots=True)
class _Span:
    viseme: Viseme
    start_s: float
    end_s: float
    silent: bool


def _spans(phonemes: Sequence[Phoneme]) -> list[_Span]:
    """Diphthongs and affricates become two mouths one after the other."""
    spans = []
    for phoneme in phonemes:
        names = visemes_of(phoneme.symbol)
        edges = np.linspace(phoneme.start_s, phoneme.end_s, len(names) + 1)
        for name, start, end in zip(names, edges[:-1], edges[1:], strict=True):
            spans.append(_Span(VISEMES[name], float(start), float(end), name == "silence"))
    return spans


def lip_curves(phonemes: Sequence[Phoneme], times: Curve, loudness: Curve, liveliness: float = 1.0) -> LipCurves:
    """The lips at `times` (T,) seconds; `loudness` (T,) 0..1 opens the jaw further, `liveliness` scales every move."""
    spans = _spans(phonemes)
    starts, ends = np.array([s.start_s for s in spans]), np.array([s.end_s for s in spans])
    moment = (times + _LEAD_S)[:, None]
    away = np.maximum(np.maximum(starts - moment, moment - ends), 0.0)
    visemes = [span.viseme for span in spans]
    jaw = np.exp(-((away / _JAW_REACH_S) ** 2)) * np.array([v.firm_jaw for v in visemes]) + 1e-12
    lips = np.exp(-((away / _LIPS_REACH_S) ** 2)) * np.array([v.firm_lips for v in visemes]) + 1e-12
    opening = _blend(jaw, [v.opening for v in visemes]) * (0.78 + 0.4 * loudness) * liveliness
    width = 0.5 + (_blend(lips, [v.width for v in visemes]) - 0.5) * liveliness
    rounding = _blend(lips, [v.rounding for v in visemes]) * min(1.0, liveliness)
    bumps = np.exp(-((away / _PRESS_REACH_S) ** 2)) * np.array([v.press for v in visemes])
    return LipCurves(
        np.clip(opening, 0, 1), np.clip(width, 0, 1), np.clip(rounding, 0, 1), np.clip(bumps.max(axis=1), 0, 1)
    )


def _blend(weights: Curve, targets: Sequence[float]) -> Curve:
    blend: Curve = (weights @ np.array(targets)) / weights.sum(axis=1)
    return blend


def loudness_of(waveform: Waveform, times: Curve, rate: int = 16_000) -> Curve:
    """How loud it is at `times`, 0 for 30 dB below the clip's loud parts and 1 for those: (T,)."""
    half = round(0.03 * rate)
    power = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    centre = np.round(times * rate).astype(int)
    low, high = np.clip(centre - half, 0, len(waveform)), np.clip(centre + half, 0, len(waveform))
    level = np.sqrt((power[high] - power[low]) / np.maximum(high - low, 1))
    loud = float(np.percentile(level, 92)) if len(level) else 0.0
    if loud < 1e-4:
        return np.zeros(len(times))
    decibels: Curve = 20 * np.log10(np.maximum(level / loud, 1e-6))
    return np.clip(1 + decibels / 30, 0, 1)


def pitch_of(waveform: Waveform, times: Curve, rate: int = 16_000) -> Curve:
    """Pitch in octaves around the clip's median, 0 where there is no voice: (T,). From the autocorrelation's peak."""
    window = round(0.04 * rate)
    padded = np.pad(waveform.astype(np.float64), (window // 2, window))
    start = np.clip(np.round(times * rate).astype(int), 0, max(0, len(padded) - window))
    pieces = padded[start[:, None] + np.arange(window)[None, :]] * np.hanning(window)
    spectrum = np.fft.rfft(pieces, 2 * window)
    likeness = np.fft.irfft(np.abs(spectrum) ** 2)[:, :window]
    low, high = rate // 400, rate // 70
    peak = likeness[:, low:high].argmax(axis=1)
    strength = likeness[np.arange(len(times)), peak + low] / np.maximum(likeness[:, 0], 1e-9)
    voiced = (strength > 0.4) & (likeness[:, 0] > 1e-3)
    octave = np.log2(rate / (peak + low))
    if not voiced.any():
        return np.zeros(len(times))
    return np.where(voiced, np.clip(octave - np.median(octave[voiced]), -0.7, 0.7), 0.0)
