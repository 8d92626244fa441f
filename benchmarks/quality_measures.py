"""The measures of :mod:`emo_rt.benchmarks.quality`, which says what each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from emo_rt.benchmarks.quality_people import Curve, Person, Pixels, Reader, Reading
from emo_rt.benchmarks.quality_voice import brow_pitch, head_energy, turning
from emo_rt.evaluate.pictures import luma

CLOSED = 0.15
"""Read opening below which a mouth counts as shut."""
LAGS = range(-5, 6)
EDGE = 60.0
"""Brightness, of 255, by which an edge rises or falls."""


@dataclass(frozen=True)
class Measures:
    """What one set of videos gives; each is a mean over the videos."""

    lip_correlation: float
    """-1 … 1."""
    lip_lag: int
    """Frames; above 0 the lips are late."""
    silence_closed: float | None
    """Share of frames. ``None`` = nobody is silent."""
    energy_correlation: float
    """-1 … 1."""
    identity_top1: float
    """Share of videos."""
    identity_margin: float
    """Ratio of distances; above 1 the own portrait is nearest."""
    colour: float
    """Root mean square difference, of 255."""
    sharpness: float
    """Ratio to the truth's."""
    edge_width: float
    """Ratio to the truth's."""
    brow_pitch: float
    """Ratio to the truth's slope, as :attr:`head_energy`."""
    head_energy: float
    drift: float
    """Ratio of the end to the beginning."""
    speed_read: float
    """In units of 20 degrees a second."""
    jitter_inside: float
    """1/1000 of the side, as :attr:`jitter_borders`."""
    jitter_borders: float
    jitter_ratio: float
    """Borders over inside."""
    background: float
    """Change a frame, of 255."""
    frechet: float
    """Distance in the judge's features."""


def measure(
    people: Sequence[Person], truths: Sequence[Reading], videos: Sequence[Pixels], reader: Reader, clip_frames: int
) -> Measures:
    """All measures that one set of videos gives, one video per person. ``truths``: what is read from the true ones."""
    readings = [reader.read(video) for video in videos]
    count = [min(len(person.opening), len(video)) for person, video in zip(people, videos, strict=True)]
    both = list(zip(people, readings, count, strict=True))
    curves = [(s.opening[:n], r.opening[:n]) for s, r, n in both if s.opening[:n].std() > 0.02]
    by_lag = {lag: float(np.mean([lagged(true, read, lag) for true, read in curves])) for lag in LAGS}
    silent = np.concatenate([r.opening[:n][s.silent[:n]] for s, r, n in both])
    loud = [(s.loudness[:n], r.opening[:n]) for s, r, n in both if s.loudness[:n].std() > 0.02]
    inside, borders = jitter([r.place for r in readings], clip_frames)
    top1, margin = identity(people, videos)
    return Measures(
        lip_correlation=by_lag[0],
        lip_lag=max(by_lag, key=by_lag.__getitem__),
        silence_closed=float(np.mean(silent < CLOSED)) if len(silent) else None,
        energy_correlation=float(np.mean([lagged(true, read, 0) for true, read in loud])),
        identity_top1=top1,
        identity_margin=margin,
        colour=colour(people, videos),
        sharpness=sharpness(people, videos),
        edge_width=edge_width(people, videos),
        brow_pitch=brow_pitch(people, truths, readings),
        head_energy=head_energy(people, truths, readings),
        drift=drift(people, videos),
        speed_read=float(np.mean([head_speed(r.angles) for r in readings])),
        jitter_inside=1000 * inside,
        jitter_borders=1000 * borders,
        jitter_ratio=borders / inside,
        background=background(people, videos),
        frechet=frechet(readings, truths),
    )


def lagged(true: Curve, read: Curve, lag: int) -> float:
    """Correlation of ``read`` with ``true`` where the video is ``lag`` frames late."""
    first, second = (true[: len(true) - lag], read[lag:]) if lag >= 0 else (true[-lag:], read[:lag])
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 1e-9 else 0.0


def head_speed(angles: Curve) -> float:
    """(T, 3) radians at 25 frames a second → mean angular speed in units of 20 degrees a second."""
    return float(turning(angles).mean() / 20)


def jitter(places: Iterable[Curve], clip_frames: int) -> tuple[float, float]:
    """Mean second difference of the head's place inside clips, and across their borders."""
    inside, borders = [], []
    for place in places:
        bends = np.linalg.norm(np.diff(place, n=2, axis=0), axis=1)  # bend i has the frames i, i + 1, i + 2
        crossing = (np.arange(len(bends)) // clip_frames) != ((np.arange(len(bends)) + 2) // clip_frames)
        inside.append(bends[~crossing])
        borders.append(bends[crossing])
    return float(np.mean(np.concatenate(inside))), float(np.mean(np.concatenate(borders)))


def identity(people: Sequence[Person], videos: Sequence[Pixels]) -> tuple[float, float]:
    """Whose portrait each video is nearest to: ``identity_top1`` and ``identity_margin``."""
    portraits = np.stack([face_colours(person.portrait[None], person) for person in people])
    faces = np.stack([face_colours(video, person) for person, video in zip(people, videos, strict=True)])
    distances = np.abs(faces[:, None] - portraits[None]).mean(axis=(2, 3, 4))
    own = distances.diagonal()
    others = np.where(np.eye(len(own), dtype=bool), np.inf, distances).min(axis=1)
    return float(np.mean(own < others)), float(np.mean(others / (own + 1e-6)))


def face_colours(frames: Pixels, person: Person) -> Curve:
    """Mean face of (T, H, W, 3) frames as (16, 16, 3), with the mouth's part left out (zero)."""
    size = frames.shape[1]
    face = person.face.scaled(size / 512)
    mean = frames[:, int(face.top) : int(face.bottom), int(face.left) : int(face.right)].astype(np.float64).mean(axis=0)
    rows, columns = (np.linspace(0, n, 17).astype(int) for n in mean.shape[:2])
    cells = np.add.reduceat(np.add.reduceat(mean, rows[:-1], axis=0), columns[:-1], axis=1)
    cells /= (np.diff(rows)[:, None] * np.diff(columns))[..., None]
    cells[9:, 3:13] = 0
    return cells


def colour(people: Sequence[Person], videos: Sequence[Pixels], cell: int = 8) -> float:
    """Distance of the mean frame's colours from the truth's."""
    squares = []
    for person, video in zip(people, videos, strict=True):
        difference = video.mean(axis=0) - person.frames[: len(video)].mean(axis=0)
        height, width, _ = difference.shape
        cells = difference.reshape(height // cell, cell, width // cell, cell, 3).mean(axis=(1, 3))
        squares.append(np.square(cells).mean())
    return float(np.sqrt(np.mean(squares)))


def sharpness(people: Sequence[Person], videos: Sequence[Pixels]) -> float:
    """Energy of what the mean over 2×2 pixels takes away, over the truth's."""
    energies = [
        [fine_energy(video), fine_energy(p.frames[: len(video)])] for p, video in zip(people, videos, strict=True)
    ]
    made, true = np.mean(energies, axis=0)
    return float(made / true)


def fine_energy(frames: Pixels) -> float:
    """(T, H, W, 3) with even sides → mean square difference from the mean of 2×2 pixels."""
    count, height, width, _ = frames.shape
    cells = frames.reshape(count, height // 2, 2, width // 2, 2, 3).astype(np.float32)
    return float(np.square(cells - cells.mean(axis=(2, 4), keepdims=True)).mean())


def edge_width(people: Sequence[Person], videos: Sequence[Pixels], every: int = 25) -> float:
    """Median width of edges, over the truth's; by every 25th frame."""
    made = np.concatenate([edge_widths(frame) for video in videos for frame in video[::every]])
    true = np.concatenate([edge_widths(frame) for person in people for frame in person.frames[::every]])
    return float(np.median(made) / np.median(true))


def edge_widths(frame: Pixels) -> Curve:
    """(H, W, 3) → widths in pixels of where the brightness of a row rises or falls by :data:`EDGE` in one go, from a
    tenth of the way to nine tenths."""
    widths = []
    for row in luma(frame):
        signs = np.sign(np.diff(row))
        turns = np.flatnonzero(np.diff(signs)) + 1
        for start, end in zip((0, *turns), (*turns, len(row) - 1), strict=True):
            height = row[end] - row[start]
            if abs(height) >= EDGE:
                way = (row[start : end + 1] - row[start]) / height
                first, last = np.interp((0.1, 0.9), way, np.arange(len(way)))
                widths.append(last - first)
    return np.array(widths)


def drift(people: Sequence[Person], videos: Sequence[Pixels], frames: int = 25) -> float:
    """How much further a video's end is from its portrait than its beginning."""

    portraits = [face_colours(person.portrait[None], person) for person in people]

    def distance(part: slice) -> float:
        faces = [face_colours(video[part], person) for person, video in zip(people, videos, strict=True)]
        return float(np.abs(np.subtract(faces, portraits)).mean())

    return distance(slice(-frames, None)) / (distance(slice(frames)) + 1e-6)


def background(people: Sequence[Person], videos: Sequence[Pixels]) -> float:
    """Mean change from frame to frame where the truth stands still."""
    changes = []
    for person, video in zip(people, videos, strict=True):
        still = np.ptp(person.frames.astype(np.int16), axis=0).max(axis=-1) == 0
        changes.append(np.abs(np.diff(video.astype(np.float64), axis=0))[:, still].mean())
    return float(np.mean(changes))


def frechet(made: Sequence[Reading], true: Sequence[Reading], window: int = 12, kept: int = 32) -> float:
    """Fréchet distance of windows in the judge's features."""
    generated, real = (np.concatenate([_windows(r.features, window) for r in some]) for some in (made, true))
    mean = real.mean(axis=0)
    _, _, axes = np.linalg.svd(real - mean, full_matrices=False)
    generated, real = ((values - mean) @ axes[:kept].T for values in (generated, real))
    spreads = [np.cov(values, rowvar=False) for values in (generated, real)]
    roots = np.linalg.eigvals(spreads[0] @ spreads[1]).real.clip(0)
    difference = generated.mean(axis=0) - real.mean(axis=0)
    return float(difference @ difference + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * np.sqrt(roots).sum())


def _windows(features: Curve, window: int) -> Curve:
    starts = range(0, len(features) - window + 1, window // 2)
    parts = [features[start : start + window] for start in starts]
    return np.stack([np.concatenate([p.mean(axis=0), np.abs(np.diff(p, axis=0)).mean(axis=0)]) for p in parts])
