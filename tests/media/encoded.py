"""Short sounds and videos of every container and codec that is accepted, made by FFmpeg's encoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SOUNDS = [
    *[("wav", "a.wav", codec) for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le")],
    *[("wav", "a.wav", codec) for codec in ("pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav")],
    *[("aiff", "a.aiff", codec) for codec in ("pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64be")],
    ("aiff", "a.aiff", "pcm_s8"),
    ("w64", "a.w64", "pcm_s16le"),
    ("au", "a.au", "pcm_s16be"),
    ("caf", "a.caf", "pcm_s16be"),
    ("flac", "a.flac", "flac"),
    ("mp3", "a.mp3", "libmp3lame"),
    ("adts", "a.aac", "aac"),
    ("amr", "a.amr", "libopencore_amrnb"),
    ("ogg", "a.opus", "libopus"),
    ("ogg", "a.ogg", "vorbis"),
    ("ogg", "a.oga", "flac"),
    ("asf", "a.wma", "wmav1"),
    ("asf", "a.wma", "wmav2"),
    *[("mp4", "a.m4a", codec) for codec in ("aac", "alac", "ac3", "eac3", "libmp3lame", "libopus", "flac")],
    ("mov", "a.mov", "pcm_s16le"),
    ("3gp", "a.3gp", "libopencore_amrnb"),
    *[("matroska", "a.mka", codec) for codec in ("aac", "ac3", "eac3", "flac", "libopus", "vorbis", "pcm_s16le")],
    ("webm", "a.webm", "libopus"),
    *[("avi", "a.avi", codec) for codec in ("pcm_s16le", "libmp3lame", "mp2")],
    *[("mpegts", "a.ts", codec) for codec in ("mp2", "aac", "ac3")],
]
"""Muxer, name, encoder."""
VIDEOS = [
    ("mp4", "a.mp4", "libx264"),
    ("mp4", "a.mp4", "libx265"),
    ("mp4", "a.mp4", "libsvtav1"),
    ("mov", "a.mov", "prores_ks"),
    ("matroska", "a.mkv", "libx264"),
    ("webm", "a.webm", "libvpx"),
    ("webm", "a.webm", "libvpx-vp9"),
    ("avi", "a.avi", "mpeg4"),
    ("avi", "a.avi", "mjpeg"),
    ("mpegts", "a.ts", "libx264"),
]
VIDEO_FRAMES = 12
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}


def encode_sound(path: Path, muxer: str, encoder: str) -> int:
    """Half a second of a 440 Hz tone. Returns its samples."""
    rate = 8_000 if "amr" in encoder else 48_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)).astype(np.float32)
    with av.open(str(path), "w", format=muxer) as container:
        experimental = {"strict": "experimental"}
        layout = "stereo" if encoder == "vorbis" else "mono"
        stream = container.add_stream(encoder, rate=rate, layout=layout, options=experimental)
        if encoder in ("wmav1", "wmav2"):
            stream.bit_rate = 64_000  # they refuse FFmpeg's default
        packed = np.repeat(tone, 2 if layout == "stereo" else 1)[None]
        frame = av.AudioFrame.from_ndarray(packed, "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return len(tone)


def encode_video(path: Path, muxer: str, encoder: str) -> None:
    """Some pictures of noise."""
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(encoder, rate=25, options=QUIET.get(encoder, {}))
        stream.width = stream.height = 64
        stream.pix_fmt = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(encoder, "yuv420p")
        for picture in np.random.default_rng(0).integers(0, 256, (VIDEO_FRAMES, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
