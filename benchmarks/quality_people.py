"""Whom the quality benchmark looks at: drawn people whose truth is known, and the judge that reads their videos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emo_rt import Box
from emo_rt.checks import check
from emo_rt.errors import MissingDependencyError

SECONDS = 4.0

Pixels = NDArray[np.uint8]
Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person:
    """One person who says one sentence, as it really is."""

    seed: int
    """Of the clip, in the test split."""
    portrait: Pixels
    """(512, 512, 3): at rest."""
    face: Box
    """In the portrait."""
    frames: Pixels
    """(T, size, size, 3): the true video."""
    waveform: NDArray[np.float32]
    """16 kHz."""
    opening: Curve
    """(T,) true lip gap."""
    silent: NDArray[np.bool_]
    """(T,) frames well inside a silence."""
    loudness: Curve
    """(T,) 0 … 1."""
    melody: Curve
    """(T,) pitch of the voice in octaves around its median; 0 where there is none."""
    brow: Curve
    """(T,) true brows, -1 lowered … 1 raised."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the judge reads from a video."""

    opening: Curve
    """(T,) 0 … 1."""
    angles: Curve
    """(T, 3) radians."""
    place: Curve
    """(T, 2) middle of the head, shares of the side."""
    features: Curve
    """(T, 96)."""


def load_people(count: int, size: int, head_speed: float | None = None, style: str | None = None) -> list[Person]:
    """The first ``count`` people and sentences of the test split, all at this ``head_speed`` and in this ``style``.

    ``None`` = each as the seed has it. Raises :class:`ConfigError` for a style that nobody draws in,
    :class:`MissingDependencyError`.
    """
    try:
        from training.corpus import detector_box
        from training.world import Clip, Pose, ground_truth, render
        from training.world.identity import KEPT_OUT, STYLES
        from training.world.lips import Prosody
    except ImportError as exc:
        raise _needs_checkout(exc) from exc
    styles = (*STYLES, KEPT_OUT)
    check(style is None or style in styles, "style", style, f"one of {', '.join(styles)}")
    people = []
    for seed in range(count):
        clip = Clip.sample(seed, SECONDS, split="test", head_speed=head_speed, style=style)
        rest = Pose(smile=0.3)
        box = detector_box(np.array(ground_truth(clip.identity, rest, 512).face_box, np.float32))
        heard = Prosody.of(clip.waveform, (np.arange(len(clip)) + 0.5) / clip.fps)
        people.append(
            Person(
                seed=seed,
                portrait=render(clip.identity, rest, 512),
                face=Box(*(float(side) for side in box)),
                frames=np.stack(list(clip.frames(size))),
                waveform=clip.waveform,
                opening=clip.truth.opening.astype(np.float64),
                silent=_inside(clip.truth.phoneme == 0, 2),
                loudness=heard.loudness,
                melody=heard.melody,
                brow=np.array([pose.brow for pose in clip.poses]),
            )
        )
    return people


def _needs_checkout(exc: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"the quality benchmark draws its own people ({exc}): run it in a checkout's folder, after "
        'pip install -e ".[training]"'
    )


def _inside(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Where a mask holds with all its neighbours within ``reach``."""
    padded = np.pad(mask, reach, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.asarray(windows.all(axis=1))


class Reader:
    """The judge with its committed weights. Raises :class:`MissingDependencyError`."""

    def __init__(self) -> None:
        try:
            from training.judge import CENTRES, SCALES, trained
        except ImportError as exc:
            raise _needs_checkout(exc) from exc
        self._judge, self._scales, self._centres = trained(), np.array(SCALES), CENTRES

    def read(self, frames: Pixels) -> Reading:
        """(T, size, size, 3) uint8 → what is seen in every frame, at the 128×128 that the judge knows."""
        import torch

        from training.autoencoder import to_pixels
        from training.judge import SIZE

        pixels = torch.nn.functional.interpolate(to_pixels(frames), size=(SIZE, SIZE), mode="area")
        with torch.no_grad():
            told, features = self._judge(pixels)
        values = told.numpy().astype(np.float64) * self._scales + self._centres
        return Reading(values[:, 0].clip(0, 1.2), values[:, 2:5], values[:, 5:7], features.numpy().astype(np.float64))
