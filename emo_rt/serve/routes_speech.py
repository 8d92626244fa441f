"""``/v1/audio``: the machine speaks a text, in the dialect of ``client.audio.speech``."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from emo_rt.serve.openapi import ERRORS
from emo_rt.serve.openapi_answers import VOICES, answer
from emo_rt.serve.routes_videos import owner_of, service_of
from emo_rt.serve.speech import LONGEST_TEXT, PROGRAM, speak, voices

router = APIRouter(prefix="/v1/audio", tags=["speech"])


class Speech(BaseModel):
    """What shall be said, and how."""

    model_config = ConfigDict(extra="forbid")

    input: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    voice: Annotated[str, Field(max_length=40)] = "en-gb"
    model: Annotated[str, Field(max_length=256, description="Ignored: there is one")] = PROGRAM
    response_format: Literal["wav"] = "wav"
    speed: Annotated[float, Field(ge=0.5, le=2)] = 1.0


@router.get("/voices", summary="Voices that can speak a text", responses={**ERRORS, **answer(VOICES)})
def list_voices() -> dict[str, Any]:
    """None where espeak-ng is not installed."""
    return {"object": "list", "data": [{"id": one.id, "object": "voice", "name": one.name} for one in voices()]}


@router.post("/speech", summary="Speak a text", response_class=Response,
             responses={**ERRORS, 200: {"content": {"audio/wav": {}}}})  # fmt: skip
async def create(request: Request, asked: Speech) -> Response:
    """A WAV file."""
    service = service_of(request)
    service.require_working()
    service.quotas.note_request(owner_of(request))
    spoken = await service.in_thread(partial(speak, asked.input, asked.voice, asked.speed))
    return Response(spoken, media_type="audio/wav")
