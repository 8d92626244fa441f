"""A live session over WebRTC: the same face, two tracks out, a microphone and a data channel in.

The data channel speaks the WebSocket's dialect, from ``video.start`` on. Signalling is WHEP's: one offer, one answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import SessionDescription

from emo_rt.errors import ClosedError, EmoRtError, QueueFull
from emo_rt.media.audio import Resampler
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
from emo_rt.serve.live_start import LiveStart, read_message
from emo_rt.serve.logs import REQUEST_ID, event
from emo_rt.serve.records import new_id
from emo_rt.serve.rtc_feed import RtcFeed
from emo_rt.serve.service import Service

CONNECT_S = 20.0
"""Seconds for the peer to connect behind the answer."""
LOOK_S = 1.0
"""Seconds between two looks whether a session stalls."""
GOODBYE_S = 1.0
"""Seconds that the last messages get to go out."""
MOST_CANDIDATES, MOST_MEDIA = 64, 8
"""Of an offer: to each address that it names go some packets."""
MICROPHONE_RATE = 48_000
"""Samples per second of decoded Opus."""


class RtcConnection:
    """One peer. :meth:`open` it; it ends by itself, and is then taken out of ``calls``."""

    def __init__(self, service: Service, owner: str, calls: dict[str, RtcConnection]) -> None:
        self.id, self.owner = new_id("call"), owner
        self._service, self._calls = service, calls
        self._exits = AsyncExitStack()
        # No servers: nobody outside is told that there is a session, and none is asked for an address.
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._feed: RtcFeed | None = None
        self._channel: RTCDataChannel | None = None
        self._is_over = asyncio.Event()
        self._is_connected = asyncio.Event()
        self._is_restarting = False
        self._error: dict[str, Any] | None = None
        self._request_id = REQUEST_ID.get()
        self._tasks = set[asyncio.Task[Any]]()

    def restart(self) -> None:
        """The server ends: say so, and end in order."""
        self._is_restarting = True
        self.stop()

    def stop(self) -> None:
        """End in order, soon."""
        self._is_over.set()

    async def open(self, start: LiveStart, offer: str) -> str:
        """The answer to an offer. Raises :class:`ApiError`, :class:`EmoRtError`; nothing is left of it then."""
        self._service.live.add(self)  # now: the server may end while a face is prepared
        try:
            self._exits.callback(self._service.live.discard, self)
            self._exits.callback(self._cancel_tasks)
            self._exits.push_async_callback(self._peer.close)
            self._exits.enter_context(self._service.quotas.session(self.owner))
            await self._understand(offer)  # before the session: most that can be wrong costs nothing then
            opened = await open_session(self._service, start, self.owner)
            close = partial(opened.close, self._service)
            self._feed = feed = RtcFeed(opened.session, close=close, marks=self._service.options.marks)
            self._exits.push_async_callback(feed.close)
            answer = await self._agree(feed)
        except BaseException:
            await asyncio.shield(self._exits.aclose())
            raise
        feed.start()
        self._calls[self.id] = self
        self._begin(self._run(feed))
        return answer

    # Agreement

    async def _understand(self, offer: str) -> None:
        self._peer.on("datachannel", self._take_channel)
        self._peer.on("track", self._take_microphone)
        self._peer.on("connectionstatechange", self._note_state)
        if "audio" in media_of(offer):
            sound = self._peer.addTransceiver("audio")
            sound.setCodecPreferences(_opus())  # one decoder of foreign sound is enough
        with _sdp_errors():
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))

    async def _agree(self, feed: RtcFeed) -> str:
        tracks: dict[str, MediaStreamTrack] = {"video": feed.picture, "audio": feed.sound}
        with _sdp_errors():
            for one in self._peer.getTransceivers():
                track = tracks.pop(one.kind, None)
                if track is not None:
                    one.sender.replaceTrack(track)
                # Pictures of the peer are not wanted, so nothing of them is ever decoded.
                one.direction = "inactive" if track is None else "sendonly" if one.kind == "video" else "sendrecv"
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        return str(self._peer.localDescription.sdp)

    def _note_state(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self._is_connected.set()
        elif state in ("failed", "closed"):
            self._is_over.set()

    # Life

    async def _run(self, feed: RtcFeed) -> None:
        """Until the session is over. Never raises."""
        try:
            await self._until_over(feed)
        except ApiError as exc:
            self._error = error_message(exc.code, str(exc))
        except EmoRtError as exc:
            self._service.note_error(exc)
            self._error = error_message(refusal(exc).code, str(exc))
        except Exception:
            logging.getLogger(__name__).exception("a live session failed in an unexpected way")
            self._error = error_message("internal_error", "the session failed")
        finally:
            await self._finish(feed)

    async def _until_over(self, feed: RtcFeed) -> None:
        over = self._begin(self._is_over.wait())
        loop = asyncio.get_running_loop()
        begun = moved = loop.time()
        seen = 0
        while not over.done():
            await asyncio.wait((over, feed.ended), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if feed.ended.done():
                feed.ended.result()
                return
            now = loop.time()
            if not self._is_connected.is_set() and now > begun + CONNECT_S:
                raise ApiError(408, "start_timeout", f"no connection within {CONNECT_S:g} s")
            if feed.frames > seen:
                seen, moved = feed.frames, now
            elif now > moved + STALL_S:
                raise stalled()

    async def _finish(self, feed: RtcFeed) -> None:
        try:
            if self._is_restarting:
                self._error = restarting_message()
            if self._error is not None:
                self._say(self._error)
            self._say({"type": "session.done", "num_frames": feed.frames, **stats_of(feed.session)})
            await self._flush()
            self._service.metrics.note_live_end(feed.session.stats)
        finally:  # also where this task is cancelled
            self._calls.pop(self.id, None)
            await asyncio.shield(self._exits.aclose())
            event("live session ended", call=self.id, key=self.owner or None)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    # What is heard

    def _take_microphone(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._begin(self._hear(track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        """Push a microphone, until the peer takes it away. What there is no room for is left out."""
        resampler: Resampler | None = None
        with suppress(MediaStreamError, ClosedError):
            while True:
                frame: Any = await track.recv()
                if self._feed is None:
                    continue
                session = self._feed.session
                mono = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(axis=1).astype(np.int16)
                if session.settings.sample_rate != MICROPHONE_RATE:
                    resampler = resampler or Resampler(MICROPHONE_RATE, session.settings.sample_rate)
                    mono = resampler.push(mono)
                with suppress(QueueFull):
                    session.push(mono)

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._take_message)
        if self._feed is not None:
            config = config_of(self._feed.session)
            self._say({"type": "video.start", "request_id": self._request_id, "format": "webrtc", "config": config})

    def _take_message(self, message: str | bytes) -> None:
        if self._feed is None or self._is_over.is_set():
            return
        try:
            answer = self._answer(self._feed, message)
        except ApiError as exc:
            self._error = error_message(exc.code, str(exc))
            self._is_over.set()
        except EmoRtError:  # what has ended the session is told by the feed
            self._is_over.set()
        else:
            if answer is not None:
                self._say(answer)

    def _answer(self, feed: RtcFeed, message: str | bytes) -> dict[str, Any] | None:
        if isinstance(message, bytes):
            return push_sound(feed.session, message)
        said = read_message(message, CONTROL_BYTES)
        if said["type"] == STOP:
            self._is_over.set()
            return None
        return obey(feed.session, said)

    # What is said

    def _say(self, message: dict[str, Any]) -> None:
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps(message))

    async def _flush(self) -> None:
        for _ in range(round(GOODBYE_S / 0.02)):
            if self._channel is None or self._channel.readyState != "open" or not self._channel.bufferedAmount:
                return
            await asyncio.sleep(0.02)


def media_of(offer: str) -> list[str]:
    """Kinds of the media. Raises :class:`ApiError` for an offer that cannot become a session."""
    with _sdp_errors():
        media = SessionDescription.parse(offer).media
    if sum(len(one.ice_candidates) for one in media) > MOST_CANDIDATES or len(media) > MOST_MEDIA:
        raise ApiError(400, "invalid_sdp", "sdp has too many media or candidates", param="sdp")
    if not all(one.ice and one.ice.usernameFragment and one.dtls and one.dtls.fingerprints for one in media):
        raise ApiError(400, "invalid_sdp", "sdp has a medium without ice-ufrag or fingerprint", param="sdp")
    if not any(one.kind == "video" and one.direction in (None, "recvonly", "sendrecv") for one in media):
        raise ApiError(400, "invalid_sdp", "sdp does not ask for video; add a transceiver for it", param="sdp")
    return [one.kind for one in media]


@contextmanager
def _sdp_errors() -> Iterator[None]:
    """The parser, and what works with its results, raise many kinds."""
    try:
        yield
    except Exception as exc:
        raise ApiError(400, "invalid_sdp", "sdp is no offer that can be answered", param="sdp") from exc


def _opus() -> list[Any]:
    codecs = RTCRtpReceiver.getCapabilities("audio").codecs
    return [one for one in codecs if one.mimeType.lower() == "audio/opus"]
