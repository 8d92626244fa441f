"""A live session over WebRTC: the same face, two tracks out, a microphone and a data channel in.

The data channel speaks the WebSocket's dialect, from ``video.start`` on. Signalling is WHEP's: one offer, one answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import numpy as np
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from emo_rt.errors import ClosedError, EmoRtError, QueueFull
from emo_rt.media.audio import Resampler
from emo_rt.runtime.live.session import LiveSession
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
from emo_rt.serve.rtc_inbox import RtcInbox, largest_message
from emo_rt.serve.rtc_sdp import Offer, read_offer, sdp_errors
from emo_rt.serve.service import Service

# No servers: nobody outside is told that there is a session, and none is asked for an address. With another policy
# aiortc loses the second of two media of a kind when it bundles them.
CONFIGURATION = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_COMPAT)
CONNECT_S = 20.0
"""Seconds for the peer to connect behind the answer."""
LOOK_S = 1.0
"""Seconds between two looks whether a session stalls."""
CLOSE_S = 5.0
"""Seconds for aiortc to close a connection."""
GOODBYE_S = 1.0
"""Seconds that the last messages get to go out."""
MOST_UNTAKEN = 1 << 20
"""Bytes of messages that wait for a peer. One which takes none is gone."""
MICROPHONE_RATE = 48_000
"""Samples per second of decoded Opus."""


class RtcConnection:
    """One peer. :meth:`open` it; it ends by itself, and is then taken out of ``calls``."""

    def __init__(self, service: Service, owner: str, calls: dict[str, RtcConnection]) -> None:
        self.id, self.owner = new_id("call"), owner
        self._service, self._calls = service, calls
        self._exits = AsyncExitStack()
        self._peer = RTCPeerConnection(CONFIGURATION)
        self._feed: RtcFeed | None = None
        self._channel: RTCDataChannel | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        self._is_connected = asyncio.Event()
        self._is_restarting = False
        self._error: dict[str, Any] | None = None
        self._request_id = REQUEST_ID.get()
        self._life: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._gathering: asyncio.Future[None] | None = None

    def restart(self) -> None:
        """The server ends: say so, and end in order."""
        self._is_restarting = True
        self.stop()

    def stop(self, reason: BaseException | None = None) -> None:
        """End in order, soon. ``reason``: the error that ends it, if one does. The first call counts."""
        if self._over.done():
            return
        if reason is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(reason)

    async def open(self, start: LiveStart, sdp: str) -> str:
        """The answer to an offer. Raises :class:`ApiError`, :class:`EmoRtError`; nothing is left of it then."""
        self._service.live.add(self)  # now: the server may end while a face is prepared
        try:
            self._exits.callback(self._service.live.discard, self)
            self._exits.callback(self._stop_hearing)
            self._exits.push_async_callback(self._close_peer)
            self._exits.enter_context(self._service.quotas.session(self.owner))
            offer = read_offer(sdp)
            await self._understand(offer)  # before the session: most that can be wrong costs nothing then
            opened = await open_session(self._service, start, self.owner)
            close = partial(opened.close, self._service)
            marks = self._service.options.marks
            self._feed = feed = RtcFeed(opened.session, close=close, ended=self.stop, marks=marks)
            self._exits.push_async_callback(feed.close)
            answer = await self._agree(offer, feed)
        except BaseException:
            await asyncio.shield(self._exits.aclose())
            raise
        feed.start()
        self._calls[self.id] = self
        self._life = asyncio.create_task(self._run(feed))
        return answer

    # Agreement

    async def _understand(self, offer: Offer) -> None:
        self._peer.on("datachannel", self._take_channel)
        self._peer.on("connectionstatechange", self._note_state)
        for _ in range(offer.sounds):
            self._peer.addTransceiver("audio").setCodecPreferences(_opus())  # one decoder of foreign sound is enough
        with sdp_errors():
            await self._peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        if self._peer.sctp is not None:
            RtcInbox(self._peer.sctp, self.stop)

    async def _agree(self, offer: Offer, feed: RtcFeed) -> str:
        tracks: dict[str | None, MediaStreamTrack] = {offer.picture: feed.picture, offer.loudspeaker: feed.sound}
        with sdp_errors():
            for one in self._peer.getTransceivers():
                one.direction = offer.direction(one.mid)  # whatever else the peer would send is never decoded
                if one.mid in tracks:
                    one.sender.replaceTrack(tracks[one.mid])
                if one.mid == offer.microphone:
                    self._hearing = asyncio.create_task(self._hear(feed.session, one.receiver.track))
            answer = await self._peer.createAnswer()
            self._gathering = asyncio.ensure_future(self._peer.setLocalDescription(answer))
            await asyncio.shield(self._gathering)
        return str(self._peer.localDescription.sdp)

    def _note_state(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self._is_connected.set()
        elif state in ("failed", "closed"):
            self.stop()

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
        loop = asyncio.get_running_loop()
        begun = moved = loop.time()
        seen = 0
        while True:
            over, _ = await asyncio.wait((self._over,), timeout=LOOK_S)
            if over:
                self._over.result()
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

    async def _close_peer(self) -> None:
        """Not while addresses are gathered: aioice forgets the sockets that it has opened by then."""
        if self._gathering is not None:
            await asyncio.wait((self._gathering,), timeout=CLOSE_S)
        try:
            await asyncio.wait_for(self._peer.close(), CLOSE_S)
        except TimeoutError:  # a task of aiortc has begun it and was cancelled, as at the end of the loop
            await self._close_transports()

    async def _close_transports(self) -> None:
        used = {one.receiver.transport for one in self._peer.getTransceivers()}
        if self._peer.sctp is not None:
            used.add(self._peer.sctp.transport)
        for dtls in used:
            for transport in (dtls, dtls.transport):
                with suppress(TimeoutError):
                    await asyncio.wait_for(transport.stop(), CLOSE_S)

    def _stop_hearing(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()

    # What is heard

    async def _hear(self, session: LiveSession, track: MediaStreamTrack) -> None:
        """Push a microphone, until the peer takes it away. What there is no room for is left out."""
        rate = session.settings.sample_rate
        resampler = None if rate == MICROPHONE_RATE else Resampler(MICROPHONE_RATE, rate)
        try:
            while True:
                frame: Any = await track.recv()
                mono = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(axis=1).astype(np.int16)
                with suppress(QueueFull):
                    session.push(mono if resampler is None else resampler.push(mono))
        except (MediaStreamError, ClosedError):
            return
        except Exception as exc:  # noqa: BLE001 - a task that nobody waits for
            self.stop(exc)

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._take_message)
        if self._feed is not None:
            config = config_of(self._feed.session)
            self._say({"type": "video.start", "request_id": self._request_id, "format": "webrtc", "config": config})

    def _take_message(self, message: str | bytes) -> None:
        if self._feed is None or self._over.done():
            return
        try:
            answer = self._answer(self._feed, message)
        except ClosedError:
            self.stop()
        except Exception as exc:  # noqa: BLE001 - it would end aiortc's own task
            self.stop(exc)
        else:
            if answer is not None:
                self._say(answer)

    def _answer(self, feed: RtcFeed, message: str | bytes) -> dict[str, Any] | None:
        if len(message) > largest_message():
            raise ApiError(413, "message_too_large", f"a message has at most {largest_message():,} bytes")
        if isinstance(message, bytes):
            return push_sound(feed.session, message)
        said = read_message(message, CONTROL_BYTES)
        if said["type"] == STOP:
            self.stop()
            return None
        return obey(feed.session, said)

    # What is said

    def _say(self, message: dict[str, Any]) -> None:
        if self._channel is None or self._channel.readyState != "open":
            return
        if self._channel.bufferedAmount > MOST_UNTAKEN:
            self.stop()
        else:
            self._channel.send(json.dumps(message))

    async def _flush(self) -> None:
        for _ in range(round(GOODBYE_S / 0.02)):
            if self._channel is None or self._channel.readyState != "open" or not self._channel.bufferedAmount:
                return
            await asyncio.sleep(0.02)


def _opus() -> list[Any]:
    codecs = RTCRtpReceiver.getCapabilities("audio").codecs
    return [one for one in codecs if one.mimeType.lower() == "audio/opus"]
