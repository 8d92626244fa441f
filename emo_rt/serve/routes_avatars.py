"""``/v1/avatars``: portraits that are uploaded once; and ``/v1/faces``: what is seen in a picture before that."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from emo_rt.serve.avatars import SHOWN
from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import Upload, read_form
from emo_rt.serve.openapi import AVATAR_BODY, ERRORS, FACES_BODY
from emo_rt.serve.openapi_answers import AVATAR, AVATARS, FACES, answer, deleted
from emo_rt.serve.routes_videos import owner_of, service_of
from emo_rt.serve.service_faces import faces_of
from emo_rt.serve.submission import extra_options, one_upload, reject_unknown, text

router = APIRouter(prefix="/v1", tags=["avatars"])

FIELDS = frozenset({"model", "name", "input_reference", "image_reference", "options"})


@router.post("/avatars", summary="Keep a portrait", openapi_extra=AVATAR_BODY, responses={**ERRORS, **answer(AVATAR)})
async def create(request: Request) -> dict[str, Any]:
    """``options``: those of how a picture is seen, like ``face_box``, ``face_index``, ``max_side``."""
    service, owner = service_of(request), owner_of(request)
    service.require_working()
    service.quotas.note_request(owner)
    try:
        form = await read_form(request)
        reject_unknown({*form.fields, *form.uploads}, FIELDS)
        options = extra_options(form.fields.get("options"))
        model, name = text(form.fields, "model"), text(form.fields, "name")
        record = await service.in_thread(partial(service.add_avatar, _picture(form), model, options, name, owner))
    finally:
        await request.close()
    return record.public()


@router.get("/avatars", summary="List avatars", responses={**ERRORS, **answer(AVATARS)})
def list_avatars(request: Request) -> dict[str, Any]:
    """One's own, the newest first."""
    records = service_of(request).store.avatars(owner_of(request))
    return {"object": "list", "data": [record.public() for record in records], "has_more": False}


@router.get("/avatars/{avatar_id}", summary="One avatar", responses={**ERRORS, **answer(AVATAR)})
def retrieve(request: Request, avatar_id: str) -> dict[str, Any]:
    """Its size, its face, and what is odd about it."""
    return service_of(request).avatar_record(avatar_id, owner_of(request)).public()


@router.get("/avatars/{avatar_id}/picture", summary="The picture", response_class=FileResponse,
            responses={**ERRORS, 200: {"content": {"image/jpeg": {}}}})  # fmt: skip
def picture(request: Request, avatar_id: str) -> Response:
    """As JPEG, in the size of the video."""
    service = service_of(request)
    record = service.avatar_record(avatar_id, owner_of(request))
    return FileResponse(service.store.place(record) / SHOWN, media_type="image/jpeg")


@router.delete("/avatars/{avatar_id}", summary="Delete an avatar", responses={**ERRORS, **answer(deleted("avatar"))})
def delete(request: Request, avatar_id: str) -> dict[str, Any]:
    """Videos that wait for it will fail."""
    service = service_of(request)
    service.delete_avatar(service.avatar_record(avatar_id, owner_of(request)))
    return {"id": avatar_id, "object": "avatar.deleted", "deleted": True}


@router.post("/faces", summary="Find faces", openapi_extra=FACES_BODY, responses={**ERRORS, **answer(FACES)})
async def find_faces(request: Request) -> dict[str, Any]:
    """Nothing is kept. Boxes are in pixels of the upright picture; the first face is the largest."""
    service, owner = service_of(request), owner_of(request)
    service.require_working()
    service.quotas.note_request(owner)
    try:
        form = await read_form(request)
        reject_unknown({*form.fields, *form.uploads}, frozenset({"input_reference", "image_reference"}))
        return await service.in_thread(partial(faces_of, service, _picture(form)))
    finally:
        await request.close()


def _picture(form: Any) -> Upload:
    found = one_upload(form, "input_reference", "image_reference", "image_url")
    if found is None:
        message = "there is no picture; send a file as input_reference, or image_reference"
        raise ApiError(400, "missing_field", message, param="input_reference")
    return found
