"""What a peer may leave unfinished in its data channels.

aiortc has no bound of its own and no public way to set one, so this goes by its inner names; `make integrations` tells
when they change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiortc import RTCSctpTransport

from emo_rt.serve.errors import ApiError

MOST_BYTES = 1 << 20
"""Of messages that are not complete: the window that aiortc announces."""
MOST_FRAGMENTS = 2_048
"""Of these messages, and behind a gap. A full window has 900; aiortc goes through all of them for each new one."""
MOST_STREAMS = 16
"""One data channel is heeded."""
TAKES = ("_receive_data_chunk", "_receive_forward_tsn_chunk")
"""Methods that take what a peer sends, and keep some of it."""


def largest_message() -> int:
    """Bytes, as the answer to an offer says."""
    return int(RTCSctpTransport.getCapabilities().maxMessageSize)


class RtcInbox:
    """Bounds one transport that has taken nothing yet. ``exceeded`` is told the reason once; from then on nothing is
    kept of what comes."""

    def __init__(self, sctp: Any, exceeded: Callable[[ApiError], None]) -> None:
        self._sctp, self._exceeded = sctp, exceeded
        self._window: int = sctp._advertised_rwnd
        self._is_over = False
        for name in TAKES:
            setattr(sctp, name, partial(self._take, getattr(sctp, name)))

    async def _take(self, take: Callable[[Any], Awaitable[None]], chunk: Any) -> None:
        if self._is_over:
            return
        await take(chunk)
        if self._has_too_much():
            self._is_over = True
            message = f"too much of what was sent is incomplete; a message has at most {largest_message():,} bytes"
            self._exceeded(ApiError(413, "message_too_large", message))

    def _has_too_much(self) -> bool:
        streams = self._sctp._inbound_streams
        if len(streams) > MOST_STREAMS or self._window - self._sctp._advertised_rwnd > MOST_BYTES:
            return True
        waiting = sum(len(one.reassembly) for one in streams.values())
        return max(waiting, len(self._sctp._sack_misordered)) > MOST_FRAGMENTS
