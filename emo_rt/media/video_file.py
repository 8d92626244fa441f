"""Results on disk: MP4 with H.264 and AAC (whole or fragmented, to a file or to a stream), or PNG pictures.

A file appears under its name only when it is complete; on any failure nothing is left. Sizes must be even in 4:2:0
video, so an odd picture is padded by one column or row that repeats its edge: nothing of the picture is lost.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.errors import Cancelled, ClosedError, EmoRtError, InputError, OutputError
from emo_rt.files import path_of, whole_file, whole_folder
from emo_rt.media.audio import AudioSource, open_audio
from emo_rt.media.mp4 import FRAGMENT_SECONDS, PRESETS, Mux, choose_encoder, open_encoder_works
from emo_rt.media.untrusted import VIDEO, OpenMedia, open_media
from emo_rt.schema.kinds import Range
from emo_rt.schema.option import Outside, check_options

__all__ = ["VideoInfo", "VideoOptions", "VideoWriter", "open_encoder_works", "probe", "write_frames_png"]

Frames = NDArray[np.uint8]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
"""File name extension → libav's muxer."""
SMALL_PICTURE = 256 * 256
"""Pixels. Below this, x264's macroblock tree stays off: with it, the same frames gave other bytes in 1 of 10 (32×32) to
1 of 100 (112×112) files; never without it, nor at 128×128, 208×208 or 256×256 in 100 files each (measured, x264 165).
"""


@dataclass(frozen=True)
class VideoOptions:
    """How a video is encoded."""

    codec: Literal["auto", "h264_nvenc", "libx264"] = "auto"
    """H.264 encoder. A named one is used or fails.

    ``auto``: NVENC where it really opens, libx264 elsewhere."""
    crf: Annotated[int, Range(0, 51)] = 18
    """Quality: 0 is best, 18 looks like the original.

    18 is visually lossless in libx264; NVENC takes it as its constant-quality level."""
    preset: Literal["fast", "balanced", "best"] = "balanced"
    """Encoding effort: time against size of the file.

    libx264 veryfast, medium, slow; NVENC p2, p4, p7."""
    fragmented: bool = False
    """MP4 that plays while it is written.

    Otherwise the index is moved to the front at close."""
    mark_generated: Annotated[bool, Outside("generated_mark")] = True
    """Mark the file as AI-generated in its metadata.

    In ``comment`` and ``description``."""
    generator: Annotated[str, Outside(is_hidden=True)] = "emo_rt"
    """Who made the video, with version, for that mark: ``emo_rt 1.2.3``."""
    audio_bitrate: Annotated[int | None, Range(8_000, 1_024_000), Outside(placeholder="BITS")] = None
    """Bits per second of the sound in all. ``None`` = 80000 per channel.

    Of the AAC track; capped by what AAC allows."""

    def __post_init__(self) -> None:
        check_options(self)


class VideoWriter:
    """Writes frames, with sound, as they come. A context manager.

    Memory stays flat, but for the index of an MP4 that is not fragmented (some 80 bytes per frame).
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[bytes],
        *,
        width: int,
        height: int,
        fps: int,
        audio: AudioSource | None = None,
        options: VideoOptions = VideoOptions(),
    ) -> None:
        """``width``, ``height``: of the frames, in pixels. ``fps``: 1 … 240 frames per second.

        ``target``: a path ending in .mp4, .m4v or .mov, or a binary file object for fragmented MP4, which is written
        strictly forward and not closed. ``audio`` is cut to the video's length; where it is shorter, it ends earlier.

        Raises :class:`OutputError` if the target cannot be written or the encoder does not work.
        """
        check(1 <= width <= 8192 and 1 <= height <= 8192, "width, height", (width, height), "1 … 8192 pixels")
        check(isinstance(fps, int) and 1 <= fps <= 240, "fps", fps, "an integer from 1 to 240")
        self.width, self.height, self.fps = width, height, fps
        self.frame_count = 0
        size = (width + width % 2, height + height % 2)
        encoder = choose_encoder(options.codec, *size)
        self._target = _open_target(target, options.fragmented)
        self._mux: Mux | None = None
        with self._discarding_on_error():
            self._mux = Mux(
                self._target.destination,
                self._target.format,
                options.fragmented,
                _mark(options),
                timescale=audio.sample_rate if audio else 1000 * fps,
            )
            self._mux.add_video(encoder, *size, fps, _encoder_options(encoder, options, fps, size))
            if audio is not None:
                self._mux.add_audio(audio, options.audio_bitrate)

    def write(self, frames: Frames) -> None:
        """Append (n, height, width, 3) uint8 RGB frames, n ≥ 0.

        Raises :class:`InputError` for another shape or type, :class:`OutputError` if writing fails (the writer is then
        closed and nothing is left), :class:`ClosedError` after the end. What the sound raises passes through.
        """
        mux = self._mux
        if mux is None:
            raise ClosedError("this video writer is closed; make a new one")
        expected = (self.height, self.width, 3)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.shape[1:] != expected:
            actual = (getattr(frames, "shape", type(frames)), getattr(frames, "dtype", None))
            raise InputError(f"frames are {actual}; expected shape (n, {self.height}, {self.width}, 3), uint8")
        with self._discarding_on_error():
            for frame in frames:
                mux.write(_even(frame), self.frame_count)
                self.frame_count += 1

    def close(self) -> None:
        """Finish the file and give it its name. Safe twice.

        Raises :class:`OutputError` if that fails or if there was no frame; nothing is left then.
        """
        if self._mux is None:
            return
        with self._discarding_on_error():
            if self.frame_count == 0:
                raise OutputError("no frame was written, so there is no video; write at least one")
            self._mux.finish()
            self._target.commit()
        self._mux = None

    def discard(self) -> None:
        """Stop and leave nothing behind. Safe twice, and after :meth:`close`, whose file it keeps."""
        mux, self._mux = self._mux, None
        if mux is not None:
            self._target.stop()
            mux.abort()
        self._target.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if exc is None:
            self.close()
        else:
            self.discard()

    @contextmanager
    def _discarding_on_error(self) -> Iterator[None]:
        try:
            with _output_errors(f"the video {self._target.name} cannot be written"):
                yield
        except BaseException:
            self.discard()
            raise


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


def write_frames_png(frames: Iterable[Frames], folder: str | os.PathLike[str]) -> int:
    """Write batches of (n, H, W, 3) uint8 RGB as ``000000.png`` … into ``folder``. Returns the number of pictures.

    The folder is made, or may exist and be empty; it appears when it is complete. Raises :class:`OutputError` if it is
    not empty, cannot be written, or there is no frame; what ``frames`` raises passes through. Nothing is left then.
    """
    folder = path_of("folder", folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not an empty folder; choose another or empty it")
    failed = f"the pictures cannot be written to {folder}"
    count = 0
    with ExitStack() as stack:
        with _output_errors(failed):
            partial = stack.enter_context(whole_folder(folder))
        for batch in frames:
            with _output_errors(failed):
                for frame in batch:
                    (partial / f"{count:06d}.png").write_bytes(_png(frame))
                    count += 1
        if count == 0:
            raise OutputError("there was no frame, so there are no pictures; pass at least one")
        with _output_errors(failed):
            stack.pop_all().close()
    return count


def _even(frame: Frames) -> Frames:
    """(H, W, 3) → both sides even, by repeating the last row and column where needed."""
    height, width, _ = frame.shape
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _png(frame: Frames) -> bytes:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"a frame is {frame.shape} {frame.dtype}; expected (H, W, 3) uint8")
    context = av.CodecContext.create("png", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = frame.shape[:2]
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 25)
    return b"".join(bytes(packet) for packet in context.encode(VideoFrame.from_ndarray(frame, "rgb24")))


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


def _mark(options: VideoOptions) -> dict[str, str]:
    text = f"AI-generated video (synthetic media), made by {options.generator}"
    return {"comment": text, "description": text} if options.mark_generated else {}


def _encoder_options(encoder: str, options: VideoOptions, fps: int, size: tuple[int, int]) -> dict[str, str]:
    """libav options of the encoder. A fragmented file is live: no look-ahead, a keyframe per fragment."""
    settings = {"preset": PRESETS[encoder][options.preset]}
    nvenc = encoder == "h264_nvenc"
    settings |= {"rc": "vbr", "cq": str(options.crf), "b": "0"} if nvenc else {"crf": str(options.crf)}
    if not nvenc and size[0] * size[1] < SMALL_PICTURE:
        settings["mbtree"] = "0"
    if options.fragmented:
        settings |= {"g": str(FRAGMENT_SECONDS * fps), "bf": "0", "tune": "ull" if nvenc else "zerolatency"}
    return settings


@contextmanager
def _output_errors(failed: str) -> Iterator[None]:
    """Turn what the system or libav raises into :class:`OutputError`; our own errors pass."""
    try:
        yield
    except EmoRtError:
        raise
    except (OSError, FFmpegError, ValueError) as exc:
        raise OutputError(f"{failed}: {exc}") from exc


def _open_target(target: str | os.PathLike[str] | IO[bytes], fragmented: bool) -> _PathTarget | _StreamTarget:
    return _PathTarget(Path(target)) if isinstance(target, (str, os.PathLike)) else _StreamTarget(target, fragmented)


class _PathTarget:
    """A file that gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in FORMATS:
            raise OutputError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(FORMATS)}")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; expected the name of a file")
        self.name, self.format = str(path), FORMATS[path.suffix.lower()]
        self._whole = ExitStack()
        with _output_errors(f"the video {path} cannot be written"):
            self.destination = str(self._whole.enter_context(whole_file(path.absolute())))

    def stop(self) -> None:
        pass

    def commit(self) -> None:
        self._whole.pop_all().close()

    def discard(self) -> None:
        """Nothing is left, not even where :meth:`commit` has failed. After it there is nothing to discard."""
        with suppress(Cancelled), self._whole:
            raise Cancelled


class _StreamTarget:
    """The caller's file object. It is written strictly forward, and never closed."""

    format = "mp4"

    def __init__(self, stream: IO[bytes], fragmented: bool) -> None:
        if not hasattr(stream, "write") or isinstance(stream, io.TextIOBase):
            raise OutputError(f"the target is {type(stream).__name__}; expected a path or a binary file object")
        if not fragmented:
            raise OutputError("a file object takes fragmented MP4 only; pass VideoOptions(fragmented=True) or a path")
        self.name = str(getattr(stream, "name", type(stream).__name__))
        self.destination = self
        self._stream: IO[bytes] | None = stream

    def write(self, data: bytes) -> int:
        """libav writes here. Raw files and sockets may take less than they are given; libav would lose the rest."""
        left = memoryview(data)
        while self._stream is not None and left:
            taken: Any = self._stream.write(left)
            left = left[len(left) if taken is None else taken :]
        return len(data)

    def stop(self) -> None:
        """Drop what comes from now on: a broken stream must not get an orderly end."""
        self._stream = None

    def commit(self) -> None:
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()

    def discard(self) -> None:
        pass
