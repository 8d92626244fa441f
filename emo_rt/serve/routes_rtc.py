"""``/v1/realtime/webrtc``: an offer becomes an answer, as in WHEP (draft-ietf-wish-whep)."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from fastapi import APIRouter, Request, Response

from emo_rt.serve.errors import ApiError
from emo_rt.serve.openapi import CALL_BODY, ERRORS
from emo_rt.serve.openapi_answers import answer, deleted
from emo_rt.serve.routes_videos import owner_of, service_of
from emo_rt.serve.rtc_offer import SDP_TYPE, read_call

router = APIRouter(prefix="/v1/realtime/webrtc", tags=["live"])
CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The answer",
        "content": {SDP_TYPE: {"schema": {"type": "string"}}},
        "headers": {"Location": {"description": "DELETE ends the session", "schema": {"type": "string"}}},
    }
}


@router.post("", summary="Begin a live session over WebRTC", status_code=201, response_class=Response,
             openapi_extra=CALL_BODY, responses={**ERRORS, **CREATED})  # fmt: skip
async def create(request: Request) -> Response:
    """``session.start``'s fields as JSON with the offer as ``sdp``, or the offer alone and the fields in the query."""
    service, owner = service_of(request), owner_of(request)
    service.require_working()
    call = await read_call(request)
    rtc = await service.in_thread(_rtc)
    calls: dict[str, Any] = request.app.state.calls
    connection = rtc.RtcConnection(service, owner, calls)
    answer = await connection.open(call.start, call.sdp)
    place = f"{router.prefix}/{connection.id}"
    return Response(answer, 201, {"Location": place}, SDP_TYPE)


@router.delete("/{call_id}", summary="End a live session", responses={**ERRORS, **answer(deleted("call"))})
async def delete(request: Request, call_id: str) -> dict[str, Any]:
    """Its place is free a moment later."""
    connection = request.app.state.calls.get(call_id)
    if connection is None or connection.owner != owner_of(request):
        raise ApiError(404, "call_not_found", f"there is no session {call_id[:80]}")
    connection.stop()
    return {"id": call_id, "object": "call.deleted", "deleted": True}


def _rtc() -> Any:
    """The module that needs aiortc. Raises :class:`ApiError` 503 where that is not installed."""
    if find_spec("aiortc") is None:
        raise ApiError(503, "webrtc_unavailable", "this server has no WebRTC; pip install 'emo_rt[webrtc]'")
    return importlib.import_module("emo_rt.serve.rtc")
