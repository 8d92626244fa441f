"""Files that strangers gave: opened by ourselves, and kept from opening others.

FFmpeg can be led by a file to other files: a playlist names its segments, a concat script its parts. So FFmpeg and
Pillow never see a file name. They read bytes through an object of ours, from regular files only, never beyond the size
that the file had when it was opened. FFmpeg may use the containers and codecs of a short list, and no protocol.
Recognising a file has a deadline, and all reading hears a cancel.
"""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from emo_rt.errors import AudioError, Cancelled, InputError, PortraitError
from emo_rt.files import NotRegularError, open_regular

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

    StreamT = TypeVar("StreamT", AudioStream, VideoStream)

__all__ = [
    "AVATAR",
    "NUMBERS",
    "PICTURE",
    "SOUND",
    "VIDEO",
    "Kind",
    "OpenMedia",
    "UntrustedFile",
    "open_file",
    "open_media",
]

PROBE_S = 10.0
"""Seconds in which it must be clear what is in a file. On a local disk that takes milliseconds."""
MAX_TRACKS = 64
"""Tracks of a file; a damaged one may seem to have thousands."""
MOST_PIXELS = 50_000_000
"""Of a picture in a video; 8K has 33 million."""
READ_SIZE = 32_768
"""Bytes that FFmpeg asks for at a time; between two reads a cancel is heard."""
VIDEO_CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "MP4, M4A, MOV, 3GP",
    "matroska,webm": "Matroska, WebM",
    "avi": "AVI",
    "mpegts": "MPEG-TS",
}
"""FFmpeg's name of a demuxer → as people call its files. None of these opens a second file."""
SOUND_CONTAINERS = {
    "wav": "WAV",
    "w64": "Wave64",
    "aiff": "AIFF",
    "au": "AU",
    "caf": "CAF",
    "flac": "FLAC",
    "mp3": "MP3",
    "aac": "AAC (ADTS)",
    "amr": "AMR",
    "ogg": "Ogg",
    "asf": "ASF (WMA)",
    **VIDEO_CONTAINERS,
}
"""The same for sound, also that of a video."""
PCM = (
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw"),
)
"""Uncompressed sound, by FFmpeg's names of codecs."""
SOUND_CODECS = (
    *PCM,
    *("adpcm_ms", "adpcm_ima_wav", "flac", "alac", "mp3", "mp2", "aac", "opus", "vorbis", "ac3", "eac3"),
    *("amr_nb", "wmav1", "wmav2"),
)
"""Codecs of sound that are decoded, by FFmpeg's names."""
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores")
"""Codecs of pictures in videos, by FFmpeg's names."""
DECODERS = ("mp3float", "mp2float", "libopus", "libvorbis", "amrnb", "libdav1d", "libvpx", "libvpx-vp9")
"""Decoders of these codecs that have a name of their own; FFmpeg's list is of decoders."""


@dataclass(frozen=True)
class Kind:
    """What a file may be."""

    noun: str
    """As messages call it."""
    form: str
    """What it is read as, in messages."""
    error: type[InputError]
    """What is raised about it."""
    max_bytes: int
    """Largest file that is opened."""
    containers: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's demuxers that may read it → names for people."""
    codecs: tuple[str, ...] = ()
    """Codecs that may decode it, by FFmpeg's names."""
    max_pixels: int = MOST_PIXELS
    """Largest picture of a video that is decoded, width times height."""


SOUND = Kind("sound file", "sound", AudioError, 16 << 30, SOUND_CONTAINERS, SOUND_CODECS)
"""A sound, or a video whose sound is wanted: four hours at 9 Mbit/s."""
VIDEO = Kind("video file", "a video", InputError, 16 << 30, VIDEO_CONTAINERS, VIDEO_CODECS + SOUND_CODECS)
"""A video."""
PICTURE = Kind("picture", "a picture", PortraitError, 1 << 30)
"""A picture, of one of the formats in :mod:`emo_rt.media.picture`: 80 megapixels, uncompressed, fit in."""
NUMBERS = Kind("file", "numbers", InputError, 64 << 20)
"""A ``.npy`` file with a few thousand numbers."""
DECODED = Kind("file", "decoded numbers", InputError, 4 << 30)
"""What a process of limited rights made of an upload: four hours of sound, or 80 megapixels."""
AVATAR = Kind("avatar", "an avatar", InputError, 1 << 30)
"""What was computed of a portrait: 46 MB at full size in fp16, and the picture."""


class UntrustedFile(io.RawIOBase):
    """A regular file, open for reading. It has no name, and hears a deadline and a cancel with every read."""

    def __init__(self, file: io.FileIO, path: Path, kind: Kind, cancel: threading.Event | None) -> None:
        """Use :func:`open_file`."""
        self._file, self._path, self._kind, self._cancel = file, path, kind, cancel
        # What comes after is not the file that was checked. Files of /proc say 0, and may have no end.
        self.size = os.fstat(file.fileno()).st_size
        """Bytes in all."""
        self.deadline: float | None = None
        """When reading ends with an error, by :func:`time.monotonic`; ``None`` = never."""
        self.allow(PROBE_S, "recognised")

    def allow(self, seconds: float, what: str) -> None:
        """Reading ends with an error after so long from now. ``what``: what could not be done by then."""
        self.deadline = time.monotonic() + seconds
        self._late = f"{self._path} could not be {what} within {seconds:g} s; convert it to a simpler format first"

    def check(self) -> None:
        """Raise :class:`Cancelled` if the caller asked to stop, or the kind's error if the deadline is over."""
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled(f"reading {self._path} was cancelled")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise self._kind.error(self._late)

    def readinto(self, buffer: Any) -> int:
        self.check()
        view = memoryview(buffer).cast("B")
        return self._file.readinto(view[: max(0, self.size - self._file.tell())])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self.size}[whence]
        return self._file.seek(base + offset)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_file(path: str | os.PathLike[str], kind: Kind, cancel: threading.Event | None = None) -> UntrustedFile:
    """Open a regular file. Symbolic links are followed; folders, pipes, sockets and devices are refused unopened.

    Raises the kind's error if there is no such file, or it is too large.
    """
    path = Path(path)
    try:
        file = UntrustedFile(io.FileIO(open_regular(path)), path, kind, cancel)
    except FileNotFoundError as exc:
        raise kind.error(f"there is no {kind.noun} {path}") from exc
    except NotRegularError as exc:
        raise kind.error(f"there is no {kind.noun} {path}: {exc}") from exc
    except (OSError, ValueError) as exc:  # ValueError: a name with a zero byte
        raise kind.error(f"{path} cannot be opened ({exc}); expected a readable {kind.noun}") from exc
    if file.size > kind.max_bytes:
        file.close()
        limit = f"{kind.max_bytes:,} bytes at most"
        raise kind.error(f"{path} has {file.size:,} bytes; expected a {kind.noun} of {limit}")
    return file


class OpenMedia:
    """A file that FFmpeg reads. Made by :func:`open_media`."""

    def __init__(self, path: Path, kind: Kind, file: UntrustedFile, feed: _Feed, container: InputContainer) -> None:
        self.container = container
        """PyAV's container."""
        self.demuxer: str = container.format.name
        """FFmpeg's name of what reads it, one of the kind's containers."""
        self.size = file.size
        """Bytes of the file."""
        self._path, self._kind, self._file, self._feed = path, kind, file, feed

    def best(self, what: Literal["audio", "video"]) -> Stream | None:
        """The best track of a kind, if there is one.

        Raises the kind's error if its codec is not accepted, or its pictures are too large.
        """
        stream = self.container.streams.best(what)
        if stream is None:
            return None
        context = getattr(stream, "codec_context", None)
        codec = context.codec.canonical_name if context else "something that FFmpeg does not know"
        if codec not in self._kind.codecs:
            raise self._kind.error(
                f"{self._path} is encoded as {codec}; expected one of {', '.join(self._kind.codecs)}. Convert it first"
            )
        if what == "video":
            self._limit_pixels(cast("VideoStream", stream))
        return stream

    def _limit_pixels(self, stream: VideoStream) -> None:
        """By what the header says, and for what comes part-way in the decoder, which allocates nothing larger."""
        context, most = stream.codec_context, self._kind.max_pixels
        if context.width * context.height > most:
            size = f"{context.width}x{context.height}"
            raise self._kind.error(f"{self._path} has pictures of {size} pixels; expected {most:,} pixels at most")
        context.options = {**context.options, "max_pixels": str(most)}

    def packets(self, stream: StreamT) -> Iterator[Packet[StreamT]]:
        """Everything in a track. Raises :class:`Cancelled`."""
        try:
            for packet in self.container.demux(stream):
                self._file.check()
                yield packet
        except IndexError as exc:  # PyAV, at the end of a file whose tracks have become more
            self._feed.check()
            raise self._kind.error(f"{self._path} gets new tracks part-way; convert it to WAV first") from exc
        self._feed.check()


@contextmanager
def open_media(
    path: str | os.PathLike[str], kind: Kind, cancel: threading.Event | None = None, max_s: float | None = None
) -> Iterator[OpenMedia]:
    """Open a sound or a video with FFmpeg, which sees nothing but its bytes.

    ``max_s``: seconds until all must be read, once it is recognised; ``None`` = any time. Raises the kind's error for
    what cannot be read, :class:`Cancelled` when ``cancel`` is set: when the file is opened, while it is recognised, and
    with every packet.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    with open_file(path, kind, cancel) as file:
        feed = _Feed(file)
        try:
            with av.open(
                feed,
                mode="r",
                buffer_size=READ_SIZE,
                container_options=_demuxer_options(kind),
                metadata_errors="replace",
                timeout=(PROBE_S, None),
            ) as container:
                feed.check()
                file.deadline = None
                if max_s is not None:
                    file.allow(max_s, "read through")
                yield OpenMedia(path, kind, file, feed, container)
        except (FFmpegError, OSError) as exc:
            file.check()
            feed.check()
            reason = "its format is not accepted" if exc.errno == errno.EINVAL else exc.strerror or exc
            accepted = ", ".join(kind.containers.values())
            raise kind.error(
                f"{path} cannot be read as {kind.form} ({reason}); expected {accepted}. Convert it first"
            ) from exc


def _demuxer_options(kind: Kind) -> dict[str, str]:
    """FFmpeg looks at its lists before a demuxer sees the file, and before a decoder is opened."""
    return {
        "format_whitelist": ",".join(kind.containers),
        "codec_whitelist": ",".join((*kind.codecs, *DECODERS)),
        "max_streams": str(MAX_TRACKS),
        "protocol_whitelist": "none",  # no protocol has this name; an empty list would allow all
    }


class _Feed:
    """What PyAV reads from: it must not raise, because FFmpeg goes on after an error, and PyAV keeps only one."""

    def __init__(self, file: UntrustedFile) -> None:
        self._file = file
        self._failure: BaseException | None = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none after a failure, which ends the file for FFmpeg."""
        if self._failure is not None:
            return b""
        try:
            return self._file.read(size) or b""
        except BaseException as exc:  # noqa: BLE001 - Ctrl-C, too, would be lost in FFmpeg
            self._failure = exc
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position, or -1 where there is none."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, KeyError, OverflowError):
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise what has ended the reading."""
        if self._failure is not None:
            raise self._failure
