"""Which marks a video file has: metadata, C2PA manifest, watermark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo_rt.errors import InputError
from emo_rt.media.marking.detector import Evidence, Sighting, threshold
from emo_rt.media.marking.options import GENERATED
from emo_rt.media.marking.pattern import PUBLIC_KEY, Pattern
from emo_rt.media.marking.provenance import ProvenanceReading, read_provenance
from emo_rt.media.untrusted import VIDEO, open_file, open_media

MOST_DECODED = 1_500
"""Frames that are decoded: a minute."""
DENSE = 100
"""The watermark is looked for in so many frames one after the other, then in as many of each second, each fourth …"""


@dataclass(frozen=True)
class WatermarkReading:
    """What was found of one key."""

    found: bool
    """Whether the mark is there."""
    score: float
    """How clearly, in standard deviations of chance. Without a mark it is about 9: noise fits some payload, too."""
    threshold: float
    """Score from which on it counts: less than one file in a million without a mark reaches it."""
    payload: int | None
    """The number that it carries; ``None`` where it cannot be read for sure."""
    frames: int
    """Frames that were looked at."""


@dataclass(frozen=True)
class Verification:
    """All marks of one file."""

    file: str
    metadata: str | None
    """The mark in the metadata, as it is written there."""
    c2pa: ProvenanceReading
    watermark: WatermarkReading

    @property
    def is_generated(self) -> bool:
        """Whether at least one mark says that a machine has made the video. Without one it may have, all the same."""
        signed = self.c2pa.says_generated and self.c2pa.state in ("valid", "trusted")
        return self.metadata is not None or self.watermark.found or signed


def verify(path: str | os.PathLike[str], *, key: str | None = None) -> Verification:
    """Look for all marks in a video file.

    ``key``: that of the watermark, ``None`` = the one that everybody has. Looks at the first minute (1,500 frames).
    Raises :class:`InputError` if the file cannot be read as a video.
    """
    path = Path(path)
    with open_file(path, VIDEO) as file:
        file.deadline = None
        provenance = read_provenance(file)
    metadata, evidence = _look_through(path)
    seen = evidence.look_for(Pattern(PUBLIC_KEY if key is None else key))
    return Verification(str(path), metadata, provenance, _reading(seen, evidence.frames))


def _reading(seen: Sighting, frames: int) -> WatermarkReading:
    return WatermarkReading(seen.is_found, round(seen.score, 2), round(threshold(), 2), seen.payload, frames)


def _look_through(path: Path) -> tuple[str | None, Evidence]:
    """The mark in the metadata, and the pictures."""
    from av.video.stream import VideoStream

    with open_media(path, VIDEO) as media:
        stream = media.best("video")
        if not isinstance(stream, VideoStream):
            raise InputError(f"{path} has no video track; expected one")
        evidence, decoded = Evidence(), 0
        for packet in media.packets(stream):
            for frame in packet.decode():
                if decoded % (1 << evidence.frames // DENSE) == 0:
                    evidence.add(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                decoded += 1
            if decoded >= MOST_DECODED:
                break
        written = media.container.metadata
        metadata = next((written[name] for name in ("comment", "description") if name in written), None)
    if decoded == 0:
        raise InputError(f"{path} has no frame that can be decoded; expected at least one")
    return (metadata if metadata and metadata.startswith(GENERATED) else None), evidence
