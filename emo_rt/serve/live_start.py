"""The first message of a live session: which face, which model, how it shall go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import Upload, referenced
from emo_rt.serve.submission import number, read_options, reject_unknown, text

FIELDS = frozenset(
    {"type", "model", "image_reference", "avatar", "format", "sample_rate", "fragment_frames", "lag", "jitter_s",
     "idle", "num_inference_steps", "guidance_scale", "seed", "extra_params", "request_id"}
)  # fmt: skip
FORMAT = "m4s"
"""The one format: fragments of MP4."""
START_BYTES = 4 << 20
"""Longest message, or body, that begins a session."""
MOST_FRAGMENT_FRAMES = 250


@dataclass(frozen=True)
class LiveStart:
    """What is asked for."""

    model: str | None
    """Name of the model; ``None`` = the server's first."""
    picture: Upload | None
    """The portrait."""
    avatar: str | None
    """In place of it."""
    settings: Mapping[str, Any]
    """Fields of :class:`emo_rt.LiveSettings`."""
    fragment_frames: int = 5
    """Frames in a fragment: how far the viewer is behind, at least."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options by the names of :class:`emo_rt.Request`."""


def read_message(message: str, most: int) -> dict[str, Any]:
    """A JSON object with a ``type``. Raises :class:`ApiError`."""
    if len(message.encode("utf-8", "surrogatepass")) > most:
        raise ApiError(413, "message_too_large", f"the message is too large; {most:,} bytes are allowed")
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as exc:
        raise ApiError(400, "invalid_json", "the message is no JSON") from exc
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ApiError(400, "invalid_json", "the message is no JSON object with a type")
    return found


def read_start(message: Mapping[str, Any]) -> LiveStart:
    """Raises :class:`ApiError` 400."""
    if message["type"] != "session.start":
        raise ApiError(400, "not_started", "the first message is not session.start")
    fields = {name: value for name, value in message.items() if value is not None}
    reject_unknown(set(fields), FIELDS)
    form = text(fields, "format") or FORMAT
    if form != FORMAT:
        raise ApiError(400, "invalid_value", f"format is {form!r}; expected {FORMAT}", param="format")
    reference = fields.get("image_reference")
    frames = number(fields, "fragment_frames", int)
    if frames is not None and not 1 <= frames <= MOST_FRAGMENT_FRAMES:
        words = f"fragment_frames is {frames}; expected 1 … {MOST_FRAGMENT_FRAMES}"
        raise ApiError(400, "invalid_value", words, param="fragment_frames")
    return LiveStart(
        model=text(fields, "model"),
        picture=None if reference is None else referenced("image_reference", "image_url", reference),
        avatar=text(fields, "avatar"),
        settings=_settings(fields),
        fragment_frames=frames or 5,
        options=read_options(fields),
    )


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "sample_rate": number(fields, "sample_rate", int),
        "jitter_s": number(fields, "jitter_s", float),
        "lag": text(fields, "lag"),
        "idle": text(fields, "idle"),
    }
    return {name: value for name, value in found.items() if value is not None}
