"""``/v1/videos``: jobs in the dialect of the videos API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from emo_rt.serve import openapi_answers
from emo_rt.serve.errors import ApiError
from emo_rt.serve.forms import read_form
from emo_rt.serve.openapi import ERRORS, VIDEO_BODY
from emo_rt.serve.openapi_answers import VIDEOS, answer, deleted
from emo_rt.serve.records import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from emo_rt.serve.service import Service
from emo_rt.serve.store import THUMBNAIL, VIDEO
from emo_rt.serve.submission import read_submission

router = APIRouter(prefix="/v1/videos", tags=["videos"])

ONE = answer(openapi_answers.VIDEO)
POLL_AFTER_MS = {QUEUED: 1000, IN_PROGRESS: 500}
"""What ``openai-poll-after-ms`` says by status."""
LOOK_S = 1.0
"""Seconds after which a waiting request looks again, even if nobody said that something has changed."""


def service_of(request: Request) -> Service:
    """The service behind the application."""
    found: Service = request.app.state.service
    return found


def owner_of(request: Request) -> str:
    """Whose request it is, as the guard found out."""
    owner: str = request.state.owner
    return owner


class _OnceFile(FileResponse):
    """A file that goes when it was sent, or when the client has gone."""

    def __init__(self, path: Path, end: Callable[[], None], **settings: Any) -> None:
        super().__init__(path, **settings)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def submitted(request: Request, *, is_sync: bool) -> Job:
    """The job of a request's body."""
    service, owner = service_of(request), owner_of(request)
    service.require_working()
    service.quotas.note_request(owner)
    try:
        asked = await service.in_thread(partial(read_submission, await read_form(request)))
        return await service.in_thread(partial(service.submit, asked, owner, is_sync=is_sync))
    finally:
        await request.close()


@router.post("", summary="Queue a video", openapi_extra=VIDEO_BODY, responses={**ERRORS, **ONE})
async def create(request: Request) -> Response:
    """Decodes the uploads at once, so that what cannot be used is refused now."""
    return _answer(request, await submitted(request, is_sync=False))


@router.post("/sync", summary="Make a video and wait for it", openapi_extra=VIDEO_BODY, response_class=FileResponse,
             responses={**ERRORS, 200: {"content": {"video/mp4": {}}}})  # fmt: skip
async def create_and_wait(request: Request) -> Response:
    """The MP4 itself. Going away cancels the job; nothing of it is kept."""
    service = service_of(request)
    job = await submitted(request, is_sync=True)
    leaving = asyncio.create_task(_left(request))
    waiting = asyncio.create_task(_finished(service, job))
    try:
        await asyncio.wait((leaving, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ApiError(499, "client_left", "the client went away")
        job = waiting.result()
        if job.status == FAILED:
            raise ApiError(422, job.error_code or "failed", job.error_message or "the video could not be made")
    except BaseException:
        service.delete(job)
        raise
    finally:
        for task in (leaving, waiting):
            task.cancel()
        await asyncio.gather(leaving, waiting, return_exceptions=True)
    path = service.store.place(job) / VIDEO
    return _OnceFile(path, lambda: service.delete(job), media_type="video/mp4", filename=f"{job.id}.mp4")


@router.get("", summary="List videos", responses={**ERRORS, **answer(VIDEOS)})
def list_videos(
    request: Request,
    after: Annotated[str | None, Query(description="id of the last one of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """Pages through one's own jobs by time."""
    service = service_of(request)
    found = service.store.jobs(owner_of(request), after=after, limit=limit + 1, newest_first=order == "desc")
    if found is None:
        raise ApiError(400, "invalid_value", "after is the id of no video", param="after")
    page = [job.public(service.runner.progress(job)) for job in found[:limit]]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


@router.get("/{video_id}", summary="How a video stands", responses={**ERRORS, **ONE})
def retrieve(request: Request, video_id: str) -> Response:
    """200 for a failed job, too: ``error`` says why."""
    return _answer(request, _job(request, video_id))


@router.get("/{video_id}/content", summary="The video, or its first picture", response_class=FileResponse,
            responses={**ERRORS, 200: {"content": {"video/mp4": {}, "image/jpeg": {}}}, 206: {}, 416: {}})  # fmt: skip
def content(request: Request, video_id: str, variant: str = "video") -> Response:
    """MP4 with ``Range``; ``variant=thumbnail``: a JPEG."""
    job = _job(request, video_id)
    if variant not in ("video", "thumbnail"):
        message = f"variant is {variant[:40]!r}; expected video or thumbnail"
        raise ApiError(400, "invalid_value", message, param="variant")
    if job.status == FAILED:
        raise ApiError(422, job.error_code or "failed", job.error_message or "the video could not be made")
    if job.status != COMPLETED:
        raise ApiError(404, "not_ready", f"the video is {job.status}; ask again later")
    place = service_of(request).store.place(job)
    name, kind = (VIDEO, "video/mp4") if variant == "video" else (THUMBNAIL, "image/jpeg")
    if not (place / name).is_file():
        raise ApiError(404, "video_not_found", "the video was deleted")
    return FileResponse(place / name, media_type=kind, filename=f"{job.id}{(place / name).suffix}")


@router.delete("/{video_id}", summary="Cancel and delete a video", responses={**ERRORS, **answer(deleted("video"))})
def delete(request: Request, video_id: str) -> dict[str, Any]:
    """One that runs stops after the present step."""
    service_of(request).delete(_job(request, video_id))
    return {"id": video_id, "object": "video.deleted", "deleted": True}


def _job(request: Request, name: str) -> Job:
    found = service_of(request).store.job(name, owner_of(request))
    if found is None:
        raise ApiError(404, "video_not_found", f"there is no video {name[:80]}")
    return found


def _answer(request: Request, job: Job) -> Response:
    wait = POLL_AFTER_MS.get(job.status)
    headers = {} if wait is None else {"openai-poll-after-ms": str(wait)}
    return JSONResponse(job.public(service_of(request).runner.progress(job)), headers=headers)


async def _left(request: Request) -> None:
    """Until the client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _finished(service: Service, job: Job) -> Job:
    """The job when it is over. Raises :class:`ApiError` where it will not be made."""
    signal = service.runner.signal
    while True:
        seen = signal.version
        found = await run_in_threadpool(service.store.job, job.id, job.owner)
        if found is None:
            raise ApiError(409, "cancelled", "the video was deleted")
        if found.is_over:
            return found
        if service.is_draining and found.status == QUEUED:
            raise ApiError(503, "server_restarting", "the server ends now; try again in a moment", retry_after_s=5)
        if service.trouble is not None:
            service.require_working()
        await signal.wait_async(seen, LOOK_S)
