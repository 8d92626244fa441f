"""One live session on its way out by WebRTC: a thread takes its pairs and makes frames of two tracks of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.audio.frame import AudioFrame
from av.frame import Frame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.video_file import even_sides
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.session import LiveSession
from emo_rt.serve.live_stream import EndSession
from emo_rt.serve.rtc_offer import PACKETS_PER_SECOND

MOST_PICTURES, MOST_SOUNDS = 3, 15
"""Frames that wait for an encoder that is too slow; then the oldest are left out."""


class FeedTrack(MediaStreamTrack):
    """What the feed puts in comes out. For one event loop."""

    def __init__(self, kind: str, most: int) -> None:
        super().__init__()
        self.kind = kind
        self._frames = deque[Frame](maxlen=most)
        self._is_ready = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """One more; where too many wait, the oldest goes."""
        self._frames.append(frame)
        self._is_ready.set()

    async def recv(self) -> Frame:
        """The next one. Raises :class:`MediaStreamError` at the end."""
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._is_ready.clear()
            await self._is_ready.wait()
        return self._frames.popleft()

    def stop(self) -> None:
        """End it. Safe twice."""
        super().stop()
        self._is_ready.set()


class RtcFeed:
    """Owns a thread, and the session from now on. The tracks ``picture`` and ``sound`` are for a peer connection."""

    def __init__(self, session: LiveSession, *, close: EndSession, ended: EndSession, marks: MarkOptions) -> None:
        """``ended``: told, in the event loop, when the session is closed; ``marks``: in the pictures. Make and
        :meth:`start` it in an event loop."""
        self.session, self._close, self._ended = session, close, ended
        self.picture = FeedTrack("video", MOST_PICTURES)
        self.sound = FeedTrack("audio", MOST_SOUNDS)
        self.frames = 0
        """Pictures that were given."""
        self._marker = FrameMarker(marks, session.fps)
        self._blocks = SoundBlocks(session.settings.sample_rate)
        self._loop = asyncio.get_running_loop()
        self._is_gone = threading.Event()
        self._thread = threading.Thread(target=self._work, name="emo_rt serve: webrtc", daemon=True)

    def start(self) -> None:
        """Begin to take pairs."""
        self._thread.start()

    async def close(self) -> None:
        """Wait until the session is closed. Safe twice, before the start, and when it is cancelled."""
        self._is_gone.set()
        if self._thread.ident is None:
            await asyncio.shield(asyncio.to_thread(self._close, None))
        else:
            await asyncio.shield(asyncio.to_thread(self._thread.join))
        self.picture.stop()
        self.sound.stop()

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            for index, pair in enumerate(self.session):
                if self._is_gone.is_set():
                    break
                self._tell(self._give, self._picture(pair, index), list(self._blocks.push(pair.audio)))
        except BaseException as exc:
            logging.getLogger(__name__).debug("a live session ended", exc_info=exc)
            end = exc
        finally:
            self._close(end)
        self._tell(self._ended, end)

    def _picture(self, pair: LivePair, index: int) -> VideoFrame:
        """Marked, in the encoders' own format, with its time: the work is done in this thread, not in the loop."""
        marked = self._marker(pair.frame[np.newaxis], index)[0]
        frame = VideoFrame.from_ndarray(even_sides(marked), "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, self.session.fps)
        return frame

    def _tell(self, told: Callable[..., None], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(told, *args)

    def _give(self, picture: VideoFrame, sounds: list[AudioFrame]) -> None:
        self.picture.put(picture)
        for one in sounds:
            self.sound.put(one)
        self.frames += 1


class SoundBlocks:
    """Sound in pieces of any length → frames of 20 ms: one Opus packet, as aiortc gives all of a frame one time."""

    def __init__(self, rate: int) -> None:
        """``rate``: samples per second, a multiple of 50."""
        self._rate, self._size = rate, rate // PACKETS_PER_SECOND
        self._rest = np.zeros(0, np.float32)
        self._given = 0

    def push(self, audio: NDArray[np.float32]) -> Iterator[AudioFrame]:
        """(n,) in −1 … 1 → the frames that are full by now."""
        waiting = np.concatenate([self._rest, audio])
        whole = len(waiting) // self._size * self._size
        self._rest = waiting[whole:]
        for block in waiting[:whole].reshape(-1, self._size):
            samples = np.clip(np.rint(block * 32_768), -32_768, 32_767).astype(np.int16)
            frame = AudioFrame.from_ndarray(samples[np.newaxis], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._given, Fraction(1, self._rate)
            self._given += self._size
            yield frame
