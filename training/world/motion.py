"""How a head moves while it speaks: turns at a chosen speed, brows, blinks and gaze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from training.world.lips import LipCurves, Prosody
from training.world.pose import Pose

Curve = NDArray[np.float64]

SPEED_UNIT_DEG_S = 20.0
"""A head speed of 1.0, in degrees a second: the clip's mean length of the angular velocity (yaw, pitch, roll)."""
MAX_SPEED = 1.5
MAX_TRAVEL = 0.2
"""How far a head goes from side to side at most, share of the picture."""
LIMITS = np.array([0.42, 0.26, 0.24])
"""Largest yaw, pitch and roll, radians."""
_BLINK = np.array([0.0, 0.45, 1.0, 0.85, 0.4, 0.1])
_BLINK_TIMES_S = np.array([-0.08, -0.04, 0.0, 0.05, 0.11, 0.17])


@dataclass(frozen=True, slots=True)
class Manner:
    """How one clip's speaker moves."""

    speed: float = 0.5
    """Head speed, in `SPEED_UNIT_DEG_S`, 0 to 1.5."""
    travel: float = 0.0
    """From the leftmost to the rightmost place of the head, share of the picture; up and down a third of it."""
    liveliness: float = 1.0
    """Scales the mouth's moves, 0.8 to 1.15."""
    smile: float = 0.2
    gaze: float = 0.6
    """How far the eyes wander, 0 to 1."""

    @staticmethod
    def sample(rng: np.random.Generator) -> Manner:
        """One clip in twelve has a perfectly still head; three in eight of the others stay in their place."""
        speed = 0.0 if rng.random() < 1 / 12 else float(rng.uniform(0.03, MAX_SPEED))
        stays = rng.random() < 3 / 8 or speed == 0
        reach = float(rng.uniform(0.03, MAX_TRAVEL))
        return Manner(
            speed=speed,
            travel=0.0 if stays else reach,
            liveliness=float(rng.uniform(0.82, 1.12)),
            smile=float(np.clip(rng.normal(0.22, 0.22), -0.25, 0.8)),
            gaze=float(rng.uniform(0.2, 1.0)),
        )


def angular_speed(angles: Curve, fps: float) -> Curve:
    """Length of the angular velocity, in speed units: (T, 3) radians -> (T,). The first frame repeats the second."""
    if len(angles) < 2:
        return np.zeros(len(angles))
    steps = np.linalg.norm(np.diff(angles, axis=0), axis=1) * fps
    speeds: Curve = np.rad2deg(np.concatenate([steps[:1], steps])) / SPEED_UNIT_DEG_S
    return speeds


def mean_speed(angles: Curve, fps: float) -> float:
    """The clip's head speed: mean of the steps between its frames, in speed units."""
    return float(angular_speed(angles, fps)[1:].mean()) if len(angles) > 1 else 0.0


def head_angles(rng: np.random.Generator, manner: Manner, prosody: Prosody, fps: float) -> Curve:
    """Yaw, pitch and roll, (T, 3) radians, at the manner's mean speed.

    A loud or lively voice moves the head far, a pause lets it come to rest. Nods follow accents and beats, the head
    rises and tilts with the melody.
    """
    count = len(prosody.loudness)
    offset = rng.normal(0, (0.07, 0.03, 0.03))
    if manner.speed == 0 or count < 2:
        return np.tile(offset, (count, 1))
    raw = _wander(rng, count, 0.16 + 0.3 * manner.speed, fps, 3) * (1.0, 0.55, 0.45)
    raw *= _drive(prosody, fps)[:, None]
    melody = gaussian_filter1d(prosody.melody, 0.1 * fps)
    raw[:, 1] += 2.0 * melody - 1.1 * _accent(prosody, fps)
    raw[:, 2] += 0.8 * melody
    raw += _bob(prosody, fps)[:, None] * (0.0, -0.7, 0.25)
    return _at_speed(raw - raw.mean(axis=0), offset, manner.speed, fps)


def _drive(prosody: Prosody, fps: float) -> Curve:
    """How much the voice moves its speaker: (T,), 0.3 in silence to about 1.6."""
    loud = gaussian_filter1d(prosody.loudness, 0.2 * fps)
    high = gaussian_filter1d(np.abs(prosody.melody), 0.2 * fps)
    drive: Curve = 0.3 + 0.9 * loud + 1.6 * high
    return drive


def _accent(prosody: Prosody, fps: float) -> Curve:
    """Louder than what is around: (T,)."""
    accent: Curve = gaussian_filter1d(prosody.loudness, 0.09 * fps) - gaussian_filter1d(prosody.loudness, 0.5 * fps)
    return accent


def _bob(prosody: Prosody, fps: float) -> Curve:
    """Up and down with a song's beat, (T,), lowest on the beat; 0 where nobody sings."""
    count = len(prosody.loudness)
    if prosody.beat_s <= 0:
        return np.zeros(count)
    phase = 2 * np.pi * (np.arange(count) + 0.5) / fps / prosody.beat_s
    bob: Curve = np.cos(phase) * gaussian_filter1d(prosody.loudness, 0.4 * fps)
    return bob


def _at_speed(raw: Curve, offset: Curve, speed: float, fps: float) -> Curve:
    """Scale a movement until it has the speed; soft limits keep the angles in range."""
    scale = speed / max(mean_speed(raw, fps), 1e-6)
    angles = raw
    for _ in range(12):
        angles = LIMITS * np.tanh((raw * scale + offset) / LIMITS)
        measured = mean_speed(angles, fps)
        scale *= min(2.0, speed / max(measured, 1e-6))
    return angles


def _wander(rng: np.random.Generator, count: int, tempo_hz: float, fps: float, channels: int) -> Curve:
    """Smooth noise of unit variance: (count, channels)."""
    sigma = fps / (2 * np.pi * tempo_hz)
    margin = int(4 * sigma) + 1
    noise: Curve = gaussian_filter1d(rng.normal(size=(count + 2 * margin, channels)), sigma, axis=0)
    unit: Curve = noise / np.maximum(noise.std(axis=0), 1e-9)
    return unit[margin : margin + count]


def head_shift(rng: np.random.Generator, manner: Manner, prosody: Prosody, angles: Curve, fps: float) -> Curve:
    """Shift of the head, (T, 2) shares of the picture: it leans where it turns and goes as far as it travels."""
    count, place = len(angles), rng.normal(0, 0.008, 2)
    path = _wander(rng, count, 0.14 + 0.22 * manner.speed, fps, 2)
    if manner.travel == 0:
        return angles[:, :2] * (0.01, -0.01) + place
    path *= (0.5 + 0.5 * _drive(prosody, fps))[:, None]
    path[:, 1] += 0.5 * _bob(prosody, fps)
    width = np.maximum(np.ptp(path, axis=0), 1e-9)
    middle = (path.max(axis=0) + path.min(axis=0)) / 2
    aside = rng.uniform(-0.3, 0.3, 2) * (MAX_TRAVEL - manner.travel) * (1, 0.2)
    shift: Curve = (path - middle) / width * (manner.travel, manner.travel / 3) + aside
    return shift


def blinks(rng: np.random.Generator, times: Curve) -> Curve:
    """Lids, 0 open to 1 shut: (T,). One blink every 2 to 6 s, now and then a double one."""
    lids = np.zeros(len(times))
    moment = float(rng.uniform(0.3, 4.0))
    while moment < times[-1] + 0.2:
        lids = np.maximum(lids, np.interp(times - moment, _BLINK_TIMES_S, _BLINK, left=0, right=0))
        moment += 0.35 if rng.random() < 0.1 else float(rng.uniform(2.0, 6.0))
    return lids


def gaze(rng: np.random.Generator, manner: Manner, times: Curve, angles: Curve) -> Curve:
    """Where the pupils point, (T, 2): quick jumps and rests, mostly towards the viewer however the head turns."""
    look = np.zeros((len(times), 2))
    moment, target = 0.0, np.zeros(2)
    while moment <= times[-1]:
        look[times >= moment] = target
        away = rng.random() < 0.55
        target = rng.normal(0, (0.5, 0.25)) * manner.gaze if away else np.zeros(2)
        moment += float(rng.uniform(0.5, 2.4))
    steady = angles[:, :2] * (-0.9, 0.8)
    return np.clip(look + steady, -1, 1)


def brow_curve(prosody: Prosody, fps: float) -> Curve:
    """Brows rise with the melody and with accents: (T,), -1 to 1."""
    melody = gaussian_filter1d(prosody.melody, 0.08 * fps)
    brows: Curve = np.tanh(2.4 * melody + 0.9 * _accent(prosody, fps))
    return brows


def smile_curve(manner: Manner, lips: LipCurves, prosody: Prosody, fps: float) -> Curve:
    """Corners of the mouth, (T,): a lively voice lifts them, round lips let them go."""
    lively = gaussian_filter1d(prosody.melody, 0.3 * fps).clip(-0.3, 0.4)
    smile: Curve = (manner.smile + 0.8 * lively) * (1 - 0.7 * lips.rounding) * (1 - 0.25 * lips.opening)
    return smile


def poses(
    lips: LipCurves, angles: Curve, shift: Curve, lids: Curve, look: Curve, brows: Curve, smiles: Curve
) -> tuple[Pose, ...]:
    """Put all curves together, one pose a frame; ``shift`` in stage units."""
    columns = np.column_stack(
        [angles, shift, look, lids, lids, brows, lips.opening, lips.width, lips.rounding, lips.press, smiles]
    )
    return tuple(Pose(*row) for row in columns.tolist())
