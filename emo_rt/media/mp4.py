"""One MP4 being written: H.264 and AAC encoders and the muxer. Only :mod:`emo_rt.media.video_file` uses it.

The video drives the clock: after frame k, the sound is encoded up to the end of frame k and no further. So the two are
interleaved as they come, nothing piles up, and the sound can never be longer than the picture. Sound that is pushed may
come later than its picture; libav then holds the pictures back, at most ten seconds of them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.samples import Samples
from emo_rt.media.soundtrack import Soundtrack

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

AAC_SAMPLE_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""What AAC can carry (ISO/IEC 14496-3, table 1.18), in Hz."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Channel count → libav layout. Channels keep their order."""
CHROMA_FILTER = 0x20 | 0x4000 | 0x40000
"""swscale's AREA, FULL_CHR_H_INP and ACCURATE_RND, which PyAV does not name before 18: RGB → YUV 4:2:0 that averages
the four pixels of a chroma sample. Off by at most rounding (0.44 of 255, measured)."""
FRAGMENT_SECONDS = 1
"""A fragment starts at every keyframe, and a keyframe comes this often: how far a viewer lags behind the writer."""

ROUNDING_US = 100
"""A fragment ends before the packet that would make it so long, less this: ticks of the tracks are rounded."""


class Mux:
    """Encoders and container of one file. Owns them; :meth:`finish` or :meth:`abort` ends it."""

    def __init__(
        self,
        destination: Any,
        container_format: str,
        *,
        fragmented: bool,
        fragment_s: float | None = None,
        metadata: dict[str, str],
        timescale: int,
    ) -> None:
        """``fragment_s``: length of a fragment; ``None`` = each starts at a keyframe. ``timescale``: ticks per second
        of the edit lists, so that they can say lengths exactly.
        """
        import av

        # Libav's default is milliseconds, which would round off the end of the sound. ``delay_moov`` makes room for
        # the edit list that hides AAC's 1024 priming samples; without it, a fragmented file starts 23 ms late.
        flags = "empty_moov+default_base_moof+delay_moov" if fragmented else "faststart"
        options = {"movflags": flags, "movie_timescale": str(timescale)}
        if fragmented:
            options["flush_packets"] = "1"  # a whole fragment goes out, not what fills a buffer
            if fragment_s is None:
                options["movflags"] += "+frag_keyframe"
            else:
                options["frag_duration"] = str(round(fragment_s * 1e6) - ROUNDING_US)
        self._container: OutputContainer = av.open(
            destination, mode="w", format=container_format, container_options=options
        )
        self._container.metadata.update(metadata)
        self._audio: _AudioTrack | None = None

    def add_video(self, encoder: str, width: int, height: int, fps: int, options: dict[str, str]) -> None:
        """Add the picture: even ``width`` and ``height`` in pixels."""
        self._video = _VideoTrack(self._container, encoder, (width, height), fps, options)
        self._fps = fps

    def add_audio(self, sound: Soundtrack, bitrate: int | None) -> None:
        """Add the sound; ``bitrate`` in bit/s, ``None`` = 80 kbit/s per channel. Closed with this."""
        self._audio = _AudioTrack(self._container, sound, bitrate)

    def write(self, picture: NDArray[np.uint8], index: int) -> None:
        """Encode picture ``index``, (H, W, 3) uint8 RGB, and the sound up to its end."""
        self._container.mux(self._video.encode(picture, index))
        self.write_sound(index + 1)

    def write_sound(self, frames: int) -> None:
        """Encode the sound that is there, up to the end of the first ``frames`` pictures."""
        if self._audio is not None:
            self._container.mux(self._audio.encode_until(Fraction(frames, self._fps)))

    def finish(self) -> None:
        """Drain the encoders and write the end of the file."""
        self._container.mux(self._video.drain())
        if self._audio is not None:
            self._container.mux(self._audio.drain())
        self._container.close()

    def abort(self) -> None:
        """Release everything; what was written is worthless. Never raises."""
        try:
            if self._audio is not None:
                self._audio.close()
            self._container.close()
        except Exception:  # noqa: BLE001  the caller already has the first error; this is its echo
            pass


class _VideoTrack:
    """H.264, 4:2:0, BT.709 limited range, constant frame rate."""

    def __init__(
        self, container: OutputContainer, encoder: str, size: tuple[int, int], fps: int, options: dict[str, str]
    ) -> None:
        import av
        from av.video.reformatter import VideoReformatter
        from av.video.stream import VideoStream

        stream = container.add_stream(encoder, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream, name, 1)  # limited range; BT.709, three times; PyAV has no names for all before 18
        self._stream = stream
        self._time_base = Fraction(1, fps)
        self._reformatter = VideoReformatter()
        # PyAV before 17 has no such setting, and uses one thread.
        self._threads: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}

    def encode(self, picture: NDArray[np.uint8], index: int) -> list[Packet[VideoStream]]:
        from av.video.frame import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace

        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=CHROMA_FILTER,
            **self._threads,
        )
        frame.pts, frame.time_base = index, self._time_base
        return self._stream.encode(frame)

    def drain(self) -> list[Packet[VideoStream]]:
        return self._stream.encode(None)


class _AudioTrack:
    """AAC at the sound's own rate and channels, or 48 kHz and stereo where AAC has no such thing."""

    def __init__(self, container: OutputContainer, sound: Soundtrack, bitrate: int | None) -> None:
        from av.audio.stream import AudioStream

        rate = sound.sample_rate if sound.sample_rate in AAC_SAMPLE_RATES else 48_000
        self._mix_down = sound.channels not in AAC_LAYOUTS
        channels = 2 if self._mix_down else sound.channels
        self._layout = AAC_LAYOUTS[channels]
        stream = container.add_stream("aac", rate=rate)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = self._layout
        # AAC allows 6144 bits per frame of 1024 samples and channel.
        stream.codec_context.bit_rate = min(bitrate or 80_000 * channels, 6 * rate * channels)
        self._stream = stream
        self._sound, self._rate = sound, sound.sample_rate
        self._sent = 0

    def encode_until(self, time_s: Fraction) -> list[Packet[AudioStream]]:
        """Encode the sound up to ``time_s``, or as much of it as there is."""
        packets: list[Packet[AudioStream]] = []
        target = round(time_s * self._rate)
        while self._sent < target:
            piece = self._sound.read(target - self._sent)
            if not len(piece):
                break
            packets += self._stream.encode(self._frame(piece))
            self._sent += len(piece)
        return packets

    def drain(self) -> list[Packet[AudioStream]]:
        packets = self._stream.encode(None) if self._sent else []
        self.close()
        return packets

    def close(self) -> None:
        self._sound.close()

    def _frame(self, piece: Samples) -> AudioFrame:
        from av.audio.frame import AudioFrame

        if self._mix_down:
            piece = np.repeat(piece.mean(axis=1, keepdims=True, dtype=np.float32), 2, axis=1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(piece).reshape(1, -1), "flt", self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._sent, Fraction(1, self._rate)
        return frame
