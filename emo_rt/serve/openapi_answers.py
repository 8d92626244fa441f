"""What OpenAPI says of answers that are made by hand."""

from __future__ import annotations

from emo_rt.serve.openapi import Responses, Schema
from emo_rt.serve.records import COMPLETED, FAILED, IN_PROGRESS, QUEUED

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}


def or_null(schema: Schema) -> Schema:
    """The same, or nothing."""
    return {"anyOf": [schema, {"type": "null"}]}


def exactly(**properties: Schema) -> Schema:
    """An object with all of these, and nothing else."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def listed(schema: Schema, **more: Schema) -> Schema:
    """A list of them."""
    return exactly(object={"const": "list"}, data={"type": "array", "items": schema}, **more)


def answer(schema: Schema, status: int = 200, description: str = "As asked") -> Responses:
    """For ``responses`` of a route: JSON of this form."""
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


VIDEO = exactly(
    id=TEXT,
    object={"const": "video"},
    model=TEXT,
    status={"enum": [QUEUED, IN_PROGRESS, COMPLETED, FAILED]},
    progress={"type": "integer", "minimum": 0, "maximum": 100},
    created_at=WHOLE,
    completed_at=or_null(WHOLE),
    expires_at=or_null(WHOLE),
    prompt=or_null(TEXT),
    size=or_null({"type": "string", "pattern": "^[0-9]+x[0-9]+$"}),
    seconds={"type": "string", "pattern": "^[0-9.]+$"},
    remixed_from_video_id={"type": "null"},
    error=or_null(exactly(code=TEXT, message=TEXT)),
    avatar=or_null(TEXT),
    inference_time_s=or_null(NUMBER),
    stage_durations=or_null({"type": "object", "additionalProperties": NUMBER}),
    peak_memory_mb=or_null(NUMBER),
)
VIDEOS = listed(VIDEO, first_id=or_null(TEXT), last_id=or_null(TEXT), has_more={"type": "boolean"})
BOX: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
AVATAR = exactly(
    id=TEXT,
    object={"const": "avatar"},
    model=TEXT,
    created_at=WHOLE,
    name=or_null(TEXT),
    width=WHOLE,
    height=WHOLE,
    face_box=or_null(BOX),
    warning=or_null(TEXT),
)
AVATARS = listed(AVATAR, has_more={"const": False})
FACES = exactly(
    object={"const": "faces"},
    width=WHOLE,
    height=WHOLE,
    faces={
        "type": "array",
        "items": exactly(box=BOX, score=NUMBER, remarks={"type": "array", "items": TEXT}),
    },
    warnings={"type": "object", "additionalProperties": TEXT},
)
VOICES = listed(exactly(id=TEXT, object={"const": "voice"}, name=TEXT))
MODELS = listed(
    exactly(
        id=TEXT,
        object={"const": "model"},
        created=WHOLE,
        owned_by=TEXT,
        size=WHOLE,
        fps=WHOLE,
        frames_per_clip=WHOLE,
        presets={"type": "array", "items": TEXT},
        preset=or_null(TEXT),
        heeds={"type": "array", "items": TEXT},
        head_room=or_null(NUMBER),
        trained_on=or_null(TEXT),
        device=TEXT,
        backend=TEXT,
    )
)
HEALTH = exactly(status={"enum": ["ok", "failed"]}, reason=or_null(TEXT))
READY = exactly(status={"enum": ["ready", "warming", "draining"]})


def deleted(kind: str) -> Schema:
    """What ``DELETE`` answers."""
    return exactly(id=TEXT, object={"const": f"{kind}.deleted"}, deleted={"const": True})
