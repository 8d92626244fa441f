"""What OpenAPI says of bodies that are read by hand, and of errors."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
"""A JSON schema."""
Responses = dict[int | str, dict[str, Any]]
"""For ``responses`` of a route."""
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "code": {"type": "string"},
            },
        }
    },
}
WHY = {
    400: "A field is wrong, or the model cannot do it",
    401: "The key is missing or wrong",
    404: "There is no such thing, or it is not ready",
    409: "It was deleted meanwhile, or its model is not loaded",
    413: "Too large",
    422: "The video could not be made",
    429: "Too much at a time",
    503: "No room, or the server ends",
}
ERRORS: Responses = {
    status: {"description": why, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, why in WHY.items()
}
"""Of every route."""

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
FILE: Schema = {"type": "string", "format": "binary"}


def described(schema: Schema, words: str) -> Schema:
    """The same, in words."""
    return {**schema, "description": words}


def as_number(kind: str, pattern: str) -> Schema:
    """A number, which forms write as a text."""
    return {"anyOf": [{"type": kind, "minimum": 0}, {"type": "string", "pattern": pattern}]}


WHOLE, NUMBER = as_number("integer", "^[0-9]{1,9}$"), as_number("number", r"^[0-9]{1,9}(\.[0-9]{1,9})?$")


def reference(key: str) -> Schema:
    """An object with a ``data:`` URL."""
    url = {"type": "string", "pattern": "^data:[^,]{0,256},"}
    return {"type": "object", "required": [key], "properties": {key: url}, "additionalProperties": False}


def body(fields: dict[str, Schema], files: dict[str, Schema], needed: list[tuple[str, ...]]) -> dict[str, Any]:
    """A body that is a form with files, or JSON with references alone. ``needed``: of each of these, one field."""
    content = {
        "multipart/form-data": {"schema": _object({**fields, **files}, needed)},
        "application/json": {"schema": _object(fields, needed)},
    }
    return {"requestBody": {"required": True, "content": content}}


def _object(properties: dict[str, Schema], needed: list[tuple[str, ...]]) -> Schema:
    one_of = [{"oneOf": [{"required": [name]} for name in names if name in properties]} for names in needed]
    return {"type": "object", "properties": properties, "additionalProperties": False, "allOf": one_of}


OPTIONS = {
    "type": "object",
    "description": "Options of emo_rt by the names of the command line: mode, solver, speed, face_box, max_side, crf …",
}
MODEL = described(TEXT, "Name of a loaded model")
AVATAR_ID = described(TEXT, "id of an avatar, in place of a picture")
PICTURES = ("input_reference", "image_reference")
VIDEO_BODY = body(
    {
        "model": MODEL,
        "prompt": {"type": "string", "maxLength": 32_768, "description": "Only given back"},
        "image_reference": reference("image_url"),
        "audio_reference": reference("audio_url"),
        "avatar": AVATAR_ID,
        "seconds": described(NUMBER, "Where the sound is cut off; more than 0"),
        "size": {
            "type": "string",
            "pattern": "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$",
            "description": "WIDTHxHEIGHT: the model's own square, or the picture's proportions",
        },
        "num_inference_steps": WHOLE,
        "guidance_scale": NUMBER,
        "seed": WHOLE,
        "fps": described(WHOLE, "The model's own"),
        "user": TEXT,
        "extra_params": OPTIONS,
    },
    {"input_reference": described(FILE, "The portrait"), "audio": described(FILE, "The voice")},
    [(*PICTURES, "avatar"), ("audio", "audio_reference")],
)
"""Of ``POST /v1/videos``."""
AVATAR_BODY = body(
    {"model": MODEL, "name": TEXT, "image_reference": reference("image_url"), "options": OPTIONS},
    {"input_reference": described(FILE, "The portrait")},
    [PICTURES],
)
"""Of ``POST /v1/avatars``."""
FACES_BODY = body({"image_reference": reference("image_url")}, {"input_reference": FILE}, [PICTURES])
"""Of ``POST /v1/faces``."""
START_FIELDS: dict[str, Schema] = {
    "model": MODEL,
    "avatar": AVATAR_ID,
    "sample_rate": {
        "type": "integer",
        "minimum": 4_000,
        "maximum": 384_000,
        "multipleOf": 50,
        "description": "Of sound on the data channel, in Hz",
    },
    "lag": {"type": "string", "enum": ["slow", "drop"]},
    "idle": {"type": "string", "enum": ["model", "loop"]},
    "jitter_s": {"type": "number", "minimum": 0, "maximum": 2},
    "num_inference_steps": {"type": "integer", "minimum": 1},
    "guidance_scale": {"type": "number", "minimum": 0},
    "seed": {"type": "integer", "minimum": 0},
    "request_id": described(TEXT, "Ignored"),
}
JSON_TEXT: Schema = {"type": "string", "contentMediaType": "application/json"}
SDP: Schema = {"type": "string", "minLength": 1, "description": "The offer with all candidates, 64 KiB at most"}
CALL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["sdp"],
                    "additionalProperties": False,
                    "properties": {
                        "sdp": SDP,
                        "image_reference": reference("image_url"),
                        "extra_params": OPTIONS,
                        **START_FIELDS,
                    },
                }
            },
            "application/sdp": {"schema": SDP},
        },
    },
    "parameters": [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in {**START_FIELDS, "extra_params": described(JSON_TEXT, OPTIONS["description"])}.items()
    ],
}
"""Of ``POST /v1/realtime/webrtc``."""
