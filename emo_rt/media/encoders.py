"""Encoders of H.264: which of them work on this machine, and their names for our settings."""

from __future__ import annotations

import functools
from fractions import Fraction

from emo_rt.errors import OutputError

PRESETS = {
    "libx264": {"fast": "veryfast", "balanced": "medium", "best": "slow"},
    "h264_nvenc": {"fast": "p2", "balanced": "p4", "best": "p7"},
}
"""Our preset → the encoder's own."""


@functools.cache
def open_encoder_works(name: str, width: int = 256, height: int = 256) -> bool:
    """Whether the H.264 encoder ``name`` really encodes pictures of this size (in pixels) here. Asked once per process.

    That libav knows an encoder says nothing: NVENC is compiled in everywhere, but needs a GPU that has the unit (an
    H100 has none), a driver, a free session, and pictures that are not too small.
    """
    import av
    from av.error import FFmpegError
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    # Captured, so that an application that routes libav's log to its own does not see a probe as an error.
    with av.logging.Capture():
        try:
            context = av.CodecContext.create(name, "w")
            if not isinstance(context, VideoCodecContext):
                return False
            context.width, context.height, context.pix_fmt = width, height, "yuv420p"
            context.time_base = Fraction(1, 25)
            packets = [packet for _ in range(2) for packet in context.encode(VideoFrame(width, height, "yuv420p"))]
            return len(packets + context.encode(None)) == 2
        except (FFmpegError, OSError, ValueError):
            return False


def choose_encoder(codec: str, width: int, height: int) -> str:
    """The encoder for ``codec``: itself, or for ``auto`` NVENC where it works and libx264 elsewhere.

    Raises :class:`OutputError` if it does not work here. A codec that was asked for by name is never replaced.
    """
    candidates = ("h264_nvenc", "libx264") if codec == "auto" else (codec,)
    for name in candidates:
        if open_encoder_works(name, width, height):
            return name
    advice = "pass codec='auto' to use what works" if codec != "auto" else "install a PyAV wheel with libx264"
    raise OutputError(f"the encoder {' or '.join(candidates)} does not work here at {width}×{height}; {advice}")
