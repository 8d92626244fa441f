"""What is said in a live session, whatever carries it: messages of the client, and what they are answered."""

from __future__ import annotations

from typing import Any

import numpy as np

from emo_rt.errors import QueueFull
from emo_rt.runtime.live.session import LiveSession
from emo_rt.serve.errors import ApiError

CONTROL_BYTES, SOUND_BYTES = 128 << 10, 1 << 20
"""Largest messages behind the first."""
STOP = "session.stop"
"""Type of the message that ends a session."""
STALL_S = 60.0
"""Seconds for any message to go out, and any frame to come."""


def error_message(code: str, message: str) -> dict[str, Any]:
    """What a client is told when something is wrong."""
    return {"type": "error", "code": code, "message": message}


def restarting_message() -> dict[str, Any]:
    """What a client is told when the server ends."""
    return error_message("server_restarting", "the server ends now; connect again in a moment")


def stalled() -> ApiError:
    """What ends a session of which no frame came for :data:`STALL_S`."""
    return ApiError(503, "stalled", f"no frame came for {STALL_S:g} s")


def push_sound(session: LiveSession, data: bytes) -> dict[str, Any] | None:
    """PCM s16le mono of any length. Gives the answer, if there is one. Raises :class:`ApiError`."""
    if len(data) > SOUND_BYTES:
        raise ApiError(413, "message_too_large", f"the sound is too large; {SOUND_BYTES:,} bytes are allowed")
    if len(data) % 2:
        raise ApiError(400, "invalid_audio", "the sound has an odd number of bytes; expected PCM s16le mono")
    try:
        session.push(np.frombuffer(data, "<i2"))
    except QueueFull as exc:
        return error_message("input_audio_full", str(exc))
    return None


def obey(session: LiveSession, message: dict[str, Any]) -> dict[str, Any] | None:
    """One message that is not :data:`STOP`. Gives the answer, if there is one."""
    kind = message["type"]
    if kind == "session.ping":
        return {"type": "session.pong"}
    if kind == "input_audio.end":
        session.flush()
        return None
    if kind == "session.stats":
        return {"type": "session.stats", **stats_of(session)}
    if kind == "input_audio.clear":
        return {"type": "input_audio.cleared", "played_s": session.clear()}
    return error_message("unknown_type", f"unknown message {kind[:80]!r}")


def config_of(session: LiveSession) -> dict[str, Any]:
    """What a client must know of the pictures and the sound."""
    width, height = session.size
    return {"width": width, "height": height, "fps": session.fps, "sample_rate": session.settings.sample_rate}


def stats_of(session: LiveSession) -> dict[str, Any]:
    """How it does now, as plain values."""
    stats = session.stats
    latency = {part: {"p50": round(p.p50, 4), "p90": round(p.p90, 4)} for part, p in stats.latency.items()}
    return {
        "rung": stats.rung,
        "late_frames": stats.late_frames,
        "repeated_frames": stats.repeated_frames,
        "dropped_s": round(stats.dropped_s, 3),
        "queued_s": round(stats.queued_s, 3),
        "is_too_slow": stats.is_too_slow,
        "latency": latency,
    }
