"""Which errors go away by themselves, and which concern every row."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from emo_rt.errors import BackendError, BackendUnavailableError

FULL = {errno.ENOSPC, errno.EFBIG, errno.EROFS, *({errno.EDQUOT} if hasattr(errno, "EDQUOT") else ())}
"""There is no room: the disk is full, a quota or the largest size of a file is reached, or all is read-only."""
PASSING = {
    getattr(errno, name)
    for name in ("EIO", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED",
                 "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO", "ENOMEM")
    if hasattr(errno, name)
}  # fmt: skip
"""What network file systems and short memory give, and do not give again."""


def is_storage_full(error: BaseException) -> bool:
    """Whether there was no room for the output. Then every other row would fail in the same way."""
    return any(number in FULL for number in _numbers(error))


def is_transient(error: BaseException) -> bool:
    """Whether the same row may succeed a moment later: the device failed, the network, or memory was short."""
    if isinstance(error, BackendError):
        return not isinstance(error, BackendUnavailableError)
    return isinstance(error, MemoryError) or any(number in PASSING for number in _numbers(error))


def _numbers(error: BaseException) -> Iterator[int]:
    """The system's numbers of an error and of what it came from."""
    at: BaseException | None = error
    while at is not None:
        number = getattr(at, "errno", None)
        if isinstance(number, int):
            yield number
        at = at.__cause__ or at.__context__
