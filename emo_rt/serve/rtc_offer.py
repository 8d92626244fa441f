"""What comes with an offer of WebRTC: the session's fields, as JSON with the SDP among them, or in the query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread
from starlette.requests import Request

from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import form_from_json, read_body
from emo_rt.serve.live_start import START_BYTES, LiveStart, read_start

SDP_TYPE = "application/sdp"
SDP_BYTES = 64 << 10
"""Longest offer; browsers write 5 to 10 kB."""
SAMPLE_RATE = 48_000
"""Of the session where nothing is said: what Opus has, so that nothing is resampled."""
PACKETS_PER_SECOND = 50
"""Opus packets of 20 ms."""
NOT_HERE = ("format", "fragment_frames", "type")
"""Fields of the WebSocket's first message that say nothing here."""


@dataclass(frozen=True)
class Call:
    """What is asked for."""

    start: LiveStart
    """The session."""
    sdp: str
    """The offer."""


async def read_call(request: Request) -> Call:
    """From a body of :data:`SDP_TYPE` with the fields in the query, or from JSON. Raises :class:`ApiError`."""
    fields: dict[str, Any] = dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == SDP_TYPE:
        fields["sdp"] = (await read_body(request, SDP_BYTES)).decode("utf-8", "replace")
    elif kind == "application/json":
        body = await read_body(request, START_BYTES)
        fields |= (await to_thread.run_sync(form_from_json, body)).fields
    else:
        raise ApiError(400, "invalid_body", f"the body is {kind or 'of no type'}; expected {SDP_TYPE} or JSON")
    sdp = fields.pop("sdp", None)
    if not isinstance(sdp, str) or not sdp:
        raise ApiError(400, "missing_field", "there is no sdp; send the offer", param="sdp")
    if len(sdp) > SDP_BYTES:
        raise ApiError(413, "too_large", f"sdp is too large; {SDP_BYTES:,} characters are allowed", param="sdp")
    for name in NOT_HERE:
        if name in fields:
            raise ApiError(400, "unknown_field", f"{name} is not heeded over WebRTC", param=name)
    return Call(_with_rate(read_start({**fields, "type": "session.start"})), sdp)


def _with_rate(start: LiveStart) -> LiveStart:
    rate = start.settings.get("sample_rate", SAMPLE_RATE)
    if rate % PACKETS_PER_SECOND:
        message = f"sample_rate is {rate}; over WebRTC it must be a multiple of {PACKETS_PER_SECOND}"
        raise ApiError(400, "invalid_value", message, param="sample_rate")
    return replace(start, settings={**start.settings, "sample_rate": rate})
