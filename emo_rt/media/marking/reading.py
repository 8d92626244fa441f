"""Which marks a video file has: metadata, C2PA manifest, watermark."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emo_rt.checks import check
from emo_rt.errors import InputError
from emo_rt.media.marking.detector import Evidence, Sighting, threshold
from emo_rt.media.marking.options import GENERATED, MarkOptions
from emo_rt.media.marking.pattern import PUBLIC_KEY, Pattern
from emo_rt.media.marking.provenance import ProvenanceReading, read_provenance
from emo_rt.media.untrusted import VIDEO, OpenMedia, open_file, open_media
from emo_rt.schema.option import option_of

MOST_DECODED, MOST_PIXELS = 1_500, 4_000_000_000
"""Frames that are decoded, a minute, and their pixels in all: of 4K, 480 frames."""
MOST_S = 300.0
"""Seconds for the signature, and for the pictures, of one file."""
DENSE = 100
"""The watermark is looked for in so many frames one after the other, then in as many of each second, each fourth …"""
WRITTEN_IN = ("comment", "description")
"""Where the metadata may have the mark. Some programs write one of them anew and keep the other."""
LONGEST = 200
"""Characters of the mark that are told: other programs may have written on."""


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
        """Whether at least one mark labels the video as made by a machine. Without one it may be, all the same."""
        signed = self.c2pa.says_generated and self.c2pa.state in ("valid", "trusted")
        return self.metadata is not None or self.watermark.found or signed


def verify(
    path: str | os.PathLike[str], *, key: str | None = None, cancel: threading.Event | None = None
) -> Verification:
    """Look for all marks in a video file.

    ``key``: that of the watermark, ``None`` = the one that everybody has. ``cancel``: setting it ends the call with
    :class:`Cancelled`. Looks at the first minute (1,500 frames; fewer of pictures above 2.6 megapixels). Raises
    :class:`ConfigError` for a key that is no text, :class:`InputError` if the file cannot be read as a video, has
    pictures of more than 50 megapixels, or takes longer than five minutes for its pictures or for its signature.
    """
    kind = option_of(MarkOptions, "watermark_key").kind
    check(key is None or kind.has(key), "key", key, f"{kind.words}, or None")
    try:
        path = Path(path)
    except TypeError as exc:
        raise InputError(f"a video cannot be a {type(path).__name__}; expected a path") from exc
    with open_media(path, VIDEO, cancel, MOST_S) as media:
        metadata, evidence = _mark_in(media.container.metadata), _looked_through(media, path)
        demuxer = media.demuxer
    with open_file(path, VIDEO, cancel) as file:
        file.allow(MOST_S, "read through")
        provenance = read_provenance(file, demuxer)
        file.check()
    seen = evidence.look_for(Pattern(PUBLIC_KEY if key is None else key))
    return Verification(str(path), metadata, provenance, _reading(seen, evidence.frames))


def _reading(seen: Sighting, frames: int) -> WatermarkReading:
    return WatermarkReading(seen.is_found, round(seen.score, 2), round(threshold(), 2), seen.payload, frames)


def _mark_in(metadata: Mapping[str, str]) -> str | None:
    """Of the container. Matroska has the names in capitals."""
    written = (value for name, value in metadata.items() if name.lower() in WRITTEN_IN)
    return next((value[:LONGEST] for value in written if value.startswith(GENERATED)), None)


def _looked_through(media: OpenMedia, path: Path) -> Evidence:
    """The pictures, up to the limits."""
    from av.video.stream import VideoStream

    stream = media.best("video")
    if not isinstance(stream, VideoStream):
        raise InputError(f"{path} has no video track; expected one")
    evidence, decoded, pixels = Evidence(), 0, 0
    for packet in media.packets(stream):
        for frame in packet.decode():
            if decoded % (1 << evidence.frames // DENSE) == 0:
                evidence.add(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
            decoded += 1
            pixels += frame.width * frame.height
        if decoded >= MOST_DECODED or pixels >= MOST_PIXELS:
            break
    if decoded == 0:
        raise InputError(f"{path} has no frame that can be decoded; expected at least one")
    return evidence
