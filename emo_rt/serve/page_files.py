"""The page: static files, and the sample voice of the demo beside them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

FILES = Path(__file__).parent / "page"
VOICE = Path(__file__).parents[1] / "assets" / "voice.flac"
"""The demo's own; it is not copied into the page."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
"""Said here: what the system's own table lacks would be refused by browsers."""


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kind = TYPES.get(PurePosixPath(path).suffix or ".html")
        if kind is not None and response.status_code == 200:
            response.headers["Content-Type"] = kind
        response.headers["Cache-Control"] = "no-cache"  # ask whether it has changed: modules of one version only
        return response


class _PageMount(Mount):
    """Matches what is there and nothing else, so that a wrong method of another route stays one."""

    def __init__(self, path: str, app: ASGIApp, name: str, names: Collection[str]) -> None:
        super().__init__(path, app, name=name)
        self._names = names

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the router asks."""
        wanted = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/")
        return super().matches(scope) if wanted in self._names or not wanted else (Match.NONE, {})


def add_page(app: FastAPI) -> None:
    """Serve it at ``/``, behind all other routes."""

    @app.get("/samples/voice.flac", include_in_schema=False)
    def _() -> FileResponse:
        return FileResponse(VOICE, media_type="audio/flac")

    names = frozenset(file.name for file in FILES.iterdir())
    app.router.routes.append(_PageMount("/", _PageFiles(directory=FILES, html=True), name="page", names=names))
