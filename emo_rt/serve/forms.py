"""What a caller sent, as plain fields and uploads: multipart forms and JSON with the same names."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request

from emo_rt.serve.errors import ApiError, room_on_disk

MOST_FIELDS, MOST_FILES = 64, 4
LONGEST_FIELD = 64 << 20
"""Bytes of a field that is no file: a picture may be in one, as a ``data:`` URL. The whole body has its own limit."""
NESTED = re.compile(r"(\w+)\[(\w+)\]")
"""``image_reference[image_url]``: how forms write an object."""
DATA_URL = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)


@dataclass
class Upload:
    """A file that came with the request, in memory or in a file without a name."""

    source: UploadFile | bytes

    def save(self, path: Path) -> None:
        """Write it to a file. Raises :class:`ApiError` where the disk is full."""
        with room_on_disk(), path.open("xb") as file:
            if isinstance(self.source, bytes):
                file.write(self.source)
            else:
                self.source.file.seek(0)
                shutil.copyfileobj(self.source.file, file)


@dataclass
class Form:
    """Fields and uploads by name."""

    fields: dict[str, Any] = field(default_factory=dict)
    """Texts; from JSON also numbers, lists and objects."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    """Files, and what was in ``data:`` URLs."""


async def read_form(request: Request) -> Form:
    """The body. Raises :class:`ApiError` 400 for what is neither a form nor a JSON object."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        return await to_thread.run_sync(form_from_json, body)  # 64 MB of it would stop live sessions for a moment
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        message = f"the body is {kind or 'of no type'}; expected multipart/form-data or application/json"
        raise ApiError(400, "invalid_body", message)
    with room_on_disk():
        sent = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD)
    form = Form()
    for name, value in sent.multi_items():
        if name in form.fields or name in form.uploads:
            raise ApiError(400, "invalid_body", f"{name} is there twice", param=name)
        if isinstance(value, UploadFile):
            form.uploads[name] = Upload(value)
        else:
            _add_field(form.fields, name, value)
    return form


async def read_body(request: Request, most: int) -> bytes:
    """A body that is shorter than others may be. Raises :class:`ApiError` 413 past ``most`` bytes."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > most:
            raise ApiError(413, "too_large", f"the body is too large; {most:,} bytes are allowed")
    return bytes(found)


def form_from_json(body: bytes) -> Form:
    """A JSON object. Raises :class:`ApiError` 400."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ApiError(400, "invalid_json", "the body is no JSON") from exc
    if not isinstance(fields, dict):
        raise ApiError(400, "invalid_json", "the body is no JSON object")
    return Form(fields={name: value for name, value in fields.items() if value is not None})


def _add_field(fields: dict[str, Any], name: str, value: str) -> None:
    nested = NESTED.fullmatch(name)
    if nested is None:
        fields[name] = value
        return
    inner = fields.setdefault(nested[1], {})
    if not isinstance(inner, dict):
        raise ApiError(400, "invalid_body", f"{nested[1]} is there twice", param=nested[1])
    inner[nested[2]] = value


def object_of(name: str, value: Any) -> Mapping[str, Any]:
    """A JSON object, or the text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as exc:
            raise ApiError(400, "invalid_json", f"{name} is no JSON object", param=name) from exc
    if not isinstance(value, Mapping):
        raise ApiError(400, "invalid_json", f"{name} is no JSON object", param=name)
    return value


def referenced(name: str, key: str, value: Any) -> Upload:
    """The bytes behind ``{"image_url": "data:…"}``. No other URL is followed: it could lead into a private network."""
    reference = object_of(name, value)
    if set(reference) != {key} or not isinstance(reference[key], str):
        raise ApiError(400, "invalid_reference", f'{name} is not {{"{key}": "data:…"}}', param=name)
    url = reference[key]
    head = DATA_URL.match(url)
    if head is None:
        message = f"{name} has a URL that is no data: URL; this server fetches nothing, send the file itself"
        raise ApiError(400, "url_not_allowed", message, param=name)
    try:
        rest = url[head.end() :]
        is_base64 = head[0].lower().endswith(";base64,")
        return Upload(base64.b64decode(rest, validate=True) if is_base64 else unquote_to_bytes(rest))
    except (binascii.Error, ValueError) as exc:
        raise ApiError(400, "invalid_reference", f"{name} has a damaged data: URL", param=name) from exc
