"""The process: models are loaded, the port is opened, and SIGTERM ends everything in order."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from emo_rt.animator import Animator
from emo_rt.errors import ConfigError, DeviceLostError, OutputError
from emo_rt.serve.app import make_app
from emo_rt.serve.live_start import START_BYTES
from emo_rt.serve.logs import event
from emo_rt.serve.service import Service
from emo_rt.serve.settings import ServeOptions

SHUTDOWN_S = 10
"""Seconds that answers under way get after everything else has ended."""
BACKLOG = 256
"""Connections that wait to be accepted."""


class Server(uvicorn.Server):
    """Drains before it closes connections: uvicorn by itself would cut live sessions off at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._is_told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        is_lost = self._service.options.exit_when_lost and self._service.trouble is not None
        return is_lost or await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one ends at once. Nothing is raised again at the end: exit code 0."""
        if self._is_told or self._loop is None:
            self.force_exit = self.should_exit = True
            return
        self._is_told = True
        self._loop.call_soon_threadsafe(self._begin_draining)

    def _begin_draining(self) -> None:
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            await self._service.drain()
        finally:
            self.should_exit = True


def serve(options: ServeOptions, animators: Sequence[Animator], *others: Sequence[Animator]) -> None:
    """Serve until a signal comes. Closes the animators. ``others``: the same models on further devices. Raises
    :class:`ConfigError`, :class:`OutputError`, :class:`DeviceLostError`."""
    with ExitStack() as exits:
        for animator in [*animators, *(one for device in others for one in device)]:
            exits.callback(animator.close)
        service = exits.enter_context(Service(options, _named(animators), *map(_named, others)))
        listener = exits.enter_context(_listen(options))
        host, port = listener.getsockname()[:2]
        event("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid())
        Server(_config(make_app(service)), service).run([listener])
        if options.exit_when_lost and service.trouble is not None:
            raise DeviceLostError(f"the device has failed for good: {service.trouble}; start the server again")
        event("ended")


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # ours has request ids
        server_header=False,
        proxy_headers=False,  # a client's word for who it is counts nothing
        http="h11",  # the other one has no limit of headers
        ws_max_size=START_BYTES + 4096,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # video does not become smaller
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=64 << 10,
    )


def _named(animators: Sequence[Animator]) -> dict[str, Animator]:
    """By the name in the configuration; where two have the same, by that of the folder."""
    found: dict[str, Animator] = {}
    for animator in animators:
        name = animator.config.name
        name = Path(animator.bundle.path).name if name in found else name
        if name in found:
            raise ConfigError(f"two models are called {name}; rename the folder of one")
        found[name] = animator
    return found


def _listen(options: ServeOptions) -> socket.socket:
    """An open port. The system frees it when this process ends, however: no child inherits it."""
    try:
        family, *_, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as exc:
        place = f"{options.host}:{options.port}"
        raise OutputError(f"cannot listen on {place}: {exc.strerror or exc}; choose another --port or --host") from exc
    return listener
