"""The log: one JSON object a line, with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the present task or thread works for."""
SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
LOGGERS = ("emo_rt", "uvicorn.error")

logger = logging.getLogger("emo_rt.serve")


def request_id(given: str | None) -> str:
    """The caller's own id of a request if it is harmless, else a new one."""
    return given if given is not None and SANE_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"


def event(name: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Log something that happened. ``facts``: plain values."""
    logger.log(level, name, extra={"facts": facts})


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in line.items() if value is not None}, default=str)


@contextmanager
def logging_to_stderr(*, debug: bool = False) -> Iterator[None]:
    """For the time of the server, everything goes to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.handlers, one.propagate = [handler], False
        one.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
