"""What a caller is told when something is refused, in the form that clients of the videos API read."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from emo_rt.errors import (
    AudioError,
    BackendError,
    ConfigError,
    DeviceLostError,
    EmoRtError,
    FaceNotFoundError,
    InputError,
    OutputError,
    OverloadedError,
    PortraitError,
)

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_busy"}
"""``type`` of an error by status; others below 500 are ``invalid_request_error``."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""System errors that say that there is no room on the disk."""
DISK_FULL = "disk_full"
"""``code`` of an error."""


class ApiError(Exception):
    """A refusal: a status of HTTP, and what is said."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def __reduce__(self) -> tuple[Any, ...]:
        """It may cross processes."""
        wait = self.headers.get("Retry-After")
        made = partial(type(self), param=self.param, retry_after_s=None if wait is None else int(wait))
        return made, (self.status, self.code, str(self))

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        return error_body(self.status, self.code, str(self), self.param)


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The JSON of every error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


CODES: dict[type[EmoRtError], str] = {
    FaceNotFoundError: "face_not_found",
    PortraitError: "invalid_image",
    AudioError: "invalid_audio",
    ConfigError: "invalid_option",
    InputError: "invalid_input",
    OverloadedError: "overloaded",
    DeviceLostError: "device_lost",
    BackendError: "device_error",
    OutputError: "output_error",
}
"""``code`` by error, the narrower before the wider."""


def code_of(exc: BaseException) -> str:
    """``code`` of an error of ours; ``internal_error`` for others."""
    if is_full(exc):
        return DISK_FULL
    return next((code for kind, code in CODES.items() if isinstance(exc, kind)), "internal_error")


def refusal(exc: EmoRtError, param: str | None = None) -> ApiError:
    """What a caller is told of an error of ours."""
    if isinstance(exc, ConfigError | InputError):
        return ApiError(400, code_of(exc), str(exc), param=param)
    if isinstance(exc, OverloadedError):
        return ApiError(429, code_of(exc), str(exc), retry_after_s=10)
    return ApiError(503, code_of(exc), str(exc), retry_after_s=10)


def is_full(exc: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that the disk is full."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in FULL:
            return True
        if isinstance(exc, sqlite3.Error) and getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        exc = exc.__cause__
    return False


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Say 503 where the disk is full."""
    try:
        yield
    except (OSError, sqlite3.Error) as exc:
        if not is_full(exc):
            raise
        message = "the server's disk is full; nothing was kept, try again later"
        raise ApiError(503, DISK_FULL, message, retry_after_s=60) from exc
