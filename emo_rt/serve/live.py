"""``WS /v1/realtime/video``: speech in as PCM, a talking face out as fragmented MP4.

The dialect is vLLM-Omni's (``session.start``, ``video.chunk_metadata`` before each binary message, ``session.done``),
with sound: binary messages of the client are PCM s16le mono; ``input_audio.end`` ends an utterance, and
``input_audio.clear`` interrupts it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from emo_rt.errors import ClosedError, EmoRtError
from emo_rt.serve.errors import ApiError, refusal
from emo_rt.serve.live_dialect import (
    CONTROL_BYTES,
    STALL_S,
    STOP,
    config_of,
    error_message,
    obey,
    push_sound,
    restarting_message,
    stalled,
    stats_of,
)
from emo_rt.serve.live_opening import open_session
from emo_rt.serve.live_start import START_BYTES, read_message, read_start
from emo_rt.serve.live_stream import LiveStream, Piece
from emo_rt.serve.logs import REQUEST_ID, event
from emo_rt.serve.service import Service

START_S = 10.0
"""Seconds for the first message."""
STATS_EVERY = 25
"""Fragments between two ``session.stats``."""
OK, REFUSED, RESTARTING, FAILED = 1000, 1008, 1012, 1011
"""Codes of closing (RFC 6455, 7.4.1, and the registry of IANA)."""


class LiveConnection:
    """One socket."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self._owner: str = socket.scope["state"]["owner"]
        self._is_stopping = asyncio.Event()
        self._is_restarting = self._has_left = False
        self._stream: LiveStream | None = None

    def restart(self) -> None:
        """The server ends: say so, and end in order."""
        self._is_restarting = True
        self._is_stopping.set()

    async def run(self) -> None:
        """Until the session is over. Never raises."""
        await self._socket.accept(subprotocol=self._protocol())
        code = OK
        self._service.live.add(self)
        try:
            await self._talk()
            code = RESTARTING if self._is_restarting else OK
        except WebSocketDisconnect:
            self._has_left = True
            event("live session left", key=self._owner or None)
        except ApiError as exc:
            code = REFUSED if exc.status < 500 else RESTARTING
            await self._say_error(exc.code, str(exc))
        except EmoRtError as exc:
            self._service.note_error(exc)
            code = FAILED
            await self._say_error(refusal(exc).code, str(exc))
        except Exception:
            logging.getLogger(__name__).exception("a live session failed in an unexpected way")
            code = FAILED
            await self._say_error("internal_error", "the session failed")
        finally:
            await self._finish(code)

    async def _finish(self, code: int) -> None:
        try:
            if self._stream is not None:
                self._service.metrics.note_live_end(self._stream.session.stats)
                await self._stream.close()
            if not self._has_left and self._socket.application_state is WebSocketState.CONNECTED:
                with suppress(RuntimeError, WebSocketDisconnect, TimeoutError, OSError):
                    await asyncio.wait_for(self._socket.close(code), STALL_S)
        finally:  # also where this task is cancelled
            self._service.live.discard(self)

    async def _talk(self) -> None:
        try:
            message = await asyncio.wait_for(self._socket.receive(), START_S)
        except TimeoutError:
            raise ApiError(408, "start_timeout", f"no session.start within {START_S:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if message.get("text") is None:
            raise ApiError(400, "not_started", "the first message is not session.start")
        start = read_start(read_message(message["text"], START_BYTES))
        with self._service.quotas.session(self._owner):
            opened = await open_session(self._service, start, self._owner)
            close = partial(opened.close, self._service)
            self._stream = stream = LiveStream(
                opened.session, fragment_frames=start.fragment_frames, close=close, marks=self._service.options.marks
            )
            await self._say(self._start_message(stream, start.fragment_frames))
            await self._both_ways(stream)
            await self._say(self._done_message(stream))

    async def _both_ways(self, stream: LiveStream) -> None:
        """Hear and send at the same time, until the session is stopped or the client goes."""
        hearing = asyncio.create_task(self._hear(stream))
        sending = asyncio.create_task(self._send_all(stream))
        stopping = asyncio.create_task(self._is_stopping.wait())
        tasks = (hearing, sending, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if self._is_restarting:
                await self._say(restarting_message())
            await stream.session.aclose()  # what is made comes out, and the end of the file
            await sending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, stream: LiveStream) -> None:
        """Messages of the client, until it stops or goes."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            if message.get("bytes") is not None:
                await self._push(stream, message["bytes"])
            elif await self._obey(stream, read_message(message["text"], CONTROL_BYTES)):
                return

    async def _push(self, stream: LiveStream, data: bytes) -> None:
        answer = push_sound(stream.session, data)
        if answer is not None:
            await self._say(answer)

    async def _obey(self, stream: LiveStream, message: dict[str, Any]) -> bool:
        """One message. Returns whether it ends the session."""
        if message["type"] == STOP:
            return True
        answer = obey(stream.session, message)
        if answer is not None:
            await self._say(answer)
        return False

    async def _send_all(self, stream: LiveStream) -> None:
        index = 0
        pieces = aiter(stream)
        while True:
            try:
                piece = await asyncio.wait_for(anext(pieces), STALL_S)
            except StopAsyncIteration:
                return
            except ClosedError:
                return
            except TimeoutError:
                raise stalled() from None
            await self._say(self._metadata(piece, index))
            await self._within(self._socket.send_bytes(piece.fragment.data))
            index += 1
            if index % STATS_EVERY == 0:
                await self._say({"type": "session.stats", **stats_of(stream.session)})

    # What is said

    def _start_message(self, stream: LiveStream, fragment_frames: int) -> dict[str, Any]:
        config = {**config_of(stream.session), "fragment_frames": fragment_frames}
        return {"type": "video.start", "request_id": REQUEST_ID.get(), "format": "m4s", "config": config}

    def _metadata(self, piece: Piece, index: int) -> dict[str, Any]:
        fragment = piece.fragment
        return {
            "type": "video.chunk_metadata",
            "kind": "trailer" if fragment.is_trailer else "media",
            "num_frames": fragment.frames,
            "byte_length": len(fragment.data),
            "transport_chunk_index": index,
            "start_s": round(piece.start_s, 4),
            "speaking": piece.is_speaking,
            "utterance": piece.utterance,
        }

    def _done_message(self, stream: LiveStream) -> dict[str, Any]:
        return {"type": "session.done", "num_frames": stream.frames, **stats_of(stream.session)}

    async def _say_error(self, code: str, message: str) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        with suppress(RuntimeError, WebSocketDisconnect, OSError, ApiError):
            await self._say(error_message(code, message))

    async def _say(self, message: dict[str, Any]) -> None:
        await self._within(self._socket.send_text(json.dumps(message)))

    async def _within(self, sending: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(sending, STALL_S)
        except TimeoutError:
            raise WebSocketDisconnect from None  # the viewer takes nothing: there is nobody to tell

    def _protocol(self) -> str | None:
        """Browsers want one of those that they have offered; never the one that holds the key."""
        offered = self._socket.scope.get("subprotocols", [])
        return "emo-rt" if "emo-rt" in offered else None
