"""What every request passes before a route sees it: host, origin, key, size; and what every answer gets on its way.

A page of a stranger can send forms and open sockets to a server on this machine, whatever CORS says, and can give its
own name the address 127.0.0.1 (DNS rebinding). So names and origins are checked here, for keyless servers above all.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emo_rt.serve.errors import ApiError
from emo_rt.serve.keys import KeyRing
from emo_rt.serve.logs import REQUEST_ID, event, request_id
from emo_rt.serve.settings import MEGABYTE, ServeOptions

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
COUNTED = SAFE | {"POST", "DELETE", "PUT", "PATCH"}
"""Methods with a figure of their own. Callers may invent as many as they like, and each figure stays in memory."""
KEYED = ("/v1/", "/metrics")
"""Beginnings of paths that need a key; health and the page itself need none."""
PROTOCOL = "emo-rt-key."
"""Browsers can give a socket no header but its protocols, so a key may come as one of them."""
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
"""Of every answer."""

Seen = Callable[[str, str, int, float], None]
"""Told of every request: method, route, status, seconds."""


class Guard:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, options: ServeOptions, keys: KeyRing, seen: Seen) -> None:
        self._app, self._options, self._keys, self._seen = app, options, keys, seen
        self._most_bytes = options.limits.max_upload_mb * MEGABYTE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = request_id(headers.get("x-request-id"))
        token = REQUEST_ID.set(name)
        start, answer = time.perf_counter(), _Answer(send, name)
        try:
            self._admit(scope, headers)
            await self._app(scope, self._counted(receive) if scope["type"] == "http" else receive, answer)
        except ApiError as exc:
            await _refuse(scope, receive, answer, exc)
        finally:
            self._note(scope, answer.status, time.perf_counter() - start)
            REQUEST_ID.reset(token)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raise :class:`ApiError` for a request that must not go on; else note whose it is."""
        self._check_host(headers)
        if scope["type"] == "websocket" or scope["method"] not in SAFE:
            self._check_origin(headers)
        key = _presented_key(headers)
        owner = self._keys.owner(key)
        is_preflight = scope.get("method") == "OPTIONS"  # browsers send no key with it, and it tells nothing
        if owner is None and scope["path"].startswith(KEYED) and not is_preflight:
            what = "wrong" if key else "missing"
            raise ApiError(401, "invalid_api_key", f"the API key is {what}; send it as Authorization: Bearer KEY")
        scope.setdefault("state", {})["owner"] = owner or ""
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise self._too_large()

    def _check_host(self, headers: Headers) -> None:
        name = _host_name(headers.get("host", ""))
        if name == "localhost" or name in self._options.hosts or _is_address(name):
            return
        message = f"this server does not answer to the name {name[:80]!r}; start it with --allow-host to let it"
        raise ApiError(400, "host_not_allowed", message)

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:  # no browser, or a browser's GET
            if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise ApiError(400, "origin_not_allowed", "requests from other pages are refused")
            return
        scheme, _, host = origin.lower().partition("://")
        if scheme in ("http", "https") and host == headers.get("host", "").lower():
            return
        if origin.lower() not in self._options.origins:
            message = f"pages of {origin[:80]!r} may not use this server; start it with --allow-origin to let them"
            raise ApiError(400, "origin_not_allowed", message)

    def _counted(self, receive: Receive) -> Receive:
        """Bodies without a length, or with a false one, end here, too."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._most_bytes:
                    raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        most = self._options.limits.max_upload_mb
        return ApiError(413, "too_large", f"the request is too large; {most} MB are allowed")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope.get("method", "WS")
        route = getattr(scope.get("route"), "path", "other")
        counted = method if method in COUNTED or scope["type"] == "websocket" else "other"
        self._seen(counted, route, status, seconds)
        facts: Mapping[str, Any] = {"method": method, "path": scope["path"], "status": status}
        event("request", **facts, ms=round(1000 * seconds), key=scope.get("state", {}).get("owner") or None)


class _Answer:
    """Sends on, with headers of ours."""

    def __init__(self, send: Send, name: str) -> None:
        self._send, self._name = send, name
        self.status = 0
        """0 until there is one."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._name
            for header, value in SECURITY_HEADERS.items():
                headers.setdefault(header, value)
        elif message["type"] == "websocket.accept":
            self.status = 101
        await self._send(message)


async def _refuse(scope: Scope, receive: Receive, answer: _Answer, exc: ApiError) -> None:
    """In plain ASGI: this is outside of the application."""
    if answer.status:
        raise exc
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await answer({"type": "websocket.close", "code": 1008, "reason": exc.code})
            return
        kind = "websocket.http.response"
        await receive()
        answer.status = exc.status
    body = json.dumps(exc.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **exc.headers}
    if scope["type"] == "http":
        headers["connection"] = "close"  # what is left of the body is not read
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await answer({"type": f"{kind}.start", "status": exc.status, "headers": pairs})
    await answer({"type": f"{kind}.body", "body": body})


def _presented_key(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    offered = (one.strip() for one in headers.get("sec-websocket-protocol", "").split(","))
    return next((one.removeprefix(PROTOCOL) for one in offered if one.startswith(PROTOCOL)), None)


def _host_name(host: str) -> str:
    """``[::1]:8000`` → ``::1``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    """No name, so no name server can make it lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
