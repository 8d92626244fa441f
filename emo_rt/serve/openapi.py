"""What OpenAPI says of bodies that are read by hand, and of errors."""

from __future__ import annotations

from typing import Any

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

TEXT, FILE = {"type": "string"}, {"type": "string", "format": "binary"}


def reference(key: str) -> dict[str, Any]:
    """An object with a ``data:`` URL."""
    url = {"type": "string", "pattern": "^data:"}
    return {"type": "object", "required": [key], "properties": {key: url}, "additionalProperties": False}


def body(fields: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """A body that is a form with files, or JSON with references alone."""
    form = {"type": "object", "properties": {**fields, **files}}
    plain = {"type": "object", "properties": fields}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": plain}}
    return {"requestBody": {"required": True, "content": content}}


OPTIONS = {
    "type": "object",
    "description": "Options of emo_rt by the names of the command line: mode, solver, speed, face_box, max_side, crf …",
}
VIDEO_BODY = body(
    {
        "model": {**TEXT, "description": "Name of a loaded model"},
        "prompt": {**TEXT, "description": "Only given back"},
        "image_reference": reference("image_url"),
        "audio_reference": reference("audio_url"),
        "avatar": {**TEXT, "description": "id of an avatar, in place of a picture"},
        "seconds": {**TEXT, "description": "Where the sound is cut off"},
        "size": {**TEXT, "description": "WIDTHxHEIGHT: the model's own square, or the picture's proportions"},
        "num_inference_steps": TEXT,
        "guidance_scale": TEXT,
        "seed": TEXT,
        "fps": {**TEXT, "description": "The model's own"},
        "user": TEXT,
        "extra_params": OPTIONS,
    },
    {"input_reference": {**FILE, "description": "The portrait"}, "audio": {**FILE, "description": "The voice"}},
)
"""Of ``POST /v1/videos``."""
AVATAR_BODY = body(
    {"model": TEXT, "name": TEXT, "image_reference": reference("image_url"), "options": OPTIONS},
    {"input_reference": {**FILE, "description": "The portrait"}},
)
"""Of ``POST /v1/avatars``."""
FACES_BODY = body({"image_reference": reference("image_url")}, {"input_reference": FILE})
"""Of ``POST /v1/faces``."""
START_FIELDS = {
    "model": {**TEXT, "description": "Name of a loaded model"},
    "avatar": {**TEXT, "description": "id of an avatar, in place of a picture"},
    "sample_rate": {"type": "integer", "description": "Of sound on the data channel, in Hz; a multiple of 50"},
    "lag": {"type": "string", "enum": ["slow", "drop"]},
    "idle": {"type": "string", "enum": ["model", "loop"]},
    "jitter_s": {"type": "number", "minimum": 0, "maximum": 2},
    "num_inference_steps": {"type": "integer", "minimum": 1},
    "guidance_scale": {"type": "number"},
    "seed": {"type": "integer", "minimum": 0},
}
CALL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["sdp"],
                    "properties": {
                        "sdp": {**TEXT, "description": "The offer, with all its candidates"},
                        "image_reference": reference("image_url"),
                        "extra_params": OPTIONS,
                        **START_FIELDS,
                    },
                }
            },
            "application/sdp": {"schema": {**TEXT, "description": "The offer, with all its candidates"}},
        },
    },
    "parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in START_FIELDS.items()],
}
"""Of ``POST /v1/realtime/webrtc``."""
