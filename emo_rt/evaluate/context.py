"""What the measures of a video are held against: portrait, true videos, the length of a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.reading import Reading

Floats = NDArray[np.float64]

DLIB, ARCFACE = "dlib", "arcface"
"""Names of the recognisers."""
NO_PORTRAIT = "needs the portrait"


@dataclass(frozen=True, eq=False)
class PortraitFacts:
    """What is known of the person's picture."""

    embeddings: Mapping[str, Floats]
    """By recogniser, (d,)."""


@dataclass(frozen=True, eq=False)
class Context:
    """What readings are compared with."""

    portrait_of: Callable[[str], PortraitFacts | None] = lambda name: None
    """Name of a video → its portrait."""
    no_portrait: Callable[[str], str] = lambda name: NO_PORTRAIT
    """Name of a video → why it has none."""
    true_expressions: Floats | None = None
    """(n, 51) blendshapes of all frames of the true videos."""
    true_frames: Floats | None = None
    """(n, d) Inception's features of all frames of the true videos."""
    true_clips: Floats | None = None
    """(n, 400) I3D's features of all clips of the true videos."""
    true_coefficients: Floats | None = None
    """(n, 64) expression coefficients of all frames of the true videos."""
    clip_frames: int | None = None
    """Frames in a clip of the model."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Recogniser → why it is not here."""

    def portrait_embedding(self, recogniser: str, reading: Reading) -> Floats | None:
        """The portrait's embedding for a video."""
        portrait = self.portrait_of(reading.name)
        return None if portrait is None else portrait.embeddings.get(recogniser)
