"""Videos on disk or on their way to a viewer: MP4 with H.264 and AAC, whole or fragmented.

A file appears under its name only when it is complete; on any failure nothing is left. Sizes must be even in 4:2:0
video, so an odd picture is padded by one column or row that repeats its edge: nothing of the picture is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import IO, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.errors import ClosedError, ConfigError, InputError, OutputError
from emo_rt.media.audio import AudioSource
from emo_rt.media.encoders import PRESETS, choose_encoder, open_encoder_works
from emo_rt.media.frame_files import write_frames_png
from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.marking.options import GENERATED, MarkOptions
from emo_rt.media.marking.signing import FileSigner
from emo_rt.media.mp4 import FRAGMENT_SECONDS, Mux
from emo_rt.media.probe import VideoInfo, probe
from emo_rt.media.samples import Samples, checked_rate, mono_block
from emo_rt.media.soundtrack import PushedTrack, SourceTrack
from emo_rt.media.video_target import FORMATS, open_target, output_errors
from emo_rt.schema.kinds import Range, Whole
from emo_rt.schema.option import Outside, options_of, require_type

__all__ = ["FORMATS", "VideoInfo", "VideoOptions", "VideoWriter", "open_encoder_works", "probe", "write_frames_png"]

Frames = NDArray[np.uint8]

SIDE, RATE = Whole(Range(1, 8192, unit="pixels")), Whole(Range(1, 240))
"""Widths and heights of a video, and frames per second."""
SMALL_PICTURE = 256 * 256
"""Pixels. Below this, x264's macroblock tree stays off: with it, the same frames gave other bytes in 1 of 10 (32×32) to
1 of 100 (112×112) files; never without it, nor at 128×128, 208×208 or 256×256 in 100 files each (measured, x264 165).
"""


@dataclass(frozen=True)
class VideoOptions(MarkOptions):
    """How a video is encoded, and which marks it gets (the fields of :class:`emo_rt.MarkOptions`)."""

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
    keyframe_interval: Annotated[int | None, Range(1, 1000), Outside(placeholder="FRAMES")] = None
    """Frames from one key frame to the next. ``None`` = one second in a fragmented file, else the encoder's own.

    At most, where the file is not fragmented."""
    fragment_frames: Annotated[int | None, Range(1, 1000), Outside(is_hidden=True)] = None
    """Frames in a fragment; only for a fragmented file. ``None`` = from one key frame to the next.

    A fragment goes out when the next one starts, so short ones are seen earlier. Not each has a key frame then."""
    profile: Literal["auto", "baseline", "main", "high"] = "auto"
    """H.264 profile. ``baseline`` is decoded by everything, and makes larger files.

    ``auto`` = the encoder's own."""
    mark_generated: Annotated[bool, Outside("generated_mark")] = True
    """Mark the file as AI-generated in its metadata.

    In ``comment`` and ``description``."""
    generator: Annotated[str, Outside(is_hidden=True)] = "emo_rt"
    """Who made the video, with version, for that mark: ``emo_rt 1.2.3``."""
    audio_bitrate: Annotated[int | None, Range(8_000, 1_024_000, unit="bit/s"), Outside(placeholder="BITS")] = None
    """Bits per second of the sound in all. ``None`` = 80000 per channel.

    Of the AAC track; capped by what AAC allows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.fragmented or self.fragment_frames is None
        check(fits, "fragment_frames", self.fragment_frames, "None where the file is not fragmented")

    def with_marks(self, marks: MarkOptions) -> VideoOptions:
        """The same encoding with the marks that somebody else decides."""
        return replace(self, **{option.field: getattr(marks, option.field) for option in options_of(MarkOptions)})


class VideoWriter:
    """Writes frames, with sound, as they come. A context manager.

    The sound is a whole one, ``audio``, or comes piece by piece beside the frames, at ``sample_rate``:

    >>> with VideoWriter("out.mp4", width=512, height=512, fps=25, sample_rate=16_000) as writer:
    ...     writer.write(frames, pcm)

    A stream is saved while it runs, its sound as it is taken from the microphone:

    >>> def heard():
    ...     for pcm in microphone:
    ...         writer.write(None, pcm)
    ...         yield pcm
    >>> for chunk in animator.stream(avatar, heard()):
    ...     writer.write(chunk.frames)

    Memory stays flat, but for the index of an MP4 that is not fragmented (some 80 bytes per frame), and for pushed
    sound that the frames have not reached yet. Not to be used by two threads at once.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[bytes],
        *,
        width: int,
        height: int,
        fps: int,
        audio: AudioSource | None = None,
        sample_rate: int | None = None,
        options: VideoOptions = VideoOptions(),
        overwrite: bool = True,
    ) -> None:
        """``width``, ``height``: of the frames, in pixels. ``fps``: 1 … 240 frames per second.

        ``target``: a path ending in .mp4, .m4v or .mov, or a binary file object for fragmented MP4, which is written
        strictly forward and not closed; each fragment is written to it as soon as the next one starts. ``audio`` is
        cut to the video's length; where it is shorter, it ends earlier. ``sample_rate``, in Hz: of the sound that
        :meth:`write` gets; exactly as long as the video in the end, cut or filled with silence. Without either of the
        two there is no sound. Without ``overwrite`` a file that exists is kept, also one that appears meanwhile.

        Raises :class:`OutputError` if the target cannot be written, is the file that ``audio`` is read from, or exists
        and shall be kept, and if the encoder does not work; :class:`AudioError` for a rate that is none,
        :class:`ConfigError` for other arguments (a file object with a certificate, too: a stream cannot be signed),
        :class:`MissingDependencyError` for a certificate without the extra ``provenance``.
        """
        SIDE.check("width", width)
        SIDE.check("height", height)
        RATE.check("fps", fps)
        require_type("audio", audio, AudioSource)
        require_type("options", options, VideoOptions)
        if audio is not None and sample_rate is not None:
            raise ConfigError("audio and sample_rate are both given; a video has one sound: leave one of them out")
        self.width, self.height, self.fps = width, height, fps
        self.frame_count = 0
        self._marker = FrameMarker(options, fps)
        self._signer = _signer(options, target)
        self._pushed = None if sample_rate is None else PushedTrack(checked_rate(sample_rate))
        sound = self._pushed if audio is None else SourceTrack(audio)
        size = (width + width % 2, height + height % 2)
        encoder = choose_encoder(options.codec, *size)
        source = None if audio is None else audio.path
        self._target = open_target(target, options.fragmented, overwrite=overwrite, source=source)
        self._mux: Mux | None = None
        with self._discarding_on_error():
            self._mux = Mux(
                self._target.destination,
                self._target.format,
                fragmented=options.fragmented,
                fragment_s=options.fragment_frames / fps if options.fragment_frames else None,
                metadata=_mark(options),
                timescale=sound.sample_rate if sound else 1000 * fps,
            )
            self._mux.add_video(encoder, *size, fps, _encoder_options(encoder, options, fps, size))
            if sound is not None:
                self._mux.add_audio(sound, options.audio_bitrate)

    def write(self, frames: Frames | None, pcm: NDArray[Any] | None = None) -> None:
        """Append (n, height, width, 3) uint8 RGB frames, n ≥ 0, and sound. ``None`` = none of it.

        ``pcm``: (m,) mono, m ≥ 0: float in -1 … 1, int16 or int32; it continues where the last one ended, and need not
        be as long as the frames. It may come before its frames or after them. Only with ``sample_rate``.

        Raises :class:`InputError` for frames of another shape or type, :class:`AudioError` for sound that cannot be
        used (nothing of the call is written then), :class:`OutputError` if writing fails (the writer is then closed
        and nothing is left), :class:`ClosedError` after the end. What ``audio`` raises passes through.
        """
        mux = self._mux
        if mux is None:
            raise ClosedError("this video writer is closed; make a new one")
        pictures = self._checked_frames(frames)
        samples = self._checked_sound(pcm)
        with self._discarding_on_error():
            if self._pushed is not None:
                self._pushed.push(samples)
            for picture in pictures:
                (marked,) = self._marker(picture[np.newaxis], self.frame_count)
                mux.write(even_sides(marked), self.frame_count)
                self.frame_count += 1
            if len(pictures) == 0:
                mux.write_sound(self.frame_count)

    def _checked_frames(self, frames: Frames | None) -> Frames:
        expected = (self.height, self.width, 3)
        if frames is None:
            return np.zeros((0, *expected), np.uint8)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.shape[1:] != expected:
            actual = (getattr(frames, "shape", type(frames)), getattr(frames, "dtype", None))
            raise InputError(f"frames are {actual}; expected shape (n, {self.height}, {self.width}, 3), uint8")
        return frames

    def _checked_sound(self, pcm: NDArray[Any] | None) -> Samples:
        """(m,) float32."""
        if pcm is None:
            return np.zeros(0, np.float32)
        if self._pushed is None:
            raise InputError("this video writer takes no sound; make it with sample_rate")
        return mono_block(np.asarray(pcm))

    def close(self) -> None:
        """Finish the file and give it its name. Safe twice.

        Raises :class:`OutputError` if that fails or if there was no frame; nothing is left then.
        """
        if self._mux is None:
            return
        with self._discarding_on_error():
            if self.frame_count == 0:
                raise OutputError("no frame was written, so there is no video; write at least one")
            if self._pushed is not None:
                self._fill_with_silence(self._mux, self._pushed)
            self._mux.finish()
            if self._signer is not None:
                self._target.sign(self._signer)
            self._target.commit()
        self._mux = None

    def _fill_with_silence(self, mux: Mux, sound: PushedTrack) -> None:
        """Up to the end of the last frame."""
        mux.write_sound(self.frame_count)
        missing = self.frame_count * sound.sample_rate // self.fps + 1 - sound.received
        while missing > 0:
            sound.push(np.zeros(min(missing, sound.sample_rate), np.float32))
            mux.write_sound(self.frame_count)
            missing -= sound.sample_rate

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
            with output_errors(f"the video {self._target.name} cannot be written"):
                yield
        except BaseException:
            self.discard()
            raise


def even_sides(frame: Frames) -> Frames:
    """(H, W, 3) → both sides even, by repeating the last row and column where needed."""
    height, width, _ = frame.shape
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _mark(options: VideoOptions) -> dict[str, str]:
    text = f"{GENERATED} (synthetic media), made by {options.generator}"
    return {"comment": text, "description": text} if options.mark_generated else {}


def _signer(options: VideoOptions, target: object) -> FileSigner | None:
    """Made before anything is written: a certificate that cannot be used must not cost a run."""
    if options.c2pa_cert is None or options.c2pa_key is None:
        return None
    if not isinstance(target, str | os.PathLike):
        raise ConfigError("a stream cannot be signed; write to a path, or leave c2pa_cert and c2pa_key out")
    return FileSigner(options.c2pa_cert, options.c2pa_key, options.generator)


def _encoder_options(encoder: str, options: VideoOptions, fps: int, size: tuple[int, int]) -> dict[str, str]:
    """libav options of the encoder. A fragmented file is live: no look-ahead, keyframes at fixed places."""
    settings = {"preset": PRESETS[encoder][options.preset]}
    nvenc = encoder == "h264_nvenc"
    settings |= {"rc": "vbr", "cq": str(options.crf), "b": "0"} if nvenc else {"crf": str(options.crf)}
    if not nvenc and size[0] * size[1] < SMALL_PICTURE:
        settings["mbtree"] = "0"
    if options.profile != "auto":
        settings["profile"] = options.profile
    interval = options.keyframe_interval
    if options.fragmented:
        interval = interval or FRAGMENT_SECONDS * fps
        # Without scene cuts: each would start a fragment of its own.
        settings |= {"bf": "0"} | ({"tune": "ull"} if nvenc else {"tune": "zerolatency", "sc_threshold": "0"})
    return settings | ({"g": str(interval)} if interval else {})
