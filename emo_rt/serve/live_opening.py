"""A live session begins: its face is decoded and prepared, on the device with the fewest sessions that has room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.trace import Span

from emo_rt.errors import EmoRtError, OverloadedError
from emo_rt.media.video_file import VideoOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.live.session import LiveSession
from emo_rt.runtime.live.settings import LiveSettings
from emo_rt.runtime.request import PrepareOptions, Request
from emo_rt.serve.avatars import prepared
from emo_rt.serve.errors import ApiError, refusal
from emo_rt.serve.live_start import LiveStart
from emo_rt.serve.places import Place
from emo_rt.serve.records import AvatarRecord, new_id
from emo_rt.serve.service import LIVE_PRIORITY, OF_AVATAR, Service
from emo_rt.serve.spans import begin_live_span, end_live_span, note_live_open
from emo_rt.serve.submission import checked_request, reject_options

QUEUE_S = 120.0
"""Most sound that waits in a live session, in seconds: more than anybody says at a time."""


@dataclass(frozen=True)
class Opened:
    """A session, and where it is."""

    session: LiveSession
    place: Place
    span: Span

    def close(self, service: Service, reason: BaseException | None = None) -> None:
        """Close the session. ``reason``: the error that has ended it, if one did. Safe twice."""
        stats = self.session.stats
        self.session.close()
        service.session_ended(self.session, self.place)
        end_live_span(self.span, stats, reason)


async def open_session(service: Service, start: LiveStart, owner: str) -> Opened:
    """Open a session, which the caller closes. Raises :class:`ApiError`, :class:`EmoRtError`."""
    service.require_working()
    service.quotas.note_request(owner)
    opening = asyncio.ensure_future(asyncio.to_thread(_opened, service, start, owner))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # the thread goes on, and nobody will have its session
        opening.add_done_callback(partial(_close_session, service))
        raise


def _opened(service: Service, start: LiveStart, owner: str) -> Opened:
    span = begin_live_span()
    try:
        return _opened_in(service, start, owner, span)
    except BaseException as exc:
        end_live_span(span, None, exc)
        raise


def _opened_in(service: Service, start: LiveStart, owner: str, span: Span) -> Opened:
    name, animator = service.model(start.model)
    if (start.picture is None) == (start.avatar is None):
        message = "expected one of image_reference and avatar"
        raise ApiError(400, "missing_field", message, param="image_reference")
    reject_options(start.options, (VideoOptions,), "a live session encodes for players", "extra_params")
    record = None if start.avatar is None else service.avatar_record(start.avatar, owner, name)
    if record is not None:
        reject_options(start.options, (PrepareOptions,), OF_AVATAR, "extra_params")
    request = checked_request(animator, start.options)
    settings = _settings(start.settings)
    if record is not None:
        return _on_a_place(service, name, request, settings, record, span)
    assert start.picture is not None
    with service.store.incoming(new_id("live")) as incoming:
        service.decode(incoming, start.picture, None, None)
        return _on_a_place(service, name, request, settings, incoming, span)


def _settings(given: Mapping[str, Any]) -> LiveSettings:
    try:
        return LiveSettings(**{"queue_s": QUEUE_S, "lag": "drop", **given, "when_full": "raise"})
    except EmoRtError as exc:
        raise refusal(exc) from exc


def _on_a_place(
    service: Service, name: str, request: Request, settings: LiveSettings, face: AvatarRecord | Path, span: Span
) -> Opened:
    """On the device with the fewest sessions; one that is full sends it to the next. ``face``: an avatar, or a folder
    with a decoded picture."""
    refused: OverloadedError | None = None
    for place in service.places.by_load():
        service.places.enter(place)
        try:
            avatar = _avatar(service, place, name, request, face)
            session = place.models[name].live(
                avatar, priority=LIVE_PRIORITY, settings=settings, options=request.animate
            )
        except OverloadedError as exc:
            service.places.leave(place)
            refused = exc
        except BaseException:
            service.places.leave(place)
            raise
        else:
            service.session_begun(session)
            note_live_open(span, name, place.name)
            return Opened(session, place, span)
    assert refused is not None
    raise refused


def _avatar(service: Service, place: Place, name: str, request: Request, face: AvatarRecord | Path) -> Avatar:
    animator = place.models[name]
    if isinstance(face, AvatarRecord):
        return service.avatars.get(face, animator, LIVE_PRIORITY)
    return prepared(animator, face, request.prepare, LIVE_PRIORITY)


def _close_session(service: Service, opening: asyncio.Future[Opened]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    close = partial(opening.result().close, service)
    threading.Thread(target=close, name="emo_rt serve: closing").start()
