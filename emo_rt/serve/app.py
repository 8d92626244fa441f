"""The application: routes, errors and the page, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount
from starlette.types import ASGIApp

from emo_rt.errors import EmoRtError
from emo_rt.model.families.registry import family_of
from emo_rt.serve import metrics, routes_avatars, routes_rtc, routes_speech, routes_videos
from emo_rt.serve.errors import ApiError, error_body, is_full, refusal
from emo_rt.serve.guard import COUNTED, Guard
from emo_rt.serve.live import LiveConnection
from emo_rt.serve.openapi import ERRORS, Responses, Schema
from emo_rt.serve.openapi_answers import HEALTH, MODELS, READY, answer
from emo_rt.serve.page_files import add_page
from emo_rt.serve.service import Service
from emo_rt.version import __version__

KEYED: Responses = {status: ERRORS[status] for status in (400, 401)}
"""Of routes that need no more than a key."""


def make_app(
    service: Service, inside: Callable[[ASGIApp], ASGIApp] = lambda app: app, *, has_webrtc: bool = True
) -> ASGIApp:
    """The application of a service. The service is started and closed with it.

    ``inside``: wraps what is behind the guard, where every caller is known. ``has_webrtc``: whether peers reach this
    process, and it lives as long as their sessions.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield

    app = FastAPI(
        title="emo_rt",
        version=__version__,
        description="A portrait and a voice become a talking video: jobs, avatars and live sessions.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service, app.state.calls = service, {}
    _add_errors(app, service)
    _add_health(app, service)
    app.include_router(routes_videos.router)
    app.include_router(routes_avatars.router)
    app.include_router(routes_speech.router)
    if has_webrtc:
        app.include_router(routes_rtc.router)

    @app.websocket("/v1/realtime/video")
    async def realtime(socket: WebSocket) -> None:
        await LiveConnection(socket, service).run()

    add_page(app)
    inner: ASGIApp = app
    if service.options.origins:
        inner = CORSMiddleware(
            app,
            allow_origins=sorted(service.options.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["openai-poll-after-ms", "x-request-id", "retry-after", "location"],
        )
    return Guard(inside(inner), service.options, service.keys, service.metrics.note_request)


def _add_errors(app: FastAPI, service: Service) -> None:
    """Every error has the same form."""

    @app.exception_handler(ApiError)
    async def _(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, ApiError)
        return JSONResponse(exc.body, exc.status, exc.headers)

    @app.exception_handler(EmoRtError)
    async def _(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, EmoRtError)
        service.note_error(exc)
        found = refusal(exc)
        return JSONResponse(found.body, found.status, found.headers)

    @app.exception_handler(ClientDisconnect)
    async def _(_: Request, exc: Exception) -> Response:
        return JSONResponse(error_body(499, "client_left", "the client went away"), 499)

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        first = exc.errors()[0]
        name = str(first["loc"][-1])
        return JSONResponse(error_body(400, "invalid_value", f"{name}: {first['msg']}", name), 400)

    @app.exception_handler(HTTPException)
    async def _(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "invalid_body")
        headers = {"Allow": _methods(request)} if exc.status_code == 405 else exc.headers
        return JSONResponse(error_body(exc.status_code, code, str(exc.detail)), exc.status_code, headers)

    @app.exception_handler(Exception)
    async def _(_: Request, exc: Exception) -> Response:
        if is_full(exc):
            return JSONResponse(error_body(503, "disk_full", "the server's disk is full"), 503, {"Retry-After": "60"})
        logging.getLogger(__name__).error("a request failed in an unexpected way", exc_info=exc)
        return JSONResponse(error_body(500, "internal_error", "the server failed; its log says why"), 500)


def _methods(request: Request) -> str:
    """Those of all routes of a path; the router itself tells those of the first."""

    def fits(method: str) -> bool:
        scope = {**request.scope, "method": method}
        routes = [route for route in request.app.routes if route.matches(scope)[0] is Match.FULL]
        return any(method in ("GET", "HEAD") or not isinstance(route, Mount) for route in routes)  # files are read

    return ", ".join(sorted(filter(fits, COUNTED)))


def _add_health(app: FastAPI, service: Service) -> None:
    def both(schema: Schema) -> Responses:
        return {**answer(schema), **answer(schema, 503, "It is not")}

    @app.get("/health", summary="Whether the process is of use; 503 = restart it", responses=both(HEALTH))
    async def health() -> Response:  # not in a thread: these may all be busy, and then it would be killed
        trouble = service.trouble
        return JSONResponse({"status": "failed" if trouble else "ok", "reason": trouble}, 503 if trouble else 200)

    @app.get("/ready", summary="Whether the models are warm; 503 = send requests elsewhere", responses=both(READY))
    async def ready() -> Response:
        is_ready = service.is_warm and not service.is_draining and service.trouble is None
        state = "draining" if service.is_draining else "ready" if is_ready else "warming"
        return JSONResponse({"status": state}, 200 if is_ready else 503)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response,
             responses={**KEYED, 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
    def get_metrics() -> Response:
        return Response(service.metrics.text(), media_type=metrics.TYPE)

    @app.get("/v1/models", summary="The models that are loaded", responses={**KEYED, **answer(MODELS)})
    def models() -> dict[str, Any]:
        data = [_model(name, service) for name in service.models]
        return {"object": "list", "data": data}


def _model(name: str, service: Service) -> dict[str, Any]:
    """What OpenAI's clients read, and what a page wants to know besides."""
    animator = service.models[name]
    config, bundle = animator.config, animator.bundle
    heeds = family_of(config).heeds
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "emo_rt",
        "size": config.size,
        "fps": config.fps,
        "frames_per_clip": config.frames,
        "presets": list(bundle.presets),
        "preset": animator.resolve().preset,
        "heeds": sorted(heeds),
        "head_room": config.locator.margin if "head_room" in heeds else None,
        "trained_on": bundle.trained_on,
        "device": animator.device,
        "backend": animator.backend,
    }
