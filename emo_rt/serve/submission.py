"""A video as a caller asks for it: fields of the videos API → options of :class:`emo_rt.Request`, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emo_rt.animator import Animator
from emo_rt.errors import EmoRtError
from emo_rt.media.marking.options import MarkOptions
from emo_rt.model.identity import FaceInputs
from emo_rt.runtime.request import Request
from emo_rt.schema.option import options_of
from emo_rt.serve.errors import ApiError, refusal, sendable
from emo_rt.serve.forms import Form, Upload, object_of, referenced

FIELDS = frozenset(
    {"model", "prompt", "input_reference", "image_reference", "audio", "audio_reference", "avatar", "seconds", "size",
     "num_inference_steps", "guidance_scale", "seed", "fps", "user", "extra_params"}
)  # fmt: skip
"""Fields of ``POST /v1/videos``."""
NUMBERS = {"num_inference_steps": ("steps", int), "guidance_scale": ("guidance", float), "seed": ("seed", int)}
"""Fields that are options of ours by another name."""
MARKS = frozenset(option.name for option in options_of(MarkOptions)) - {"visible_label"}
"""Options of marks that the server decides; a label may be asked for."""
REFUSED = MARKS | {option.name for option in options_of(FaceInputs)} | {
    "portrait", "voice", "generated_mark", "max_audio", "codec", "keyframe_interval"
}  # fmt: skip
"""Options that callers may not set: they name files of the server, belong to its owner, or change its marks."""
LONGEST_PROMPT = 32_768
SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass
class Submission:
    """What is asked for."""

    model: str | None = None
    """Name of the model; ``None`` = the server's first."""
    prompt: str | None = None
    """Only given back."""
    picture: Upload | None = None
    """The portrait."""
    sound: Upload | None = None
    """The voice."""
    avatar: str | None = None
    """In place of the portrait."""
    seconds: float | None = None
    """Where the sound is cut off."""
    size: tuple[int, int] | None = None
    """Width and height of the video."""
    fps: int | None = None
    """Frame rate; it is the model's own, or an error."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options by the names of :class:`emo_rt.Request`."""


def read_submission(form: Form) -> Submission:
    """From a form. Raises :class:`ApiError` 400, with the name of the field."""
    reject_unknown({*form.fields, *form.uploads}, FIELDS)
    fields = form.fields
    found = Submission(
        model=text(fields, "model"),
        prompt=text(fields, "prompt", LONGEST_PROMPT),
        picture=one_upload(form, "input_reference", "image_reference", "image_url"),
        sound=one_upload(form, "audio", "audio_reference", "audio_url"),
        avatar=text(fields, "avatar"),
        seconds=number(fields, "seconds", float),
        fps=number(fields, "fps", int),
        options=read_options(fields),
    )
    text(fields, "user")
    if found.seconds is not None and not 0 < found.seconds < math.inf:
        raise ApiError(400, "invalid_value", f"seconds is {found.seconds:g}; expected more than 0", param="seconds")
    size = text(fields, "size")
    if size is not None:
        found.size = read_size(size)
    return found


def read_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``extra_params``, and the fields that are options by another name. Raises :class:`ApiError` for one that is in
    both."""
    options = extra_options(fields.get("extra_params"))
    for name, (option, kind) in NUMBERS.items():
        value = number(fields, name, kind)
        if value is not None:
            if option in options:
                raise ApiError(400, "invalid_option", f"{name} is in extra_params, too, as {option}", param=name)
            options[option] = value
    return options


def reject_unknown(names: set[str], known: frozenset[str]) -> None:
    """Raise :class:`ApiError` for a field that would be ignored."""
    unknown = sorted(names - known)
    if unknown:
        message = f"unknown field {unknown[0]}; expected some of {', '.join(sorted(known))}"
        raise ApiError(400, "unknown_field", message, param=unknown[0])


def one_upload(form: Form, name: str, other: str, key: str) -> Upload | None:
    """A file, or what is behind a reference. OpenAI's client also writes a reference under the name of the file."""
    if name in form.fields and isinstance(form.fields[name], Mapping):
        form.fields.setdefault(other, form.fields.pop(name))
    if name in form.fields:
        raise ApiError(400, "invalid_value", f"{name} is a text; expected a file, or {other}", param=name)
    if other in form.uploads:
        raise ApiError(400, "invalid_value", f"{other} is a file; send it as {name}", param=other)
    if name in form.uploads and other in form.fields:
        raise ApiError(400, "invalid_value", f"{name} and {other} are both given; send one of them", param=other)
    if other in form.fields:
        return referenced(other, key, form.fields[other])
    return form.uploads.get(name)


def extra_options(value: Any) -> dict[str, Any]:
    """``extra_params``. Only checked for names that are refused; values come later."""
    if value is None:
        return {}
    found = dict(object_of("extra_params", value))
    for name in found:
        if name in REFUSED:
            raise ApiError(400, "invalid_option", f"{name} is not for callers of this server", param="extra_params")
    return found


def reject_options(options: Mapping[str, Any], sections: tuple[type, ...], why: str, param: str) -> None:
    """Raise :class:`ApiError` for options of these dataclasses, which would be ignored here."""
    names = {option.name for section in sections for option in options_of(section)}
    for name in options:
        if name in names:
            raise ApiError(400, "invalid_option", f"{name} is not heeded here: {why}", param=param)


def text(fields: Mapping[str, Any], name: str, longest: int = 256) -> str | None:
    """A text that is not too long."""
    value = fields.get(name)
    if value is None or (isinstance(value, str) and value and len(value) <= longest and sendable(value) == value):
        return value
    if value == "":
        return None
    raise ApiError(400, "invalid_value", f"{name} is no text of at most {longest} characters", param=name)


def number(fields: Mapping[str, Any], name: str, kind: type[int] | type[float]) -> Any:
    """A number; forms write it as a text."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > 40:
            raise ValueError(value)
        found = kind(value)
        if kind is int and isinstance(value, float) and value != found:
            raise ValueError(value)
    except (ValueError, OverflowError) as exc:
        words = "an integer" if kind is int else "a number"
        raise ApiError(400, "invalid_value", f"{name} is {str(value)[:40]!r}; expected {words}", param=name) from exc
    return found


def read_size(value: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT``."""
    found = SIZE.fullmatch(value)
    if found is None:
        raise ApiError(400, "invalid_value", f"size is {value[:40]!r}; expected WIDTHxHEIGHT in pixels", param="size")
    return int(found[1]), int(found[2])


def checked_request(animator: Animator, options: Mapping[str, Any], param: str = "extra_params") -> Request:
    """The request with these options. Raises :class:`ApiError` for those that are wrong or that the model lacks."""
    try:
        request = Request.from_dict({"portrait": "portrait", "voice": "voice", **options})
        animator.resolve(request.animate)
    except EmoRtError as exc:
        raise refusal(exc, param) from exc
    return request
