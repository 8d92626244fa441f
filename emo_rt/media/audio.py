"""The voice: decode any sound to float blocks, and resample it to the 16 kHz mono that the audio encoder takes.

Everything is an iterator of blocks, so an hour of sound needs no more memory than a second of it.

How long a sound is comes from decoding it once, because headers lie. Codecs put priming samples before the sound and
fill their last frame with silence; what the container declares of that is taken away again. Exact to the sample: PCM,
FLAC, ALAC, MP3 with a LAME header, Opus, and MP4 whose edit list is fine enough (all that
:mod:`emo_rt.media.video_file` writes). Within 1 ms: MP4 and M4A whose edit list counts milliseconds (ffmpeg's default).
Exact at the start, up to one codec frame longer at the end: AAC in Matroska, Ogg Vorbis. Raw ADTS (``.aac``, MPEG-TS)
and MP3 without a LAME header declare nothing and keep their one or two codec frames of silence.

Which containers and codecs are accepted is in :mod:`emo_rt.media.untrusted`, and in ``docs/inputs.md``.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.errors import AudioError, Cancelled, ClosedError
from emo_rt.media.rate_filter import RateFilter
from emo_rt.media.samples import MAX_CHANNELS, Samples, as_columns, as_float, check_level, checked_rate, mono_block
from emo_rt.media.untrusted import PCM, SOUND, OpenMedia, open_media

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream

__all__ = ["AudioSource", "Resampler", "mono_16k", "open_audio"]

AUDIO_SAMPLE_RATE = 16_000
"""Rate of the waveform that the audio encoder takes, in Hz (wav2vec 2.0)."""

MAX_DURATION_S = 4 * 3600.0
"""Longest sound that is accepted unless the caller says otherwise, in seconds."""
UNDECLARED = {"aac"}
"""Containers whose length FFmpeg guesses from a few frames; it may be half of the truth or twice."""
ARRAY_BLOCK = 65_536
"""Samples per block that an array is handed out in."""
RESAMPLER_BLOCK = 1_024
"""Samples that swresample gets at a time, always; the result then cannot depend on how the caller chunks the sound."""


class AudioSource(ABC):
    """A sound that can be read from its start as often as needed, block by block."""

    sample_rate: int
    """The sound's own rate, in Hz."""
    channels: int
    """Number of channels."""
    samples: int
    """Exact number of samples per channel."""
    path: Path | None = None
    """The file that it is read from, if there is one."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate

    @abstractmethod
    def blocks(self) -> Iterator[Samples]:
        """Start a new pass. Yields (samples, channels) float32, about -1 … 1, :attr:`samples` rows in all.

        Raises :class:`AudioError` if the sound can no longer be read to its end.
        """


def open_audio(
    source: str | os.PathLike[str] | NDArray[Any],
    sample_rate: int | None = None,
    *,
    max_duration_s: float = MAX_DURATION_S,
    cancel: threading.Event | None = None,
) -> AudioSource:
    """Open a sound file, the sound track of a video file, or an array.

    ``source`` is a path to a file of an accepted format (``docs/inputs.md``), or an array (n,) or (n, channels): float
    in -1 … 1, int16 or int32. The array is not copied: leave it unchanged while the source is in use. ``sample_rate``,
    in Hz, goes with an array and only with an array. ``max_duration_s``: longest sound, in seconds; a file that says
    of itself that it is longer is refused before it is decoded. ``cancel``: setting it ends this call, and every pass
    over a file, with :class:`Cancelled`.

    Raises :class:`AudioError` if there is no such file, no sound in it, no sample, too many of them, or samples that
    are not finite or far out of range.
    """
    if isinstance(source, np.ndarray):
        return _ArraySource(source, sample_rate, max_duration_s, cancel)
    if not isinstance(source, str | os.PathLike):
        raise AudioError(f"the sound cannot be a {type(source).__name__}; expected a path, or an array with its rate")
    if sample_rate is not None:
        raise AudioError(f"sample_rate is {sample_rate!r}, but a file brings its own; leave it out")
    return _FileSource(Path(source), max_duration_s, cancel)


def mono_16k(source: AudioSource) -> Iterator[Samples]:
    """The sound as the audio encoder takes it: (n,) float32 blocks of mono at 16 kHz, none of them empty."""
    resampler = Resampler(source.sample_rate)
    for block in source.blocks():
        resampled = resampler.push(block)
        if len(resampled):
            yield resampled
    rest = resampler.flush()
    if len(rest):
        yield rest


class Resampler:
    """Streaming conversion to mono at another rate.

    n samples in give exactly ``round_half_up(n · target_rate / sample_rate)`` samples out, without time shift. The
    output is bit-identical however the input is chunked. Silence is assumed after the end.
    """

    def __init__(self, sample_rate: int, target_rate: int = AUDIO_SAMPLE_RATE) -> None:
        """Both rates in Hz. Raises :class:`AudioError` outside ``SAMPLE_RATES``."""
        self.sample_rate = checked_rate(sample_rate)
        self.target_rate = checked_rate(target_rate)
        self._swr = RateFilter(self.sample_rate, self.target_rate)
        self._rest = np.zeros(0, np.float32)
        self._received = 0
        self._returned = 0
        self._flushed = False

    def push(self, block: NDArray[Any]) -> Samples:
        """Take (n,) or (n, channels) samples; channels are averaged. Returns (m,) float32, m ≥ 0.

        Raises :class:`AudioError` for samples that cannot be used, :class:`ClosedError` after :meth:`flush`.
        """
        if self._flushed:
            raise ClosedError("the resampler was flushed; make a new one for the next sound")
        mono = mono_block(block)
        self._received += len(mono)
        if self.sample_rate == self.target_rate:
            return mono
        joined = np.concatenate([self._rest, mono])
        whole = len(joined) - len(joined) % RESAMPLER_BLOCK
        self._rest = joined[whole:].copy()
        return self._returning(self._resample(joined[:whole]))

    def flush(self) -> Samples:
        """The last (m,) float32 samples, m ≥ 0. A second flush returns none."""
        if self._flushed or self.sample_rate == self.target_rate:
            self._flushed = True
            return np.zeros(0, np.float32)
        self._flushed = True
        wanted = self._expected() - self._returned
        padding = np.zeros(RESAMPLER_BLOCK - len(self._rest), np.float32)
        tail = self._resample(np.concatenate([self._rest, padding]))
        while len(tail) < wanted:
            # Zeros push the last samples through the filter. swresample's own flush mirrors the end instead, and gives
            # nothing at all for a sound that is shorter than the filter.
            tail = np.concatenate([tail, self._resample(np.zeros(RESAMPLER_BLOCK, np.float32))])
        return self._returning(tail[:wanted])

    def _expected(self) -> int:
        return (2 * self._received * self.target_rate + self.sample_rate) // (2 * self.sample_rate)

    def _returning(self, samples: Samples) -> Samples:
        self._returned += len(samples)
        return samples

    def _resample(self, mono: Samples) -> Samples:
        pieces = [np.zeros(0, np.float32)]
        for start in range(0, len(mono), RESAMPLER_BLOCK):
            pieces += self._swr(mono[start : start + RESAMPLER_BLOCK])
        return np.concatenate(pieces)


class _ArraySource(AudioSource):
    """Samples that the caller holds in memory."""

    def __init__(
        self, array: NDArray[Any], sample_rate: int | None, max_duration_s: float, cancel: threading.Event | None
    ) -> None:
        if sample_rate is None:
            raise AudioError("an array says nothing about its rate; pass sample_rate, in Hz")
        self.sample_rate = checked_rate(sample_rate)
        self._array = as_columns(array)
        self.samples, self.channels = self._array.shape
        if self.samples == 0:
            raise AudioError(f"the audio array is empty, shape {array.shape}; expected at least one sample")
        check_duration("the audio array", self.duration_s, max_duration_s)
        for block in self.blocks():
            if cancel is not None and cancel.is_set():
                raise Cancelled("checking the audio array was cancelled")
            check_level(block, "the audio array")

    def blocks(self) -> Iterator[Samples]:
        for start in range(0, self.samples, ARRAY_BLOCK):
            yield as_float(self._array[start : start + ARRAY_BLOCK])


class _FileSource(AudioSource):
    """The best sound track of a file."""

    def __init__(self, path: Path, max_duration_s: float, cancel: threading.Event | None) -> None:
        self.path: Path = path
        self._max_duration_s, self._cancel = max_duration_s, cancel
        with _open_track(path, cancel) as (media, stream):
            check_duration(str(path), _declared_s(media, stream), max_duration_s)
            self._count(media, stream)

    def _count(self, media: OpenMedia, stream: AudioStream) -> None:
        """One pass over the decoded sound: rate, channels, exact length, level."""
        decoded = last = shown = 0
        for frame, duration_s in _decode(self.path, media, stream):
            if decoded == 0:
                self.sample_rate, self.channels = checked_rate(frame.sample_rate), frame.layout.nb_channels
            block = self._block(frame)
            check_level(block, str(self.path))
            decoded, last = decoded + len(block), len(block)
            check_duration(str(self.path), decoded / self.sample_rate, self._max_duration_s)
            shown = round(duration_s * self.sample_rate)
        if decoded == 0:
            raise AudioError(f"{self.path} has a sound track without a single sample; record or export it again")
        self.samples = decoded - _padding(media, stream, self.sample_rate, decoded, last, shown)

    def blocks(self) -> Iterator[Samples]:
        left = self.samples
        with _open_track(self.path, self._cancel) as (media, stream):
            for frame, _ in _decode(self.path, media, stream):
                block = self._block(frame)[:left]
                left -= len(block)
                yield block
                if left == 0:
                    return
        raise AudioError(f"{self.path} ends {left} samples early; was the file changed while it was in use?")

    def _block(self, frame: AudioFrame) -> Samples:
        actual, expected = (frame.sample_rate, frame.layout.nb_channels), (self.sample_rate, self.channels)
        if actual != expected:
            raise AudioError(
                f"{self.path} changes from {expected} to {actual} (Hz, channels) part-way; convert it to WAV first"
            )
        return frame.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)


@contextmanager
def _open_track(path: Path, cancel: threading.Event | None) -> Iterator[tuple[OpenMedia, AudioStream]]:
    """Open the file and pick its best sound track; libav's errors become :class:`AudioError`."""
    from av.audio.stream import AudioStream

    with open_media(path, SOUND, cancel) as media:
        stream = media.best("audio")
        if not isinstance(stream, AudioStream):
            raise AudioError(f"{path} has no sound track that can be decoded; expected speech or song")
        _drop_channel_map(stream)
        yield media, stream


def _declared_s(media: OpenMedia, stream: AudioStream) -> float:
    """For how many seconds the file says that it sounds; 0 where it does not say."""
    container = media.container
    if container.format.name in UNDECLARED:
        return 0.0
    declared_s = (container.duration or 0) / 1e6
    if stream.codec_context.codec.canonical_name in PCM and stream.codec_context.bit_rate:
        # A WAV that was written into a pipe says 2³¹ or 2³² bytes, whatever there is.
        return min(declared_s, 8 * media.size / stream.codec_context.bit_rate)
    return declared_s


def check_duration(name: str, duration_s: float, max_duration_s: float) -> None:
    """Raise :class:`AudioError` for a sound that is longer than it may be."""
    if duration_s > max_duration_s:
        raise AudioError(
            f"{name} is longer than {max_duration_s:g} s (it has {duration_s:.1f} s or more); cut it, or raise the "
            "limit: max_audio_s of AnimateOptions, --max-audio of emo-rt"
        )


def _drop_channel_map(stream: AudioStream) -> None:
    """Keep only the number of channels of a layout that is a list of speakers.

    PyAV before 19.0.2 frees such a list once per object that refers to it (PyAV issue 2444), so decoding one frame of
    an oddly labelled file would end the process. Read once and replaced, it is freed once.
    """
    layout = stream.codec_context.layout
    if "(" in layout.name:
        stream.codec_context.layout = f"{layout.nb_channels} channels"


def _decode(path: Path, media: OpenMedia, stream: AudioStream) -> Iterator[tuple[AudioFrame, Fraction]]:
    """Frames of packed float32, and for how many seconds each is shown. libav drops the declared priming samples."""
    from av.audio.resampler import AudioResampler
    from av.error import InvalidDataError

    to_float = AudioResampler(format="flt")
    packets = damaged = 0
    for packet in media.packets(stream):
        packets += 1
        try:
            frames = packet.decode()
        except InvalidDataError:
            # Tags and cut-off ends look like bad packets in files that every player plays.
            damaged += 1
            continue
        for frame in frames:
            if not 1 <= frame.layout.nb_channels <= MAX_CHANNELS:
                raise AudioError(f"{path} has {frame.layout.nb_channels} channels; expected at most {MAX_CHANNELS}")
            try:
                converted = to_float.resample(frame)
            except ValueError as exc:
                raise AudioError(f"{path} changes its rate or channels part-way; convert it to WAV first") from exc
            duration_s = (frame.duration or 0) * (frame.time_base or Fraction(0))
            yield from ((output, duration_s) for output in converted)
    if damaged > 2 + packets // 100:
        raise AudioError(f"{path} is damaged: {damaged} of {packets} packets cannot be decoded; export it again")


def _padding(media: OpenMedia, stream: AudioStream, sample_rate: int, decoded: int, last: int, shown: int) -> int:
    """Samples of silence with which the codec filled its last frame, where the container tells; libav leaves them in.

    ``decoded``: samples in all; ``last``: of them in the last frame; ``shown``: how many of those the last packet's
    duration covers. MP4 tells in that duration, or else in its edit list; Ogg in the position of its last page.
    """
    formats = media.container.format.name.split(",")
    if "mov" in formats and 0 < shown < last:
        return last - shown
    if not {"mov", "ogg"} & set(formats) or not stream.duration or stream.time_base is None:
        return 0
    excess = decoded - round(Fraction(stream.duration) * stream.time_base * sample_rate)
    # An end outside the last frame is not about padding: a fragmented file declares only its beginning, for example.
    return excess if 0 < excess < last else 0
