"""Looking into a video file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from emo_rt.errors import InputError
from emo_rt.media.audio import open_audio
from emo_rt.media.untrusted import VIDEO, OpenMedia, open_media

if TYPE_CHECKING:
    from av.stream import Stream
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class VideoInfo:
    """What is in a video file."""

    width: int
    """Picture width in pixels."""
    height: int
    """Picture height in pixels."""
    fps: float
    """Frames per second, on average."""
    frames: int
    """Number of frames, counted."""
    video_duration_s: float
    """From the start of the first frame to the end of the last, in seconds."""
    audio_duration_s: float | None
    """Length of the sound after decoding, in seconds; ``None`` without sound."""
    codecs: tuple[str, ...]
    """libav's codec names, in stream order: ``("h264", "aac")``."""
    metadata: dict[str, str]
    """The container's metadata."""


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Look into a video file: counts its frames without decoding them, and decodes its sound to measure it.

    Raises :class:`InputError` if the file cannot be read, is of no accepted format (``docs/inputs.md``), has no video,
    or has a sound that cannot be used.
    """
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

    path = Path(path)
    with open_media(path, VIDEO) as media:
        stream = media.best("video")
        if not isinstance(stream, VideoStream):
            raise InputError(f"{path} has no video track; expected one")
        frames, duration = _measure(media, stream)
        streams = media.container.streams
        has_sound = any(isinstance(other, AudioStream) for other in streams)
        return VideoInfo(
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(frames / duration),
            frames=frames,
            video_duration_s=float(duration),
            audio_duration_s=open_audio(path).duration_s if has_sound else None,
            codecs=tuple(_codec_name(other) for other in streams),
            metadata=dict(media.container.metadata),
        )


def _measure(media: OpenMedia, stream: VideoStream) -> tuple[int, Fraction]:
    """Frames and seconds of a video track, from its packets: headers of fragmented files leave them out."""
    frames, start, end = 0, math.inf, -math.inf
    for packet in media.packets(stream):
        if packet.pts is not None:
            frames += 1
            start, end = min(start, packet.pts), max(end, packet.pts + (packet.duration or 0))
    if not frames or stream.time_base is None:
        raise InputError("the video track has no frame; expected at least one")
    return frames, max(int(end - start), 1) * stream.time_base


def _codec_name(stream: Stream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context else stream.type
